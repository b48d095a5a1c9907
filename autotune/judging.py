"""What outcomes mean for a goal: what is within the limits, what is better, how sure that is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from autotune.goal import Goal
from autotune.outcomes import Candidate, Failure, Measurement, Outcome, OutOfMemory

# 97.5 % points of Student's t for 1 to 9 degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
_BLOCKS = len(_T) + 1

# A first call takes a millisecond or two more at any size, for memory; XLA compiles a tiny net in
# 65 to 280 ms. What lies between is counted, what lies below would drown the job in noise.
COMPILES_S = 0.010

Lane = tuple[str, int, int | None]


def lane_of(candidate: Candidate) -> Lane:
    """All of a candidate but its batch size: candidates of one lane make one curve."""
    return candidate.engine, candidate.concurrency, candidate.threads


def pooled(outcomes: Sequence[Outcome]) -> dict[Candidate, Measurement]:
    """Put the measurements of each candidate together, without those that ever failed.

    A size that ran out of memory once is not feasible because it went well another time.
    """
    failed = {o.candidate for o in outcomes if not isinstance(o, Measurement)}
    by_candidate: dict[Candidate, list[Measurement]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Measurement) and outcome.candidate not in failed:
            by_candidate.setdefault(outcome.candidate, []).append(outcome)
    return {candidate: _merge(parts) for candidate, parts in by_candidate.items()}


def _merge(parts: Sequence[Measurement]) -> Measurement:
    if len(parts) == 1:
        return parts[0]
    return Measurement(
        parts[0].candidate,
        tuple(itertools.chain.from_iterable(part.times_s for part in parts)),
        span_s=sum(part.span_s or sum(part.times_s) for part in parts),
        first_call_s=parts[0].first_call_s,
        elapsed_s=sum(part.elapsed_s for part in parts),
        device_peak_bytes=_highest([part.device_peak_bytes for part in parts]),
        host_peak_bytes=_highest([part.host_peak_bytes for part in parts]),
        disturbed=sum(part.disturbed for part in parts),
        warnings=tuple(dict.fromkeys(w for part in parts for w in part.warnings)),
    )


def _highest(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def latency_quantile_s(measurement: Measurement, quantile: float) -> float:
    """Seconds of a call at a quantile, rounded up to a call that happened."""
    return float(np.quantile(measurement.times_s, quantile, method="higher"))


def excesses(outcome: Outcome, goal: Goal, memory_limit_bytes: int | None) -> dict[str, float]:
    """How far an outcome is over each limit, as a log ratio; allowed where none is above 0.

    Returns:
        A number for each of "latency", "memory" and "runs", whether there is such a limit or
        not. A candidate that did not run at all is over by 1, a factor of 2.7.
    """
    none = {"latency": 0.0, "memory": 0.0, "runs": 0.0}
    if isinstance(outcome, OutOfMemory):
        return none | {"memory": 1.0}
    if isinstance(outcome, Failure):
        return none | {"runs": 1.0}
    if goal.latency_budget_s is not None:
        at_quantile = latency_quantile_s(outcome, goal.quantile)
        none["latency"] = math.log(at_quantile / goal.latency_budget_s)
    if memory_limit_bytes is not None and outcome.peak_bytes is not None:
        none["memory"] = math.log(max(1, outcome.peak_bytes) / memory_limit_bytes)
    return none


def is_allowed(outcome: Outcome, goal: Goal, memory_limit_bytes: int | None) -> bool:
    """Whether an outcome is within all limits."""
    return max(excesses(outcome, goal, memory_limit_bytes).values()) <= 0


def values_of(measured: Mapping[Candidate, Measurement], goal: Goal) -> dict[Candidate, float]:
    """What the goal's objective says of each candidate; more is better.

    Rows per second for "throughput" and "makespan" (there, of the whole job), batches per
    second at the quantile for "latency".
    """
    if goal.objective == "throughput":
        return {c: m.rows_per_s for c, m in measured.items()}
    if goal.objective == "latency":
        return {c: 1 / latency_quantile_s(m, goal.quantile) for c, m in measured.items()}
    rows = goal.rows or 1
    return {c: rows / makespan_s(m, rows, measured) for c, m in measured.items()}


def makespan_s(
    measurement: Measurement, rows: int, measured: Mapping[Candidate, Measurement]
) -> float:
    """Seconds for `rows` rows: the first call's extra, the full batches, the short last one."""
    candidate = measurement.candidate
    batches, rest = divmod(rows, candidate.batch_size)
    waves, left = divmod(batches, candidate.concurrency)  # batches in flight come in waves
    wave_s = candidate.concurrency * candidate.batch_size / measurement.rows_per_s
    last_s = wave_s if left else _seconds_of(rest, measurement, measured)
    return _compile_s(candidate, measured) + waves * wave_s + last_s


def _compile_s(candidate: Candidate, measured: Mapping[Candidate, Measurement]) -> float:
    """What the first call at a size takes more than the slowest later one.

    A graph is compiled once for all batches in flight, by whoever comes first.
    """
    extras_s = [
        m.first_call_s - max(m.times_s)
        for c, m in measured.items()
        if (c.engine, c.batch_size) == (candidate.engine, candidate.batch_size)
    ]
    return max((extra_s for extra_s in extras_s if extra_s >= COMPILES_S), default=0.0)


def _seconds_of(
    rows: int, measurement: Measurement, measured: Mapping[Candidate, Measurement]
) -> float:
    """Seconds of a short batch, in a straight line between the measured sizes of the lane."""
    if rows == 0:
        return 0.0
    lane = lane_of(measurement.candidate)
    curve = {c.batch_size: m.latency_s for c, m in measured.items() if lane_of(c) == lane}
    curve[measurement.candidate.batch_size] = measurement.latency_s
    sizes = sorted(curve)
    return float(np.interp(rows, sizes, [curve[size] for size in sizes]))


def interval(measurement: Measurement) -> tuple[float, float] | None:
    """95 % interval of the rows per second; None for a single call.

    The calls are cut into up to ten blocks in their order, and Student's t is applied to the
    logarithms of the blocks' speeds: blocks, because neighbouring calls are not independent.
    """
    times = np.array(measurement.times_s)
    blocks = min(_BLOCKS, len(times))
    if blocks < 2:
        return None
    logs = np.log([block.mean() for block in np.array_split(times, blocks)])
    half = _T[blocks - 2] * float(logs.std(ddof=1)) / math.sqrt(blocks)
    return measurement.rows_per_s * math.exp(-half), measurement.rows_per_s * math.exp(half)
