"""Text of a hand-over: templates filled in, and names from outside made harmless in each language.

A template is the file as it will be, with `$name` where a value goes.
"""

from __future__ import annotations

import importlib.resources
import math
import re
import string
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune import __version__
from autotune.handover.order import Order
from autotune.records import TuningRecord
from autotune.report import printable
from autotune.serving import ServingLimits

SUFFIX = ".template"
_WIDTH = 96  # of a comment, without its sign
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def fill(target: str, name: str, folder: Path, values: Mapping[str, object]) -> None:
    """Write a template of a target to a file of the same name.

    Args:
        target: Whose template.
        name: The file's name.
        folder: Where it goes.
        values: What stands in for each `$name`.
    """
    home = importlib.resources.files("autotune.handover") / "templates" / target
    text = (home / f"{name}{SUFFIX}").read_text("utf-8")
    (folder / name).write_text(string.Template(text).substitute(values), "utf-8")


def values_of(order: Order, limits: ServingLimits) -> dict[str, object]:
    """Return what every template may use: numbers as Python writes them, `about_` them a comment.

    `origin` is a comment that says where the numbers come from; `table` lists them for Markdown.
    """
    numbers: dict[str, object] = {
        "batch_size": limits.batch_size,
        "concurrency": limits.concurrency,
        "max_wait_s": round(limits.max_wait_s, 6),
        "queue_rows": limits.queue_rows,
        "deadline_s": round(limits.deadline_s, 6),
    }
    comments = {f"about_{name}": about(limits, name) for name in numbers}
    return {
        **numbers,
        **comments,
        "retry_after_s": max(1, math.ceil(limits.queue_rows / limits.rows_per_s)),
        "cpus": limits.cpus or 1,
        "load_options": _load_options(order),
        "version": __version__,
        "origin": comment(origin(order.record, limits)),
        "table": table(limits),
    }


def _load_options(order: Order) -> str:
    """What the service's call of `autotune.load` needs beside the folder, as Python source."""
    imports = f", imports={literal(list(order.imports))}" if order.imports else ""
    return imports + (", unsafe=True" if order.unsafe else "")


_TITLES = {
    "batch_size": "Most rows in a batch",
    "enough_rows": "Rows that are worth a batch",
    "sizes": "Sizes of a batch",
    "max_wait_s": "Longest wait for company",
    "queue_rows": "Rows that may wait",
    "deadline_s": "Longest time in the queue",
    "concurrency": "Batches in flight",
    "threads": "Threads of one call",
}


def about(limits: ServingLimits, name: str, indent: str = "") -> str:
    """Return a comment that says what one of the numbers is, and why it is that."""
    return comment(f"{_TITLES[name]}: {limits.reasons[name]}", indent)


def origin(record: TuningRecord, limits: ServingLimits) -> str:
    """Say in a sentence or two where the numbers come from."""
    device = f" on {record.machine.device}" if record.machine else ""
    date = f" of {record.created}" if record.created else ""
    text = f"Written by autotune {__version__} from the tuning{date}{device}: {limits.way}."
    chosen = record.recommendation
    if chosen and chosen.engine != limits.way.engine:
        text += f" It recommends {chosen.candidate}, which this server does not run."
    return printable(text, limit=500)


def table(limits: ServingLimits) -> str:
    """List the numbers with their reasons, in Markdown."""
    values = {
        "batch_size": _rows(limits.batch_size),
        "enough_rows": _rows(limits.enough_rows),
        "max_wait_s": f"{limits.max_wait_s * 1e3:.3g} ms",
        "queue_rows": _rows(limits.queue_rows),
        "deadline_s": f"{limits.deadline_s * 1e3:.4g} ms",
        "concurrency": str(limits.concurrency),
        "threads": str(limits.threads or "-"),
    }
    lines = ["| number | value | why |", "|---|---|---|"]
    rows = ((_TITLES[name], value, limits.reasons[name]) for name, value in values.items())
    lines += [f"| {title} | {value} | {printable(reason)} |" for title, value, reason in rows]
    return "\n".join(lines)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def comment(text: str, indent: str = "") -> str:
    """Return text from anywhere as comment lines, for Python, YAML, protobuf and Docker alike."""
    lines = textwrap.wrap(printable(text, limit=1000), _WIDTH - len(indent))
    return "\n".join(f"{indent}# {line}" for line in lines)


def literal(value: Any) -> str:
    r"""Write a value as Python source: ASCII, in double quotes, on one line.

    Example:
        >>> print(literal('a"b'), literal(("é", 2, None)))
        "a\x22b" ("\xe9", 2, None)
    """
    if isinstance(value, str):
        return '"' + value.encode("unicode_escape").decode("ascii").replace('"', r"\x22") + '"'
    if isinstance(value, (list, tuple)):
        inner = ", ".join(literal(each) for each in value)
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


def quoted(text: str) -> str:
    r"""Write text as a string of protobuf's text format: UTF-8, byte by byte where it is not plain.

    Example:
        >>> print(quoted('a"b\n'))
        "a\042b\012"
    """
    data = text.encode("utf-8", "replace")
    return '"' + "".join(chr(b) if _is_plain(b) else f"\\{b:03o}" for b in data) + '"'


def _is_plain(byte: int) -> bool:
    return 32 <= byte < 127 and chr(byte) not in "\"'\\"


def slug(name: str) -> str:
    """Turn a name into one that can be a folder's, in any system and in a URL.

    Example:
        >>> slug("My Net/v2"), slug("../.."), slug("CON"), slug("網")
        ('My_Net_v2', 'model', 'model_CON', 'model')
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._-")[:80]
    return f"model_{plain}" if _RESERVED.match(plain) else plain or "model"


def shown(name: str) -> str:
    """Write a name from outside as code in Markdown."""
    return f"`{printable(name).replace('`', ' ').replace('|', ' ')}`"
