"""The choice, and why: the smallest batch size that is not worse than the best, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

from autotune.comparing import LEAST_NOISE, t_quantile
from autotune.confirming import ROUNDS, Confirmation
from autotune.errors import NoFeasibleBatchSize
from autotune.goal import Goal
from autotune.judging import excesses, lane_of, latency_quantile_s
from autotune.outcomes import Block, Candidate, Measurement, Outcome
from autotune.racing import unresolved
from autotune.records import LimitedBy, Recommendation, Round
from autotune.shortfall import why_nothing
from autotune.standing import OFTEN, Standing
from autotune.units import format_rate, format_seconds, format_share


def recommend(
    standing: Standing,
    refused: Mapping[Candidate, int] | None = None,
    pending: Sequence[Candidate] = (),
) -> Recommendation:
    """Choose: the smallest batch size that is not worse than the best by more than the tolerance.

    Args:
        standing: What is known.
        refused: Candidates that were not tried, with the forecast of their memory in bytes.
        pending: What the search would have timed next, had there been time; then the answer is
            not settled.

    Raises:
        NoFeasibleBatchSize: Nothing that was tried is within the limits.
    """
    outcomes = [block.outcome for block in standing.blocks]
    chosen, best, goal = standing.chosen, standing.best, standing.goal
    refused = refused or {}
    if chosen is None or best is None:
        limit = standing.memory_limit_bytes
        raise NoFeasibleBatchSize(why_nothing(outcomes, goal, limit, refused))
    confirmation = Confirmation(standing, chosen)
    every, fresh = standing.measured[chosen], confirmation.measurement(chosen)
    speed = confirmation.speed(chosen) or confirmation.speed_in_search()
    latency_s = (fresh or every).latency_s
    limited_by = _limited_by(chosen, outcomes, goal, standing.memory_limit_bytes, refused)
    sure = not pending and confirmation.is_clean and standing.verdict(chosen) == "pass"
    return Recommendation(
        batch_size=chosen.batch_size,
        engine=chosen.engine,
        concurrency=chosen.concurrency,
        threads=chosen.threads,
        rows_per_s=speed.rows_per_s,
        rows_per_s_low=speed.low,
        rows_per_s_high=speed.high,
        latency_s=latency_s,
        latency_quantile_s=latency_quantile_s(standing.undisturbed(chosen), goal.quantile),
        peak_bytes=every.peak_bytes,
        limited_by=limited_by,
        tied=tuple(_tied(standing, chosen, best)),
        confidence="high" if sure else "low",
        more_s=None if sure else _more_s(standing, chosen, pending),
        reason=_reason(standing, chosen, best, speed.rows_per_s, latency_s, limited_by),
        makespan_s=_makespan_s(standing, chosen),
    )


def _makespan_s(standing: Standing, chosen: Candidate) -> float | None:
    if standing.goal.objective != "makespan":
        return None
    return (standing.goal.rows or 0) / math.exp(standing.levels[chosen])


def _tied(standing: Standing, chosen: Candidate, best: Candidate) -> list[Candidate]:
    """Candidates that are not known to be worse than the best by more than the tolerance."""
    return [
        candidate
        for candidate in standing.allowed
        if candidate != chosen and standing.gap(best, candidate).low <= standing.tolerance
    ]


def _more_s(standing: Standing, chosen: Candidate, pending: Sequence[Candidate]) -> float:
    """About how many more seconds would settle it, if the noise stays as it is."""
    exact = max(standing.tolerance / 2, LEAST_NOISE)
    enough = 2 * (t_quantile(20) * standing.fit.noise / exact) ** 2
    blocks = {c: max(2.0, enough - standing.times_tried(c)) for c in unresolved(standing)}
    for candidate in pending:
        blocks.setdefault(candidate, OFTEN)
    each_s = standing.known[chosen].elapsed_s
    seconds = ROUNDS * each_s  # to measure it afresh
    for candidate, count in blocks.items():
        known = standing.known.get(candidate)
        larger = max(1.0, candidate.batch_size / chosen.batch_size)
        seconds += count * (each_s + (known.elapsed_s if known else larger * each_s))
    return seconds


def rounds_of(blocks: Sequence[Block]) -> tuple[Round, ...]:
    """Return the rounds that blocks came in, in their order."""
    found = []
    for _, group in groupby(blocks, key=lambda block: (block.round, block.purpose)):
        row = list(group)
        measured = [b.outcome for b in row if isinstance(b.outcome, Measurement)]
        disturbed = sum(outcome.is_disturbed for outcome in measured)
        found.append(Round(row[0].purpose, len(row), disturbed))
    return tuple(found)


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
    standing: Standing,
    chosen: Candidate,
    best: Candidate,
    rows_per_s: float,
    latency_s: float,
    limited_by: LimitedBy,
) -> str:
    goal = standing.goal
    job_s = _makespan_s(standing, chosen) or 0.0
    what = {
        "throughput": format_rate(rows_per_s),
        "makespan": f"all {goal.rows or 0:,} rows in {format_seconds(job_s)}",
        "latency": f"the smallest latency, {format_seconds(latency_s)} a batch",
    }[goal.objective]
    sentences = [f"{chosen}: {what}."]
    if best != chosen:
        sentences.append(
            f"The best measured is {best}, but by no more than the tolerance of "
            f"{format_share(goal.tolerance)}."
        )
    sentences.append(
        {
            "plateau": "Larger batches gain nothing that counts.",
            "memory": "The next larger batch would not fit in memory: free some, or raise the "
            "memory budget, to try it.",
            "latency": "The next larger batch takes longer than "
            f"{format_seconds(goal.latency_budget_s or 0)} at the {format_share(goal.quantile)} "
            "quantile.",
            "max_batch_size": "It is the largest that was allowed: a larger max_batch_size may "
            "be faster.",
            "rows": "One batch holds the whole job.",
            "failure": "The next larger batch failed; its message is in the record.",
            "budget": "The time budget ended before a larger batch was tried: allow more to be "
            "sure.",
        }[limited_by]
    )
    return " ".join(sentences)
