"""What one outcome means for a goal: how fast it is, whether it is within the limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

import numpy as np

from autotune.goal import Goal
from autotune.outcomes import Candidate, Failure, Measurement, Outcome, OutOfMemory
from autotune.units import format_share

TRIMMED = 0.2  # of the calls at each end: a call that something interrupted says nothing of speed
ERROR = 0.05  # chance that a verdict on a quantile is wrong

# A first call takes a millisecond or two more at any size, for memory; XLA compiles a tiny net in
# 65 to 280 ms. What lies between is counted, what lies below would drown the job in noise.
COMPILES_S = 0.010

Lane = tuple[str, int, int | None]
Verdict = Literal["pass", "fail", "undecided"]


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
    return {candidate: merged(parts) for candidate, parts in by_candidate.items()}


def merged(parts: Sequence[Measurement]) -> Measurement:
    """Return the measurements of one candidate as one."""
    if len(parts) == 1:
        return parts[0]
    return Measurement(
        parts[0].candidate,
        tuple(itertools.chain.from_iterable(part.times_s for part in parts)),
        span_s=sum(part.span_s or sum(part.times_s) for part in parts),
        lost_s=_lost_s(parts),
        first_call_s=parts[0].first_call_s,
        elapsed_s=sum(part.elapsed_s for part in parts),
        device_peak_bytes=_highest([part.device_peak_bytes for part in parts]),
        host_peak_bytes=_highest([part.host_peak_bytes for part in parts]),
        device_idle_bytes=_highest([part.device_idle_bytes for part in parts]),
        host_idle_bytes=_highest([part.host_idle_bytes for part in parts]),
        device_left_bytes=_highest([part.device_left_bytes for part in parts]),
        device_waste_bytes=max(part.device_waste_bytes for part in parts),
        disturbed=sum(part.disturbed for part in parts),
        warnings=tuple(dict.fromkeys(w for part in parts for w in part.warnings)),
        largest_error=max(part.largest_error for part in parts),
        changed_classes=max(
            (p.changed_classes for p in parts if p.changed_classes is not None), default=None
        ),
    )


def _lost_s(parts: Sequence[Measurement]) -> tuple[float, ...]:
    if not any(part.lost_s for part in parts):
        return ()
    none_s = ((0.0,) * len(part.times_s) for part in parts)
    each = (part.lost_s or none for part, none in zip(parts, none_s, strict=True))
    return tuple(itertools.chain.from_iterable(each))


def _highest(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def trimmed_mean(values: Sequence[float]) -> float:
    """Mean without a fifth of the values at each end, and at least one of three."""
    cut = max(int(TRIMMED * len(values)), int(len(values) > 2))
    kept = sorted(values)[cut : len(values) - cut]
    return math.fsum(kept) / len(kept)


def speed_of(measurement: Measurement) -> float:
    """Rows per second of calls that nothing interrupted: by the trimmed mean of the calls.

    What they lost while the processors were held up is taken away first. Of calls in flight by
    that of as many as were in flight: where they share processors one is quick because another is
    slow.
    """
    times, together = measurement.running_s, measurement.candidate.concurrency
    if measurement.span_s is None:
        return measurement.candidate.batch_size / trimmed_mean(times)
    waves = [fmean(times[n : n + together]) for n in range(0, len(times), together)]
    return measurement.rows_per_s * fmean(measurement.times_s) / trimmed_mean(waves)


def latency_quantile_s(measurement: Measurement, quantile: float) -> float:
    """Seconds of a call at a quantile, rounded up to a call that happened."""
    return float(np.quantile(measurement.times_s, quantile, method="higher"))


def quantile_verdict(calls: int, over: int, quantile: float) -> Verdict:
    """Whether a quantile is within its limit, when so many of the calls were over it.

    By order statistics, whatever the distribution: "pass" where so few calls over the limit
    would be a chance of 5 % at most if the quantile were above it, "fail" where so many would
    be if it were within. For "pass" with no call over the limit, p90 needs 29 calls, p95 59
    and p99 299. Calls that follow each other are not independent: take these as minimum.

    Example:
        >>> quantile_verdict(58, 0, 0.95), quantile_verdict(59, 0, 0.95)
        ('undecided', 'pass')
        >>> quantile_verdict(3, 3, 0.95)
        'fail'
    """
    share = 1 - quantile
    if _binomial_at_most(over, calls, share) <= ERROR:
        return "pass"
    if over and 1 - _binomial_at_most(over - 1, calls, share) <= ERROR:
        return "fail"
    return "undecided"


def _binomial_at_most(count: int, trials: int, probability: float) -> float:
    """Chance of at most `count` successes, summed from logarithms: trials run into thousands."""
    log_p, log_q = math.log(probability), math.log1p(-probability)
    total = 0.0
    for k in range(count + 1):
        ways = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        total += math.exp(ways + k * log_p + (trials - k) * log_q)
    return min(1.0, total)


def excesses(outcome: Outcome, goal: Goal, memory_limit_bytes: int | None) -> dict[str, float]:
    """How far an outcome is over each limit, as a log ratio; allowed where none is above 0.

    Returns:
        A number for each of "latency", "memory" and "runs", whether there is such a limit or
        not. A candidate that did not run at all is over by 1, a factor of 2.7.
    """
    none = {"latency": 0.0, "memory": 0.0, "runs": 0.0}
    stopped = isinstance(outcome, Failure) and outcome.kind == "stopped"
    if isinstance(outcome, OutOfMemory) or stopped:
        return none | {"memory": 1.0}
    if isinstance(outcome, Failure):
        return none | {"runs": 1.0}
    if goal.latency_budget_s is not None:
        at_quantile = latency_quantile_s(outcome, goal.quantile)
        none["latency"] = math.log(at_quantile / goal.latency_budget_s)
    if memory_limit_bytes is not None and outcome.peak_bytes is not None:
        none["memory"] = math.log(max(1, outcome.peak_bytes) / max(1, memory_limit_bytes))
    return none


def is_allowed(outcome: Outcome, goal: Goal, memory_limit_bytes: int | None) -> bool:
    """Whether an outcome is within all limits."""
    return max(excesses(outcome, goal, memory_limit_bytes).values()) <= 0


class Curve:
    """What the size of a job makes of a batch's speed: first calls, and the short last batch.

    Args:
        latency_s: Seconds of a call of each candidate.
        first_call_extra_s: What the first call of a candidate took more than the slowest later
            one.
    """

    def __init__(
        self, latency_s: Mapping[Candidate, float], first_call_extra_s: Mapping[Candidate, float]
    ) -> None:
        self._lines: dict[Lane, list[tuple[int, float]]] = {}
        for candidate, seconds in latency_s.items():
            self._lines.setdefault(lane_of(candidate), []).append((candidate.batch_size, seconds))
        self._compile_s: dict[tuple[str, int], float] = {}
        for candidate, seconds in first_call_extra_s.items():
            key = candidate.engine, candidate.batch_size
            if seconds >= COMPILES_S:
                self._compile_s[key] = max(seconds, self._compile_s.get(key, 0.0))

    def compile_s(self, candidate: Candidate) -> float:
        """Seconds of compiling a size: once for all batches in flight, by whoever comes first."""
        return self._compile_s.get((candidate.engine, candidate.batch_size), 0.0)

    def share_of_batch(self, rows: int, candidate: Candidate) -> float:
        """Seconds of a batch of fewer rows as a share of those of the candidate's batch.

        In a straight line between the sizes of its lane; smaller ones take as long as the smallest.
        """
        if rows == 0:
            return 0.0
        sizes, seconds = zip(*sorted(self._lines[lane_of(candidate)]), strict=True)
        short_s, full_s = np.interp([rows, candidate.batch_size], sizes, seconds)
        return float(short_s / full_s)


def curve_of(measured: Mapping[Candidate, Measurement]) -> Curve:
    """Return the curve through some measurements."""
    return Curve(
        {c: m.latency_s for c, m in measured.items()},
        {c: first_call_extra_s(m) for c, m in measured.items()},
    )


def first_call_extra_s(measurement: Measurement) -> float:
    """What the first call took more than the slowest later one, in seconds."""
    return measurement.first_call_s - max(measurement.times_s)


def value_of(measurement: Measurement, goal: Goal, curve: Curve | None = None) -> float:
    """What the goal's objective says of a measurement; more is better.

    Rows per second for "throughput" and "makespan" (there, of the whole job), batches per
    second at the quantile for "latency".

    Args:
        measurement: What is judged.
        goal: What to maximise.
        curve: For "makespan", what is known of other sizes; by default nothing.
    """
    if goal.objective == "throughput":
        return speed_of(measurement)
    if goal.objective == "latency":
        return 1 / latency_quantile_s(measurement, goal.quantile)
    curve = curve or curve_of({measurement.candidate: measurement})
    rows = goal.rows or 1
    return rows / makespan_s(measurement.candidate, speed_of(measurement), rows, curve)


def value_name(goal: Goal) -> str:
    """What `value_of` gives for a goal, in words.

    Example:
        >>> value_name(Goal("latency"))
        'batches/s at the 95% quantile'
    """
    return {
        "throughput": "rows/s",
        "makespan": "rows/s of the whole job",
        "latency": f"batches/s at the {format_share(goal.quantile)} quantile",
    }[goal.objective]


def makespan_s(candidate: Candidate, rows_per_s: float, rows: int, curve: Curve) -> float:
    """Seconds for `rows` rows: the first call's extra, the full batches, the short last one."""
    batches, rest = divmod(rows, candidate.batch_size)
    waves, left = divmod(batches, candidate.concurrency)  # batches in flight come in waves
    wave_s = candidate.concurrency * candidate.batch_size / rows_per_s
    last_s = wave_s * (1.0 if left else curve.share_of_batch(rest, candidate))
    return curve.compile_s(candidate) + waves * wave_s + last_s
