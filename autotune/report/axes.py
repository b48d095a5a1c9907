"""Axes and tooltips of the charts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from autotune.report.series import Row

if TYPE_CHECKING:
    import altair as alt

ROOM = 1.25  # beside the smallest and the largest value, as a factor
FEW_DECADES = 2.5  # on an axis that needs ticks within a decade


def doublings(rows: Sequence[Row], room: float = ROOM) -> dict[str, Any]:
    """A logarithmic axis of batch sizes, with a tick at each doubling."""
    import altair as alt

    sizes = [row["size"] for row in rows]
    low, high = min(sizes), max(sizes)
    domain = [low / room, high * room]
    powers = (2**n for n in range(low.bit_length() - 1, high.bit_length() + 1))
    ticks = [size for size in powers if domain[0] <= size <= domain[1]] or [low]
    return {
        "scale": alt.Scale(type="log", base=2, domain=domain, nice=False),
        "axis": alt.Axis(values=ticks, format=",d", grid=False, labelOverlap="greedy"),
    }


def from_zero(rows: Sequence[Row], *, nice: bool = True) -> alt.Scale:
    """A scale of rates, with room for the intervals."""
    import altair as alt

    tops = [row.get(field) or 0.0 for row in rows for field in ("rate", "high")]
    return alt.Scale(domain=[0, max(tops) or 1.0], nice=nice)


def decades(values: Iterable[float | None]) -> dict[str, Any]:
    """A logarithmic axis with a line at each power of ten, or also at twice and five times it."""
    import altair as alt

    known = [value for value in values if value]
    low, high = min(known) / ROOM, max(known) * ROOM
    steps = (1, 2, 5) if math.log10(high / low) < FEW_DECADES else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    if sum(low <= tick <= high for tick in ticks) < 2:  # room up to the next ones on both sides
        low = max((tick for tick in ticks if tick <= low), default=low)
        high = min((tick for tick in ticks if tick >= high), default=high)
    return {
        "scale": alt.Scale(type="log", domain=[low, high], nice=False),
        "axis": alt.Axis(values=[t for t in ticks if low <= t <= high], format=",~r"),
    }


def _tips(**titles: str) -> list[alt.Tooltip]:
    import altair as alt

    return [alt.Tooltip(f"{field}:N", title=title) for field, title in titles.items()]


def point_tips() -> list[alt.Tooltip]:
    """What is known of a measured candidate."""
    import altair as alt

    size = alt.Tooltip("size:Q", title="batch size", format=",d")
    return [
        *_tips(name="lane"),
        size,
        *_tips(
            speed="speed",
            interval="95 % interval",
            median_text="median latency",
            tail_text="latency at the quantile",
            peak_text="memory peak",
            bound_text="forecast bound",
        ),
    ]


def failure_tips() -> list[alt.Tooltip]:
    """What is known of a candidate that was not measured."""
    import altair as alt

    size = alt.Tooltip("size:Q", title="batch size", format=",d")
    return [*_tips(name="lane"), size, *_tips(outcome="outcome", message="message")]


def probe_tips() -> list[alt.Tooltip]:
    """What is known of one probe."""
    import altair as alt

    start = alt.Tooltip("start:Q", title="second", format=".2f")
    return [*_tips(name="tried"), start, *_tips(outcome="outcome", speed="speed")]
