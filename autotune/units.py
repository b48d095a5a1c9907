"""Seconds, bytes, shares and rates: text at the door, plain numbers inside."""

from __future__ import annotations

import math
import re

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_QUANTITY = re.compile(rf"\s*{_NUMBER}\s*([^\s\d]+)\s*")
_THOUSANDS = {"": 1.0, "k": 1e3, "M": 1e6}
_RATE = re.compile(rf"\s*{_NUMBER}\s*([kM]?)\s*(rows|requests)?\s*/\s*(s|min|h)\s*")


def _parse(text: str, units: dict[str, float], what: str, example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    unit = match[2] if match else None
    if match is None or unit not in units:
        known = ", ".join(units)
        raise ValueError(
            f"{text!r} is not a {what}: expected a number and one of {known}, {example}."
        )
    value = float(match[1]) * units[unit]
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"A {what} must be positive and finite, {example}, but got {text!r}.")
    return value


def parse_seconds(text: str) -> float:
    """Read a time, such as "20ms", in seconds.

    Example:
        >>> parse_seconds("20ms"), parse_seconds("1.5 min")
        (0.02, 90.0)

    Raises:
        ValueError: `text` is not a positive number with a unit of time.
    """
    return _parse(text, _SECONDS, "time", 'such as "20ms"')


def parse_bytes(text: str) -> int:
    """Read an amount of memory, such as "6GiB" or "500MB", in bytes.

    Example:
        >>> parse_bytes("6GiB"), parse_bytes("500 MB")
        (6442450944, 500000000)

    Raises:
        ValueError: `text` is not a positive number with a unit of memory.
    """
    amount = round(_parse(text, dict(_BYTES), "memory size", 'such as "6GiB"'))
    if amount < 1:
        raise ValueError(f"A memory size must be at least one byte, but got {text!r}.")
    return amount


def parse_share(text: str) -> float:
    """Read a share, such as "95%" or "0.95".

    Example:
        >>> parse_share("95%"), parse_share("0.95")
        (0.95, 0.95)

    Raises:
        ValueError: `text` is neither.
    """
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        return float(number) / (100 if percent else 1)
    except ValueError:
        raise ValueError(f'{text!r} is not a share, such as "95%" or "0.95".') from None


def parse_rate(text: str, rows_per_request: int = 1) -> float:
    """Read a rate, such as "1000000/s" or "5k/min", in requests a second.

    A rate in rows, such as "2000 rows/s", is one of as many requests as they make.

    Example:
        >>> parse_rate("5k/s"), parse_rate("90 requests/min"), parse_rate("2000 rows/s", 4)
        (5000.0, 1.5, 500.0)

    Raises:
        ValueError: `text` is not a positive number of requests or rows in a unit of time.
    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a rate: expected a number (with k or M, if need be) in a second, "
            'minute or hour, such as "1000/s", "5k/min" or "2000 rows/s".'
        )
    number, scale, what, unit = match.groups()
    value = float(number) * _THOUSANDS[scale] / _SECONDS[unit]
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f'A rate must be positive and finite, such as "5k/s", but got {text!r}.')
    return value / rows_per_request if what == "rows" else value


def format_seconds(seconds: float) -> str:
    """Write a time with three digits and the unit that suits it.

    Example:
        >>> format_seconds(0.00213), format_seconds(75), format_seconds(0), format_seconds(18_857)
        ('2.13 ms', '75.0 s', '0 s', '5.24 h')
    """
    if seconds == 0:
        return "0 s"
    units = (7200, 3600, "h"), (600, 60, "min"), (1, 1, "s"), (1e-3, 1e-3, "ms"), (1e-6, 1e-6, "us")
    for least, scale, unit in units:
        if seconds >= least:
            return f"{_three_digits(seconds / scale)} {unit}"
    return f"{_three_digits(seconds / 1e-9)} ns"


def format_bytes(amount: float) -> str:
    """Write an amount of memory in binary units.

    Example:
        >>> format_bytes(6442450944), format_bytes(512), format_bytes(1500000)
        ('6.00 GiB', '512 B', '1.43 MiB')
    """
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if amount >= scale:
            return f"{_three_digits(amount / scale)} {unit}"
    return f"{amount:.0f} B"


def format_rate(per_s: float, what: str = "rows") -> str:
    """Write a number of rows, or of something else, per second.

    Example:
        >>> format_rate(1234567.8), format_rate(22.34)
        ('1,230,000 rows/s', '22.3 rows/s')
    """
    if per_s >= 100:
        digits = max(0, math.floor(math.log10(per_s)) - 2)
        return f"{round(per_s, -digits):,.0f} {what}/s"
    return f"{_three_digits(per_s)} {what}/s"


def _three_digits(value: float) -> str:
    """Three significant digits without an exponent."""
    decimals = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:.{decimals}f}"


def format_share(value: float) -> str:
    """Write a share as a percentage, with the digits that it has.

    Example:
        >>> format_share(0.95), format_share(0.999), format_share(0.07)
        ('95%', '99.9%', '7%')
    """
    return f"{100 * value:.6g}%"
