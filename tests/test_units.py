"""Units: text at the door, plain numbers inside."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autotune.units import (
    format_bytes,
    format_rate,
    format_seconds,
    parse_bytes,
    parse_rate,
    parse_seconds,
    parse_share,
)

SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600}
BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
THREE_DIGITS = 0.005


@given(st.floats(1e-9, 1e9), st.sampled_from(sorted(SECONDS)), st.sampled_from(["", " ", "  "]))
def test_any_number_with_a_unit_is_a_time(number: float, unit: str, space: str) -> None:
    """A positive number, space or none, and a unit are that many seconds."""
    assert parse_seconds(f"{space}{number!r}{space}{unit}{space}") == number * SECONDS[unit]


@given(st.integers(1, 10**6), st.sampled_from(sorted(BYTES)))
def test_any_number_with_a_unit_is_an_amount_of_memory(number: int, unit: str) -> None:
    """Binary units are powers of 1024, decimal ones powers of 1000."""
    assert parse_bytes(f"{number}{unit}") == number * BYTES[unit]


@given(st.floats(1e-9, 1e6))
@example(1234.0)
def test_a_time_that_is_shown_can_be_given_back(seconds: float) -> None:
    """A shown time reads back as itself, to three digits."""
    assert parse_seconds(format_seconds(seconds)) == pytest.approx(seconds, rel=THREE_DIGITS)


@given(st.integers(1, 2**50))
@example(1010 * 2**10)
@example(1152)
def test_memory_that_is_shown_can_be_given_back(amount: int) -> None:
    """A shown amount of memory reads back as itself, to three digits."""
    assert parse_bytes(format_bytes(amount)) == pytest.approx(amount, rel=THREE_DIGITS)


@given(st.floats(1e-3, 1e12))
def test_a_rate_is_shown_to_three_digits(rows_per_s: float) -> None:
    """Rows per second lose nothing that counts when they are shown."""
    number, unit = format_rate(rows_per_s).split(" ")
    assert unit == "rows/s"
    assert float(number.replace(",", "")) == pytest.approx(rows_per_s, rel=THREE_DIGITS)


@pytest.mark.parametrize("text", ["", "20", "ms", "20 parsecs", "20msms", "twenty ms", "1,5s"])
def test_a_time_needs_a_number_and_a_unit(text: str) -> None:
    """Text that is no time is refused with the units that are known."""
    with pytest.raises(ValueError, match="not a time: expected a number and one of ns, us"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["0ms", "-5ms", "1e400s"])
def test_a_time_is_positive_and_finite(text: str) -> None:
    """Zero, negative and endless times are refused, with the text received."""
    with pytest.raises(ValueError, match=f"positive and finite.*'{text}'"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["", "6", "6 gib", "6GiBs", "GiB"])
def test_memory_needs_a_number_and_a_unit(text: str) -> None:
    """Text that is no amount of memory is refused with the units that are known."""
    with pytest.raises(ValueError, match="not a memory size: expected a number and one of B, kB"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["0GiB", "-1GiB", "0.5B"])
def test_memory_is_at_least_a_byte(text: str) -> None:
    """Less than one byte is no amount of memory."""
    with pytest.raises(ValueError, match="must be"):
        parse_bytes(text)


@given(st.floats(0, 100))
def test_a_share_is_a_number_or_percent(percent: float) -> None:
    """A number with "%" is a hundredth of the number alone."""
    assert parse_share(f" {percent!r}% ") == percent / 100
    assert parse_share(f" {percent!r} ") == percent


@pytest.mark.parametrize("text", ["", "%", "most", "95%%", "9 5"])
def test_what_is_no_share_is_refused(text: str) -> None:
    """Text that is no share is refused with an example of one."""
    with pytest.raises(ValueError, match=r'not a share, such as "95%" or "0.95"'):
        parse_share(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (3e-10, "0.300 ns"), (1e-6, "1.00 us"), (0.02, "20.0 ms"), (90, "90.0 s")],
)
def test_a_time_is_shown_in_the_unit_that_suits_it(seconds: float, text: str) -> None:
    """The unit is the largest that leaves at least 1 before the point."""
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (3 * 2**40, "3.00 TiB")]
)
def test_memory_is_shown_in_binary_units(amount: int, text: str) -> None:
    """1024 of a unit are one of the next."""
    assert format_bytes(amount) == text


@pytest.mark.parametrize(
    ("rows_per_s", "text"),
    [(0, "0 rows/s"), (0.5, "0.500 rows/s"), (123, "123 rows/s"), (9876, "9,880 rows/s")],
)
def test_a_rate_has_thousands_apart(rows_per_s: float, text: str) -> None:
    """Rates are rounded to three digits, with a comma between thousands."""
    assert format_rate(rows_per_s) == text


@given(
    st.floats(1e-3, 1e6),
    st.sampled_from(["", "k", "M"]),
    st.sampled_from(["/s", " / min", "requests/h", " rows/s"]),
)
def test_a_number_of_requests_in_a_time_is_a_rate(number: float, scale: str, unit: str) -> None:
    """A number, perhaps in thousands or millions, and a unit of time are so many a second."""
    thousands = {"": 1, "k": 1e3, "M": 1e6}[scale]
    seconds = {"s": 1, "n": 60, "h": 3600}[unit[-1]]
    expected = pytest.approx(number * thousands / seconds)
    assert parse_rate(f"{number!r}{scale}{unit}") == expected


def test_a_rate_of_rows_is_one_of_fewer_requests() -> None:
    """Rows are shared out among requests; requests are counted as they are."""
    assert parse_rate("100 rows/s", 4) == 25
    assert parse_rate("100 requests/s", 4) == parse_rate("100/s", 4) == 100


@pytest.mark.parametrize("text", ["", "5", "/s", "5/", "5 k /parsec", "5 cows/s", "5 per s", "5s"])
def test_a_rate_needs_a_number_and_a_time(text: str) -> None:
    """Text that is no rate is refused with examples of one."""
    with pytest.raises(ValueError, match=r'not a rate: .*"1000/s", "5k/min" or "2000 rows/s"'):
        parse_rate(text)


@pytest.mark.parametrize("text", ["0/s", "-5k/s", "1e400/s"])
def test_a_rate_is_positive_and_finite(text: str) -> None:
    """No requests, and endlessly many, are refused."""
    with pytest.raises(ValueError, match=f"positive and finite.*'{text}'"):
        parse_rate(text)
