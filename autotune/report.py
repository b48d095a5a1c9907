"""For people: what a tuning run found, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from autotune.engines import REDUCIBLE
from autotune.outcomes import Candidate, Failure, Measurement, Outcome, OutOfMemory
from autotune.records import Baseline, Forecast, Progress, Recommendation, TuningRecord
from autotune.units import format_bytes, format_rate, format_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def summary(record: TuningRecord) -> RenderableType:
    """Return the answer, how far to trust it, and the curve, for rich's console."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(line) for line in _facts(record)]
    chosen = record.recommendation
    if chosen:
        parts.insert(0, Text(printable(chosen.reason), style="bold"))
    parts.append(Text())
    parts.append(_curve(record))
    parts.extend(Text(f"Note: {printable(note)}", style="yellow") for note in _notes(record))
    return Group(*parts)


def _facts(record: TuningRecord) -> list[str]:
    facts: list[str] = []
    chosen = record.recommendation
    if chosen:
        facts.append(f"speed      {_with_interval(chosen)}")
        facts += [_against(baseline, chosen) for baseline in record.baselines]
        latency = format_seconds(chosen.latency_s)
        tail = format_seconds(chosen.latency_quantile_s)
        facts.append(f"latency    {latency} median, {tail} at {record.goal.quantile:.0%}, a batch")
        if chosen.peak_bytes:  # an allocator that counts large blocks only may say 0
            limit = record.memory_limit_bytes
            allowed = f" of {format_bytes(limit)}" if limit else ""
            facts.append(f"memory     {format_bytes(chosen.peak_bytes)} at the peak{allowed}")
        facts += [*_forecasts(record.forecasts), *_precision(record, chosen)]
        if chosen.tied:
            facts.append("tied with  " + printable("; ".join(map(str, chosen.tied))))
        facts.append(f"confidence {_confidence(chosen)}")
    if record.model:
        facts.append(
            f"model      {printable(record.model.name)} on {printable(record.model.backend)}"
        )
    if record.machine:
        machine = record.machine
        facts.append(f"machine    {printable(machine.device)}, {machine.cpu_count} processors")
    facts.append(f"effort     {_effort(record)}")
    return facts


def elsewhere(record: TuningRecord) -> str:
    """Say on one line what was found on another device, for a folder that holds several."""
    chosen, machine, model = record.recommendation, record.machine, record.model
    device = f"{machine.device}, {machine.cpu_count} processors" if machine else "another device"
    backend = f" on {model.backend}" if model else ""
    answer = f"{chosen.candidate}, {format_rate(chosen.rows_per_s)}" if chosen else "no answer"
    return printable(f"{device}{backend}: {answer}")


def _forecasts(forecasts: Sequence[Forecast]) -> list[str]:
    """How the forecasts of memory came out, and the least that was refused for its forecast."""
    met = [f for f in forecasts if f.peak_bytes is not None]
    refused = [f for f in forecasts if f.peak_bytes is None]
    above = sum((f.peak_bytes or 0) > f.upper_bound_bytes for f in met)
    facts = []
    if met:
        facts.append(f"forecast   {above or 'none'} of {len(met)} peaks above the forecast's bound")
    if refused:
        least = min(refused, key=lambda f: f.upper_bound_bytes)
        needed = format_bytes(least.upper_bound_bytes)
        facts.append(f"refused    {printable(str(least.candidate))}: it may need {needed}")
    return facts


def _precision(record: TuningRecord, chosen: Recommendation) -> list[str]:
    """What a lower precision does to the answers, where the choice may compute in one."""
    if not record.precision or chosen.engine not in REDUCIBLE:
        return []
    measured = [o for o in record.outcomes if isinstance(o, Measurement)]
    mine = [m for m in measured if m.candidate.engine == chosen.engine]
    error = max((m.largest_error for m in mine), default=0.0)
    changed = max((m.changed_classes or 0.0 for m in mine), default=0.0)
    return [
        f"precision  {printable(record.precision)}: outputs within {error:.2%} of those of keras, "
        f"{changed:.1%} of classes changed"
    ]


def _with_interval(speed: Recommendation | Baseline) -> str:
    text = format_rate(speed.rows_per_s)
    if speed.rows_per_s_low is None or speed.rows_per_s_high is None:
        return text
    low, high = format_rate(speed.rows_per_s_low), format_rate(speed.rows_per_s_high)
    return f"{text} (95 % interval {low} to {high})"


