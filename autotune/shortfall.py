"""Why there is no answer: what all that was tried falls short of, and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autotune.goal import Goal
from autotune.judging import excesses, latency_quantile_s
from autotune.outcomes import Candidate, Failure, Measurement, Outcome, OutOfMemory
from autotune.units import format_bytes, format_seconds, format_share


def why_nothing(
    outcomes: Sequence[Outcome],
    goal: Goal,
    memory_limit_bytes: int | None,
    refused: Mapping[Candidate, int],
) -> str:
    """Say why nothing that was tried is within the limits.

    Args:
        outcomes: All of them.
        goal: What was asked for.
        memory_limit_bytes: The highest peak that was allowed; None where there was no limit.
        refused: Candidates that were not tried, with the forecast of their memory in bytes.
    """
    measured = [o for o in outcomes if isinstance(o, Measurement)]
    limit = format_bytes(memory_limit_bytes or 0)
    failed = {
        o.candidate
        for o in outcomes
        if not isinstance(o, Measurement) and not (isinstance(o, Failure) and o.kind == "stopped")
    }
    fitting = [
        m
        for m in measured
        if m.candidate not in failed and excesses(m, goal, memory_limit_bytes)["memory"] <= 0
    ]
    if fitting:
        fastest = min(fitting, key=lambda m: latency_quantile_s(m, goal.quantile))
        took = format_seconds(latency_quantile_s(fastest, goal.quantile))
        return (
            f"No batch size meets {format_seconds(goal.latency_budget_s or 0)}: the fastest, "
            f"{fastest.candidate}, takes {took} at the {format_share(goal.quantile)} quantile. "
            "Raise the latency budget, or use a smaller model or a faster machine."
        )
    too_large = [m for m in measured if excesses(m, goal, memory_limit_bytes)["memory"] > 0]
    if too_large:
        least = min(too_large, key=lambda m: m.peak_bytes or 0)
        return (
            f"No batch size fits: {least.candidate} needs {format_bytes(least.peak_bytes or 0)}, "
            f"and {limit} may be used. Free memory or raise the memory budget."
        )
    if refused:
        candidate, needed = min(refused.items(), key=lambda item: item[1])
        return f"No batch size fits: {candidate} may need {format_bytes(needed)} of {limit}."
    short = [o.candidate for o in outcomes if isinstance(o, OutOfMemory)]
    if short:
        smallest = min(short, key=lambda c: c.batch_size)
        return f"No batch size fits: {smallest} ran out of memory. Free some, or use less of it."
    messages = [o.message or o.kind for o in outcomes if isinstance(o, Failure)]
    return f"No candidate ran: {messages[0] if messages else 'the budget allowed no probe'}"
