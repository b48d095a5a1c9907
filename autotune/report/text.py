"""For people: what a tuning run found, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from autotune.engines import REDUCIBLE
from autotune.outcomes import Candidate, Measurement
from autotune.records import Baseline, Recommendation, TuningRecord
from autotune.report import words
from autotune.report.speeds import Speeds
from autotune.report.words import printable
from autotune.units import format_bytes, format_rate, format_seconds, format_share

if TYPE_CHECKING:
    from rich.console import RenderableType

TIED = 3  # are named


def summary(record: TuningRecord) -> RenderableType:
    """Return the answer, how far to trust it, and the curve, for rich's console."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(line) for line in _facts(record)]
    chosen = record.recommendation
    headline = printable(chosen.reason) if chosen else words.answer(record)
    parts.insert(0, Text(headline, style="bold"))
    parts.append(Text())
    parts.append(Speeds(record))
    parts.extend(Text(f"Note: {printable(note)}", style="yellow") for note in words.notes(record))
    return Group(*parts)


def _facts(record: TuningRecord) -> list[str]:
    facts: list[str] = []
    chosen = record.recommendation
    if chosen:
        facts.append(f"speed      {_with_interval(chosen)}")
        gains = words.gains(record)
        facts += [_against(b, gains.get(b.candidate, "")) for b in record.baselines]
        latency = format_seconds(chosen.latency_s)
        tail = format_seconds(chosen.latency_quantile_s)
        quantile = format_share(record.goal.quantile)
        facts.append(f"latency    {latency} median, {tail} at {quantile}, a batch")
        if chosen.peak_bytes:  # an allocator that counts large blocks only may say 0
            limit = record.memory_limit_bytes
            allowed = f" of {format_bytes(limit)}" if limit else ""
            facts.append(f"memory     {format_bytes(chosen.peak_bytes)} at the peak{allowed}")
        facts += _asides(record)
        if chosen.tied:
            facts.append(f"tied with  {printable(_some(chosen.tied))}")
        facts.append(f"confidence {words.confidence(chosen)}")
    if record.model:
        facts.append(
            f"model      {printable(record.model.name)} on {printable(record.model.backend)}"
        )
    if record.machine:
        machine = record.machine
        facts.append(f"machine    {printable(machine.device)}, {machine.cpu_count} processors")
    facts.append(f"effort     {words.effort(record)}")
    return facts


def _some(candidates: Sequence[Candidate]) -> str:
    names, more = list(map(str, candidates[:TIED])), len(candidates) - TIED
    return "; ".join([*names, f"{more} more"] if more > 0 else names)


def elsewhere(record: TuningRecord) -> str:
    """Say on one line what was found on another device, for a folder that holds several."""
    chosen, machine, model = record.recommendation, record.machine, record.model
    device = f"{machine.device}, {machine.cpu_count} processors" if machine else "another device"
    backend = f" on {model.backend}" if model else ""
    answer = f"{chosen.candidate}, {format_rate(chosen.rows_per_s)}" if chosen else "no answer"
    return printable(f"{device}{backend}: {answer}")


def _asides(record: TuningRecord) -> list[str]:
    """How forecasts of memory came out, and what a lower precision does: where there is any."""
    found = {
        "forecast  ": words.forecasts_kept(record),
        "refused   ": words.least_refused(record),
        "precision ": precision(record),
    }
    return [f"{name} {fact}" for name, fact in found.items() if fact]


def precision(record: TuningRecord) -> str:
    """What a lower precision does to the answers, where the choice may compute in one; else ""."""
    chosen = record.recommendation
    if not record.precision or chosen is None or chosen.engine not in REDUCIBLE:
        return ""
    measured = [o for o in record.outcomes if isinstance(o, Measurement)]
    mine = [m for m in measured if m.candidate.engine == chosen.engine]
    error = max((m.largest_error for m in mine), default=0.0)
    changed = [m.changed_classes for m in mine if m.changed_classes is not None]
    text = f"{printable(record.precision)}: outputs within {error:.2%} of those of keras"
    return f"{text}, {max(changed):.1%} of classes changed" if changed else text


def _with_interval(speed: Recommendation | Baseline) -> str:
    text, ends = format_rate(speed.rows_per_s), words.interval(speed)
    return f"{text} (95 % interval {ends})" if ends else text


def _against(baseline: Baseline, times: str) -> str:
    name, speed = words.baseline_name(baseline.candidate), format_rate(baseline.rows_per_s)
    rows = words.counted(baseline.candidate.batch_size, "row")
    return f"           {f'{times} times ' if times else ''}{name} of {rows}, {speed}"


def comparison(rows: int, timings: Sequence[Timed]) -> RenderableType:
    """Return a table of ways to predict the same rows, the first one being the measure."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in (f"{rows:,} rows with", "seconds", "slowest", "rows/s", "times faster", "accuracy"):
        table.add_column(name, justify="left" if "with" in name else "right")
    for timing in timings:
        table.add_row(
            Text(timing.name),
            format_seconds(timing.seconds),
            format_seconds(timing.slowest_s),
            format_rate(rows / timing.seconds).removesuffix(" rows/s"),
            f"{timings[0].seconds / timing.seconds:.1f}",
            f"{timing.accuracy:.1%}",
        )
    return table


class Timed(Protocol):
    """One way to predict, timed; see `demo.Timing`."""

    @property
    def name(self) -> str:
        """The call."""
        ...

    @property
    def seconds(self) -> float:
        """Median seconds."""
        ...

    @property
    def slowest_s(self) -> float:
        """Seconds of the slowest round."""
        ...

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        ...