def _against(baseline: Baseline, chosen: Recommendation) -> str:
    size, name = baseline.candidate.batch_size, f"model.{baseline.candidate.engine}"
    if baseline.candidate.engine == "keras":
        name = "predict_on_batch"
    times = chosen.rows_per_s / baseline.rows_per_s
    speed = format_rate(baseline.rows_per_s)
    return f"           {times:.1f} times {name} of {size:,} rows, {speed}"


def _confidence(chosen: Recommendation) -> str:
    if chosen.confidence == "high":
        return "high: settled at 95 %"
    if chosen.more_s is None:
        return "low: the time budget ended before it was settled"
    return f"low: about {format_seconds(chosen.more_s)} more would settle it (--budget)"


def _effort(record: TuningRecord) -> str:
    text = f"{len(record.outcomes)} probes, {format_seconds(record.spent_s)}"
    disturbed = sum(a_round.disturbed for a_round in record.rounds)
    if disturbed:
        text += f"; other work on the machine disturbed {disturbed} of them"
    return text


def _notes(record: TuningRecord) -> list[str]:
    unavailable = [f"Not tried: {name}. {why}" for name, why in record.unavailable.items()]
    return [*record.warnings, *unavailable]


def _curve(record: TuningRecord) -> Table:
    """A row a batch size, a column an engine and concurrency."""
    from rich.table import Table
    from rich.text import Text

    searched = _searched(record)
    lanes = list(dict.fromkeys(_lane(o.candidate) for o in searched))
    cells: dict[tuple[int, str], list[Outcome]] = {}
    for outcome in searched:
        key = (outcome.candidate.batch_size, _lane(outcome.candidate))
        cells.setdefault(key, []).append(outcome)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("batch size", justify="right")
    for lane in lanes:
        table.add_column(Text(printable(lane)), justify="right")
    chosen = record.recommendation.candidate if record.recommendation else None
    for size in sorted({size for size, _ in cells}):
        row = [Text(str(size))]
        for lane in lanes:
            is_chosen = chosen is not None and (size, lane) == (chosen.batch_size, _lane(chosen))
            text = _cell(cells.get((size, lane), []))
            row.append(Text(f"> {text}" if is_chosen else text, style="bold" * is_chosen))
        table.add_row(*row)
    return table


def _searched(record: TuningRecord) -> list[Outcome]:
    """The outcomes without those of baselines, which were never candidates for the answer."""
    purposes = [a_round.purpose for a_round in record.rounds for _ in range(a_round.outcomes)]
    pairs = zip(record.outcomes, purposes, strict=True) if purposes else ()
    tried = {outcome.candidate for outcome, purpose in pairs if purpose == "search"}
    return [o for o in record.outcomes if o.candidate in tried or not purposes]


def _lane(candidate: Candidate) -> str:
    return str(candidate).partition(", ")[2]


def _cell(outcomes: list[Outcome]) -> str:
    if any(isinstance(outcome, OutOfMemory) for outcome in outcomes):
        return "out of memory"
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    if failures:
        return failures[0].kind.replace("_", " ")
    measured = [outcome for outcome in outcomes if isinstance(outcome, Measurement)]
    if not measured:
        return ""
    calls = sum(len(m.times_s) for m in measured)
    seconds = sum(m.span_s or sum(m.times_s) for m in measured)
    return format_rate(measured[0].candidate.batch_size * calls / seconds)


def progress_line(progress: Progress) -> str:
    """Say on one line what is being tried and what is best so far."""
    left = format_seconds(max(0.0, progress.budget_s - progress.spent_s))
    doing = {
        "search": f"trying {progress.candidate}",
        "wait": "waiting for other processes to be quiet",
        "confirm": f"measuring {progress.candidate} afresh",
    }[progress.purpose]
    line = f"{left} left, {doing}"
    if progress.best is not None:
        line += f"; best {format_rate(progress.best.rows_per_s)} at {progress.best.candidate}"
    return printable(line)


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


def printable(text: str, limit: int = 300) -> str:
    """Return text from outside as one line that cannot move the cursor or change a colour."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
