"""What is to be seen in each chart, in words: its text alternative, and its caption."""

from __future__ import annotations

from autotune.curves import LaneCurve, curves_of, leading, steps_of
from autotune.records import TuningRecord
from autotune.report import words
from autotune.report.words import printable
from autotune.units import format_bytes, format_rate, format_seconds, format_share

STRETCHES = {
    "wait": "waiting for other work to end",
    "confirm": "the answer measured afresh, beside what it is compared with",
}


def gain(record: TuningRecord) -> str:
    """The baselines and the answer."""
    chosen = record.recommendation
    if chosen is None:
        return ""
    told = [
        f"{words.baseline_name(baseline.candidate)} of "
        f"{words.counted(baseline.candidate.batch_size, 'row')} runs "
        f"{format_rate(baseline.rows_per_s)}"
        for baseline in record.baselines
    ]
    ends = words.interval(chosen)
    mine = f"the tuned predictor {format_rate(chosen.rows_per_s)}"
    mine += f" (95 % interval {ends})" if ends else ""
    return f"{', '.join(told)}, {mine}. All were timed in turn, after the choice."


def throughput(record: TuningRecord) -> str:
    """The best size of the best lane of each engine."""
    curves = curves_of(record)
    best = leading(curves, record)
    told = [text for curve in best if (text := _peak_of(curve))]
    text = f"At its best {'; '.join(told)}. " if told else ""
    text += "Each engine's best lane is in colour, with 95 % intervals."
    others = len(curves) - len(best)
    if others:
        text += f" {others} further lane{'s' * (others > 1)} in grey."
    if any(not point.is_measured for curve in curves for point in curve.points):
        text += " A cross at the foot is a batch size that could not be run."
    return text


def _peak_of(curve: LaneCurve) -> str:
    # The chart is of speed, whatever was asked for.
    measured = [point for point in curve.points if point.is_measured]
    top = max(measured, key=lambda p: (not p.over, p.rows_per_s or 0.0), default=None)
    if top is None:
        return ""
    speed, rows = format_rate(top.rows_per_s or 0.0), words.counted(top.candidate.batch_size, "row")
    return f"{printable(curve.name, 60)} runs {speed} with {rows} a batch"


def latency(record: TuningRecord) -> str:
    """The answer's latency, against the budget where there is one."""
    goal, chosen = record.goal, record.recommendation
    at = format_share(goal.quantile)
    text = f"Solid: median of the calls; dashed: their {at} quantile."
    if goal.latency_budget_s is not None:
        budget = format_seconds(goal.latency_budget_s)
        text += f" No more than {budget} at {at} is allowed: the line across."
    if chosen is not None:
        median = format_seconds(chosen.latency_s)
        tail = format_seconds(chosen.latency_quantile_s)
        text += f" The answer takes {median} a batch (median), and {tail} at {at}."
    return text


def memory(record: TuningRecord) -> str:
    """How forecasts of memory came out, and how far the answer is from the limit."""
    text = "Solid: measured peaks; dashed: the bound forecast before the first try"
    kept = words.forecasts_kept(record)
    text += f", with {kept}." if kept else "."
    chosen, limit = record.recommendation, record.memory_limit_bytes
    if chosen is not None and chosen.peak_bytes:
        text += f" The answer takes {format_bytes(chosen.peak_bytes)}"
        text += f" of {format_bytes(limit)}." if limit else "."
    if refused := words.least_refused(record):
        text += f" Refused: {refused}."
    return text


def search(record: TuningRecord) -> str:
    """How many probes there were, and how many of them something disturbed."""
    steps = steps_of(record)
    disturbed = sum(step.disturbed for step in steps)
    probes = words.counted(len(steps), "probe")
    text = f"{probes} in {format_seconds(record.spent_s)}, from left to right."
    if disturbed:
        text += f" Ticks at the foot: other work disturbed {disturbed} of them, drawn pale."
    else:
        text += " No other work disturbed them."
    purposes = {step.purpose for step in steps}
    shaded = [stretch for purpose, stretch in STRETCHES.items() if purpose in purposes]
    return text + (f" Shaded: {', and '.join(shaded)}." if shaded else "")
