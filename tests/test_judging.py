"""What outcomes mean for a goal: values, limits, quantiles."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune import Candidate, Failure, Goal, Measurement, OutOfMemory
from autotune.judging import (
    curve_of,
    excesses,
    is_allowed,
    latency_quantile_s,
    makespan_s,
    merged,
    pooled,
    quantile_verdict,
    speed_of,
    trimmed_mean,
    value_of,
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
    (whole,) = pooled([first, second]).values()
    assert whole.times_s == first.times_s + second.times_s
    assert (whole.device_peak_bytes, whole.elapsed_s) == (7, 3)
    assert whole.rows_per_s == pytest.approx(8 * 20 / 4)


def test_what_failed_once_is_not_trusted() -> None:
    """A size that ran out of memory is out, although it also went well."""
    good = measured(8, 0.1)
    assert pooled([good, OutOfMemory(good.candidate)]) == {}
    assert pooled([Failure(good.candidate, kind="timeout"), good]) == {}


def test_a_makespan_counts_the_short_last_batch() -> None:
    """100 rows by 64: a full batch, and 36 rows read off the curve."""
    curve = curve_of({m.candidate: m for m in (measured(32, 0.032), measured(64, 0.064))})
    assert makespan_s(Candidate(64), 1000, 100, curve) == pytest.approx(0.1)
    assert makespan_s(Candidate(32), 1000, 96, curve) == pytest.approx(0.096)


def test_a_makespan_counts_batches_in_flight_in_waves() -> None:
    """Three batches with two in flight take two waves."""
    pair = measured(10, 0.1, concurrency=2, span_s=0.5)  # 10 calls in 5 waves
    curve = curve_of({pair.candidate: pair})
    assert makespan_s(pair.candidate, speed_of(pair), 30, curve) == pytest.approx(0.2)


def test_a_makespan_counts_compilation_once_for_an_engine_and_size() -> None:
    """What the first call takes more than the slowest later one counts, whoever made it."""
    alone = measured(10, 0.1, first_call_s=2.1)
    pair = measured(10, 0.1, first_call_s=0.1, concurrency=2, span_s=0.5)
    both = curve_of({m.candidate: m for m in (alone, pair)})
    assert makespan_s(alone.candidate, 100, 10, both) == pytest.approx(2.1)
    assert makespan_s(pair.candidate, 200, 20, both) == pytest.approx(2.1)


def test_values_rise_with_what_the_objective_asks() -> None:
    """More rows per second, less time for a job, less latency: each is a larger value."""
    small, large = measured(1, 0.01), measured(100, 0.1)
    both = curve_of({m.candidate: m for m in (small, large)})
    for goal, better in (
        (Goal(), large),
        (Goal("makespan", rows=200), large),
        (Goal("latency"), small),
    ):
        assert max((small, large), key=lambda m: value_of(m, goal, both)) == better


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


def test_a_call_that_something_interrupted_does_not_count_as_speed() -> None:
    """A fifth of the calls at each end is left out, and one of three at least."""
    assert trimmed_mean([1.0, 1.0, 9.0]) == 1.0
    assert trimmed_mean([1.0, 3.0]) == 2.0
    assert trimmed_mean([0.0, 1.0, 2.0, 3.0, 100.0]) == pytest.approx(2.0)
    hiccups = Measurement(Candidate(10), (0.1,) * 9 + (5.0,))
    assert speed_of(hiccups) == pytest.approx(100)


def test_batches_in_flight_share_their_time() -> None:
    """Two in flight that overlap wholly have twice the speed of their calls."""
    pair = measured(10, 0.1, concurrency=2, span_s=0.5)
    assert speed_of(pair) == pytest.approx(200)


def test_speed_is_that_of_processors_that_were_not_held_up() -> None:
    """One call at a time or several, and where only some of what is put together lost any."""
    held_up = Measurement(Candidate(10), (1.0, 3.0, 1.0, 9.0), lost_s=(0.0, 2.0, 0.0, 8.0))
    assert speed_of(held_up) == pytest.approx(10)
    assert held_up.latency_s == 2.0
    together = merged([held_up, Measurement(Candidate(10), (1.0,) * 4)])
    assert together.lost_s == (*held_up.lost_s, 0.0, 0.0, 0.0, 0.0)
    assert speed_of(together) == pytest.approx(10)
    way = Candidate(10, concurrency=2)
    two = Measurement(way, (1.0, 1.0, 3.0, 3.0), span_s=4.0, lost_s=(0.0, 0.0, 2.0, 2.0))
    assert speed_of(two) == pytest.approx(20)


def test_of_calls_in_flight_none_is_slow_alone() -> None:
    """Where three share two processors one waits: what it takes is what the others took less."""
    wave = (0.1, 0.1, 0.4)
    three = Measurement(Candidate(10, concurrency=3), wave * 4, span_s=4 * 0.6 / 3)
    assert speed_of(three) == pytest.approx(150)
    hiccup = Measurement(Candidate(10, concurrency=3), wave * 3 + (1.0, 1.0, 4.0), span_s=5.0)
    assert speed_of(hiccup) == pytest.approx(hiccup.rows_per_s * 3.25)
    at_the_end = Measurement(Candidate(10, concurrency=2), (1.0,) * 4 + (10.0,), span_s=11.5)
    assert speed_of(at_the_end) == pytest.approx(at_the_end.rows_per_s * 2.8)
    cut_short = Measurement(Candidate(10, concurrency=3), (0.1, 0.4), span_s=0.4)
    assert speed_of(cut_short) == cut_short.rows_per_s


@pytest.mark.parametrize(("quantile", "calls"), [(0.9, 29), (0.95, 59), (0.99, 299)])
def test_a_quantile_needs_so_many_calls(quantile: float, calls: int) -> None:
    """With none over the limit, so many calls pass and one less is undecided."""
    assert quantile_verdict(calls, 0, quantile) == "pass"
    assert quantile_verdict(calls - 1, 0, quantile) == "undecided"


def test_calls_over_the_limit_speak_against_a_quantile() -> None:
    """Few of many may exceed the limit; as many as the quantile allows decide nothing."""
    assert quantile_verdict(1000, 30, 0.95) == "pass"
    assert quantile_verdict(1000, 50, 0.95) == "undecided"
    assert quantile_verdict(1000, 70, 0.95) == "fail"
    assert quantile_verdict(2, 2, 0.95) == "fail"


@given(st.integers(1, 500), st.data(), st.floats(0.5, 0.99))
def test_more_calls_over_the_limit_never_help(
    calls: int, data: st.DataObject, quantile: float
) -> None:
    """The verdict falls from pass over undecided to fail as more calls exceed the limit."""
    over = data.draw(st.integers(0, calls - 1))
    ranks = ["fail", "undecided", "pass"]
    first, second = (ranks.index(quantile_verdict(calls, n, quantile)) for n in (over, over + 1))
    assert second <= first
