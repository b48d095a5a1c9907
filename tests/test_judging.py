"""What outcomes mean for a goal: values, limits, intervals."""

from __future__ import annotations

import math
import random

import pytest

from autotune import Candidate, Failure, Goal, Measurement, OutOfMemory
from autotune.judging import (
    excesses,
    interval,
    is_allowed,
    latency_quantile_s,
    makespan_s,
    pooled,
    values_of,
)


def measured(size: int, call_s: float, **fields: object) -> Measurement:
    """A candidate whose calls all take the same time."""
    flights = fields.pop("concurrency", 1)
    candidate = Candidate(size, concurrency=flights)  # type: ignore[arg-type]
    return Measurement(candidate, (call_s,) * 10, **fields)  # type: ignore[arg-type]


def test_times_of_a_candidate_are_put_together() -> None:
    """Two measurements of one candidate are one with all its times and the higher peak."""
    first = measured(8, 0.1, device_peak_bytes=5, elapsed_s=1)
    second = measured(8, 0.3, device_peak_bytes=7, elapsed_s=2)
    (merged,) = pooled([first, second]).values()
    assert merged.times_s == first.times_s + second.times_s
    assert (merged.device_peak_bytes, merged.elapsed_s) == (7, 3)
    assert merged.rows_per_s == pytest.approx(8 * 20 / 4)


def test_what_failed_once_is_not_trusted() -> None:
    """A size that ran out of memory is out, although it also went well."""
    good = measured(8, 0.1)
    assert pooled([good, OutOfMemory(good.candidate)]) == {}
    assert pooled([Failure(good.candidate, kind="timeout"), good]) == {}


def test_a_makespan_counts_the_short_last_batch() -> None:
    """100 rows by 64: a full batch, and 36 rows read off the curve."""
    curve = {m.candidate: m for m in (measured(32, 0.032), measured(64, 0.064))}
    assert makespan_s(curve[Candidate(64)], 100, curve) == pytest.approx(0.1)
    assert makespan_s(curve[Candidate(32)], 96, curve) == pytest.approx(0.096)


def test_a_makespan_counts_batches_in_flight_in_waves() -> None:
    """Three batches with two in flight take two waves."""
    pair = measured(10, 0.1, concurrency=2, span_s=0.5)  # 10 calls in 5 waves
    assert makespan_s(pair, 30, {pair.candidate: pair}) == pytest.approx(0.2)


def test_a_makespan_counts_compilation_once_for_an_engine_and_size() -> None:
    """What the first call takes more than the slowest later one counts, whoever made it."""
    alone = measured(10, 0.1, first_call_s=2.1)
    pair = measured(10, 0.1, first_call_s=0.1, concurrency=2, span_s=0.5)
    both = {m.candidate: m for m in (alone, pair)}
    assert makespan_s(alone, 10, both) == pytest.approx(2.1)
    assert makespan_s(pair, 20, both) == pytest.approx(2.1)


def test_values_rise_with_what_the_objective_asks() -> None:
    """More rows per second, less time for a job, less latency: each is a larger value."""
    small, large = measured(1, 0.01), measured(100, 0.1)
    both = {m.candidate: m for m in (small, large)}
    for goal, better in (
        (Goal(), large),
        (Goal("makespan", rows=200), large),
        (Goal("latency"), small),
    ):
        values = values_of(both, goal)
        assert max(values, key=lambda c: values[c]) == better.candidate


def test_a_quantile_is_a_time_that_happened() -> None:
    """Between two calls the slower one counts, so a few calls do not look better than they are."""
    m = Measurement(Candidate(1), (0.1, 0.2, 0.3, 0.9))
    assert latency_quantile_s(m, 0.95) == 0.9
    assert latency_quantile_s(m, 0.5) == 0.3


def test_limits_are_log_ratios() -> None:
    """Twice the limit is log 2 over, half the limit as much under; nothing is left out."""
    goal = Goal(latency_budget_s=0.1)
    over = excesses(measured(1, 0.2, device_peak_bytes=50), goal, 100)
    assert over == {
        "latency": pytest.approx(math.log(2)),
        "memory": pytest.approx(-math.log(2)),
        "runs": 0.0,
    }
    assert not is_allowed(measured(1, 0.2), goal, None)
    assert is_allowed(measured(1, 0.1), goal, None)
    assert not is_allowed(OutOfMemory(Candidate(1)), Goal(), None)


def test_an_interval_holds_the_truth_nineteen_times_in_twenty() -> None:
    """Of 400 intervals over independent calls, at least nine in ten hold the true speed."""
    rng = random.Random(1)  # noqa: S311  noise, not a secret
    held = 0
    for _ in range(400):
        times = tuple(0.01 * math.exp(rng.gauss(0, 0.1)) for _ in range(50))
        low, high = interval(Measurement(Candidate(100), times)) or (0, 0)
        held += low <= 100 / (0.01 * math.exp(0.1**2 / 2)) <= high
    assert held >= 360


def test_one_call_gives_no_interval() -> None:
    """A single call says nothing of its spread."""
    assert interval(Measurement(Candidate(1), (0.1,))) is None
