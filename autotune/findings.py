"""For people: what `verify` and `compare` found, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from autotune.contest import Ratio
from autotune.duel import Comparison, Side
from autotune.intervals import Speed
from autotune.report import printable
from autotune.trial import called
from autotune.units import format_rate, format_seconds
from autotune.verifying import Verification

if TYPE_CHECKING:
    from rich.console import RenderableType

LONGEST_NOTE = 500  # characters


def verified(found: Verification) -> RenderableType:
    """Return a verification for rich's console: the verdict, what it follows from, notes."""
    notes = list(found.warnings)
    if found.differences:
        notes.insert(0, f"Tuned under other conditions: {'; '.join(found.differences)}.")
    return _text(found.reason, _facts(found), notes)


def compared(found: Comparison) -> RenderableType:
    """Return a comparison for rich's console: the verdict, what it follows from, notes."""
    return _text(found.reason, _sides(found), found.warnings)


def _text(verdict: str, facts: Iterator[str], notes: tuple[str, ...] | list[str]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    return Group(
        Text(printable(verdict, LONGEST_NOTE), style="bold"),
        *(Text(printable(fact)) for fact in facts),
        *(Text(f"Note: {printable(note, LONGEST_NOTE)}", style="yellow") for note in notes),
    )


def _facts(found: Verification) -> Iterator[str]:
    if found.advantage and found.baseline:
        line = f"advantage  {_ratio(found.advantage)} times {called(found.baseline)}"
        if then := found.recorded_advantage:
            line += f"; recorded {_times(then.ratio)} ({_times(then.low)} to {_times(then.high)})"
        yield line
    if found.runner_up_lead and found.runner_up:
        yield f"runner-up  {_ratio(found.runner_up_lead)} times as good: {found.runner_up}"
    if found.speed:
        yield f"speed      {_rate(found.speed)}; recorded {format_rate(found.recorded_rows_per_s)}"
    if found.latency_s:
        yield f"latency    {format_seconds(found.latency_s)} median, a batch"
    yield _effort(found.rounds, found.spent_s)


def _sides(found: Comparison) -> Iterator[str]:
    yield _side("A", found.a)
    yield _side("B", found.b)
    if found.ratio:
        yield f"B / A      {_ratio(found.ratio)}"
    yield _effort(found.rounds, found.spent_s)


def _side(letter: str, side: Side) -> str:
    speed = _rate(side.speed) if side.speed else "not timed"
    return f"{letter}          {speed}: {side.name}, {side.candidate}"


def _effort(rounds: int, spent_s: float) -> str:
    return f"effort     {rounds} rounds, {format_seconds(spent_s)}"


def _ratio(ratio: Ratio) -> str:
    low, high = _times(ratio.low), _times(ratio.high)
    return f"{_times(ratio.ratio)} (95 % interval {low} to {high})"


def _times(ratio: float) -> str:
    """Three digits: a ratio may be far below 1."""
    return f"{ratio:#.3g}" if ratio < 100 else f"{ratio:,.0f}"


def _rate(speed: Speed) -> str:
    if speed.low is None or speed.high is None:
        return format_rate(speed.rows_per_s)
    low, high = format_rate(speed.low), format_rate(speed.high)
    return f"{format_rate(speed.rows_per_s)} (95 % interval {low} to {high})"
