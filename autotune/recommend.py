"""The choice, and why: the smallest batch size that is not worse than the best, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autotune.errors import NoFeasibleBatchSize
from autotune.goal import Goal
from autotune.judging import (
    excesses,
    interval,
    is_allowed,
    lane_of,
    latency_quantile_s,
    pooled,
    values_of,
)
from autotune.outcomes import Candidate, Failure, Measurement, Outcome, OutOfMemory
from autotune.records import LimitedBy, Recommendation
from autotune.units import format_bytes, format_rate, format_seconds


def recommend(
    outcomes: Sequence[Outcome],
    goal: Goal,
    memory_limit_bytes: int | None = None,
    refused: Mapping[Candidate, int] | None = None,
) -> Recommendation:
    """Choose: the smallest batch size that is not worse than the best by more than the tolerance.

    Args:
        outcomes: Every probe.
        goal: What to maximise, and under which limits.
        memory_limit_bytes: What peaks are held against.
        refused: Candidates that were not tried, with the forecast of their memory in bytes.

    Raises:
        NoFeasibleBatchSize: Nothing that was tried is within the limits.
    """
    everything = pooled(outcomes)
    allowed = {c: m for c, m in everything.items() if is_allowed(m, goal, memory_limit_bytes)}
    refused = refused or {}
    if not allowed:
        raise NoFeasibleBatchSize(_why_none(outcomes, goal, memory_limit_bytes, refused))
    values = values_of(allowed, goal)
    best = max(allowed, key=lambda c: (values[c], -c.batch_size))
    tied = [c for c in allowed if values[c] >= (1 - goal.tolerance) * values[best]]
    if goal.objective == "latency":
        chosen = max(tied, key=lambda c: allowed[c].rows_per_s)
    else:
        chosen = min(tied, key=lambda c: (c.batch_size, c.concurrency, -values[c]))
    measurement = allowed[chosen]
    low, high = interval(measurement) or (None, None)
    limited_by = _limited_by(chosen, outcomes, goal, memory_limit_bytes, refused)
    return Recommendation(
        batch_size=chosen.batch_size,
        engine=chosen.engine,
        concurrency=chosen.concurrency,
        threads=chosen.threads,
        rows_per_s=measurement.rows_per_s,
        rows_per_s_low=low,
        rows_per_s_high=high,
        latency_s=measurement.latency_s,
        latency_quantile_s=latency_quantile_s(measurement, goal.quantile),
        peak_bytes=measurement.peak_bytes,
        limited_by=limited_by,
        tied=tuple(sorted(set(tied) - {chosen}, key=lambda c: (c.batch_size, c.engine))),
        reason=_reason(measurement, values[chosen], allowed[best], goal, limited_by),
    )


def _limited_by(
    chosen: Candidate,
    outcomes: Sequence[Outcome],
    goal: Goal,
    memory_limit_bytes: int | None,
    refused: Mapping[Candidate, int],
) -> LimitedBy:
    """What kept the batch size of this lane from being larger."""
    larger: dict[int, LimitedBy] = {}
    for outcome in outcomes:
        if lane_of(outcome.candidate) == lane_of(chosen):
            over = excesses(outcome, goal, memory_limit_bytes)
            limit: LimitedBy = "plateau"
            if over["runs"] > 0:
                limit = "failure"
            elif over["memory"] > 0:
                limit = "memory"
            elif over["latency"] > 0:
                limit = "latency"
            larger[outcome.candidate.batch_size] = limit
    for candidate in refused:
        if lane_of(candidate) == lane_of(chosen):
            larger.setdefault(candidate.batch_size, "memory")
    above = [size for size in larger if size > chosen.batch_size]
    if above:
        return larger[min(above)]
    if goal.objective == "makespan" and chosen.batch_size >= (goal.rows or 1):
        return "rows"
    at_end = goal.max_batch_size is not None and chosen.batch_size >= goal.max_batch_size
    return "max_batch_size" if at_end else "budget"


def _reason(
    chosen: Measurement, value: float, best: Measurement, goal: Goal, limited_by: LimitedBy
) -> str:
    what = {
        "throughput": format_rate(chosen.rows_per_s),
        "makespan": f"all {goal.rows or 0:,} rows in {format_seconds((goal.rows or 0) / value)}",
        "latency": f"the smallest latency, {format_seconds(chosen.latency_s)} a batch",
    }[goal.objective]
    sentences = [f"{chosen.candidate}: {what}."]
    if best.candidate != chosen.candidate:
        sentences.append(
            f"The best measured is {best.candidate}, but by no more than the tolerance of "
            f"{goal.tolerance:.0%}."
        )
    sentences.append(
        {
            "plateau": "Larger batches gain nothing that counts.",
            "memory": "The next larger batch would not fit in memory: free some, or raise the "
            "memory budget, to try it.",
            "latency": "The next larger batch takes longer than "
            f"{format_seconds(goal.latency_budget_s or 0)} at the {goal.quantile:.0%} quantile.",
            "max_batch_size": "It is the largest that was allowed: a larger max_batch_size may "
            "be faster.",
            "rows": "One batch holds the whole job.",
            "failure": "The next larger batch failed; its message is in the record.",
            "budget": "The time budget ended before a larger batch was tried: allow more to be "
            "sure.",
        }[limited_by]
    )
    return " ".join(sentences)


def _why_none(
    outcomes: Sequence[Outcome],
    goal: Goal,
    memory_limit_bytes: int | None,
    refused: Mapping[Candidate, int],
) -> str:
    measured = [o for o in outcomes if isinstance(o, Measurement)]
    limit = format_bytes(memory_limit_bytes or 0)
    fitting = [m for m in measured if excesses(m, goal, memory_limit_bytes)["memory"] <= 0]
    if fitting:
        fastest = min(fitting, key=lambda m: latency_quantile_s(m, goal.quantile))
        took = format_seconds(latency_quantile_s(fastest, goal.quantile))
        return (
            f"No batch size meets {format_seconds(goal.latency_budget_s or 0)}: the fastest, "
            f"{fastest.candidate}, takes {took} at the {goal.quantile:.0%} quantile. Raise the "
            "latency budget, or use a smaller model or a faster machine."
        )
    if measured:
        least = min(measured, key=lambda m: m.peak_bytes or 0)
        return (
            f"No batch size fits: {least.candidate} needs {format_bytes(least.peak_bytes or 0)}, "
            f"and {limit} may be used. Free memory or raise the memory budget."
        )
    if refused:
        candidate, needed = min(refused.items(), key=lambda item: item[1])
        return f"No batch size fits: {candidate} may need {format_bytes(needed)} of {limit}."
    if any(isinstance(o, OutOfMemory) for o in outcomes):
        smallest = min((o.candidate for o in outcomes), key=lambda c: c.batch_size)
        return f"No batch size fits: {smallest} ran out of memory. Free some, or use less of it."
    messages = [o.message or o.kind for o in outcomes if isinstance(o, Failure)]
    return f"No candidate ran: {messages[0] if messages else 'the budget allowed no probe'}"
