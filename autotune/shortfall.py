"""Why there is no answer: what all that was tried falls short of, and how to mend it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from autotune.goal import Goal
from autotune.judging import excesses, latency_quantile_s, pooled
from autotune.known import MOST_STOPS
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
    measured = _measured(outcomes)
    limit = format_bytes(memory_limit_bytes or 0)
    too_large = [m for m in measured if excesses(m, goal, memory_limit_bytes)["memory"] > 0]
    fitting = [m for m in measured if m not in too_large]
    if fitting and goal.latency_budget_s is not None:
        fastest = min(fitting, key=lambda m: latency_quantile_s(m, goal.quantile))
        took = format_seconds(latency_quantile_s(fastest, goal.quantile))
        return (
            f"No batch size meets {format_seconds(goal.latency_budget_s)}: the fastest, "
            f"{fastest.candidate}, takes {took} at the {format_share(goal.quantile)} quantile. "
            "Raise the latency budget, or use a smaller model or a faster machine."
        )
    if too_large:
        least = min(too_large, key=lambda m: m.peak_bytes or 0)
        return (
            f"No batch size fits: {least.candidate} needs {format_bytes(least.peak_bytes or 0)}, "
            f"and {limit} may be used. Free memory or raise the memory budget."
        )
    failures = [o for o in outcomes if isinstance(o, Failure)]
    if refused:
        candidate, needed = min(refused.items(), key=lambda item: item[1])
        short = f"No batch size fits: {candidate} may need {format_bytes(needed)} of {limit}."
    elif out := [o.candidate for o in outcomes if isinstance(o, OutOfMemory)]:
        smallest = min(out, key=lambda c: c.batch_size)
        short = f"No batch size fits: {smallest} ran out of memory. Free some, or use less of it."
    elif failures:
        return f"No candidate ran: {_told(failures)}"
    else:
        return "No candidate ran: the budget allowed no probe"
    return f"{short} Others failed: {_told(failures)}" if failures else short


def _measured(outcomes: Sequence[Outcome]) -> list[Measurement]:
    """The measurements of each candidate as one, without those that failed or were given up."""
    failures = [o for o in outcomes if not isinstance(o, Measurement)]
    stops = [o for o in failures if isinstance(o, Failure) and o.kind == "stopped"]
    often = Counter(stop.candidate for stop in stops)
    failed = {o.candidate for o in failures if o not in stops}
    failed |= {candidate for candidate, count in often.items() if count >= MOST_STOPS}
    kept = [o for o in outcomes if isinstance(o, Measurement) and o.candidate not in failed]
    return list(pooled(kept).values())


def _told(failures: Sequence[Failure]) -> str:
    """The first failure in words, and how many other candidates failed."""
    first, more = failures[0], len({failure.candidate for failure in failures}) - 1
    others = f", and {more} more" if more else ""
    return f"{first.message or first.kind} ({first.candidate}{others})"
