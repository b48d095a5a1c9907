"""The curves of a record: figures worked out by hand, and no record that has none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given

from autotune.curves import LaneCurve, Point, curves_of, leading, steps_of
from autotune.goal import Goal
from autotune.outcomes import Candidate, Failure, FailureKind, Measurement, Outcome, OutOfMemory
from autotune.records import Forecast, Round, TuningRecord
from tests.test_records import RECORDS
from tests.tunings import recommending, replaced, tuned_on

EIGHT = Candidate(8)


def of(*outcomes: Outcome, goal: Goal = Goal(), **fields: object) -> TuningRecord:  # noqa: B008
    """A record of some outcomes, without an answer."""
    record = TuningRecord(goal=goal, outcomes=outcomes, recommendation=None)
    found: TuningRecord = replaced(record, **fields)
    return found


def block(seconds: float, size: int = 8, *, calls: int = 2, disturbed: int = 0) -> Measurement:
    """A block of equal calls."""
    return Measurement(Candidate(size), (seconds,) * calls, disturbed=disturbed)


def only_point(record: TuningRecord) -> Point:
    """The point of a record with one candidate."""
    ((point,),) = (curve.points for curve in curves_of(record))
    return point


def test_the_figures_of_three_blocks_are_those_worked_out_by_hand() -> None:
    """Two blocks of 80 rows/s and one of 40: the trimmed mean of their logarithms, and t's 95 %.

    With two degrees of freedom t is 4.303, and the logarithms scatter by log(2) / sqrt(3).
    """
    point = only_point(of(block(0.1), block(0.1), block(0.2)))
    half = 4.303 * (math.log(2) / math.sqrt(3)) / math.sqrt(3)
    assert point.rows_per_s == pytest.approx(80)
    assert point.rows_per_s_low == pytest.approx(80 / math.exp(half))
    assert point.rows_per_s_high == pytest.approx(80 * math.exp(half))
    assert (point.latency_s, point.latency_quantile_s) == (0.1, 0.2)
    assert (point.calls, point.blocks, point.disturbed) == (6, 3, 0.0)


def test_two_blocks_have_a_speed_and_no_interval() -> None:
    """From fewer than three blocks there is no interval; the mean is that of the logarithms."""
    point = only_point(of(block(0.1), block(0.4)))
    assert point.rows_per_s == pytest.approx(40)  # the geometric mean of 80 and 20
    assert (point.rows_per_s_low, point.rows_per_s_high) == (None, None)


def test_disturbed_blocks_are_left_out_where_three_calm_ones_are_left() -> None:
    """A disturbed block tells nothing of speed and latency, but is counted."""
    disturbed = block(1.0, disturbed=2)
    calm = only_point(of(block(0.1), block(0.1), block(0.1), disturbed))
    assert calm.rows_per_s == pytest.approx(80)
    assert calm.latency_quantile_s == 0.1
    assert (calm.calls, calm.blocks, calm.disturbed) == (8, 4, 0.25)
    short = only_point(of(block(0.1), block(0.1), disturbed))
    assert short.latency_quantile_s == 1.0


def test_a_quantile_is_that_of_the_goal() -> None:
    """The latency is told at the goal's quantile."""
    outcome = Measurement(EIGHT, tuple(float(n) for n in range(1, 11)))
    assert only_point(of(outcome, goal=Goal(quantile=0.5))).latency_quantile_s == 6.0
    assert only_point(of(outcome, goal=Goal(quantile=0.9))).latency_quantile_s == 10.0


def test_figures_over_a_limit_are_told() -> None:
    """A point says which of the goal's limits it is over."""
    outcome = Measurement(EIGHT, (0.1, 0.1), host_peak_bytes=2**30)
    record = of(outcome, goal=Goal(latency_budget_s=0.05), memory_limit_bytes=2**29)
    assert only_point(record).over == ("latency", "memory")
    assert only_point(replaced(record, goal=Goal(), memory_limit_bytes=2**30)).over == ()


def test_who_ran_out_of_memory_once_is_not_measured() -> None:
    """A size that failed is not feasible because it went well another time."""
    point = only_point(of(block(0.1), OutOfMemory(EIGHT, message="no more")))
    assert (point.outcome, point.message, point.rows_per_s) == ("out_of_memory", "no more", None)


@pytest.mark.parametrize("kind", ["timeout", "crash", "model_error", "mismatch", "stopped"])
def test_a_failure_is_told_by_its_kind(kind: FailureKind) -> None:
    """Each kind of failure is an outcome of its own."""
    assert only_point(of(Failure(EIGHT, kind=kind))).outcome == kind


def test_who_was_stopped_for_others_is_measured_all_the_same() -> None:
    """That others took the memory once says nothing against a candidate that ran."""
    point = only_point(of(Failure(EIGHT, kind="stopped"), block(0.1)))
    assert point.outcome == "measured"
    assert point.rows_per_s == pytest.approx(80)


def test_forecasts_stand_beside_the_peaks_and_refusals_are_points() -> None:
    """A candidate that was refused for its forecast was never run, and is on the curve."""
    met = Forecast(candidate=EIGHT, upper_bound_bytes=900, peak_bytes=800, limit_bytes=1000)
    refused = Forecast(
        candidate=Candidate(16), upper_bound_bytes=1800, peak_bytes=None, limit_bytes=1000
    )
    outcome = Measurement(EIGHT, (0.1, 0.1), device_peak_bytes=800)
    ((small, large),) = (c.points for c in curves_of(of(outcome, forecasts=(refused, met))))
    assert (small.peak_bytes, small.forecast_bytes, small.outcome) == (800, 900, "measured")
    assert (large.peak_bytes, large.forecast_bytes, large.outcome) == (None, 1800, "refused")


def test_baselines_are_on_no_curve() -> None:
    """What was timed only beside the answer was never a candidate."""
    rounds = Round("search", 1, 0), Round("confirm", 2, 0)
    baseline = Measurement(Candidate(1024, "predict"), (0.1, 0.1))
    record = of(block(0.1), block(0.1), baseline, rounds=rounds)
    assert [curve.engine for curve in curves_of(record)] == ["keras"]
    assert only_point(record).blocks == 2


def test_sizes_of_a_lane_rise_and_lanes_keep_their_order() -> None:
    """Each lane is one curve, by rising batch size; the first that was tried comes first."""
    compiled = Measurement(Candidate(8, "compiled", concurrency=2), (0.1,))
    first, second = curves_of(of(block(0.1, 16), compiled, block(0.1, 4), block(0.1, 16)))
    assert [point.candidate.batch_size for point in first.points] == [4, 16]
    assert (first.name, second.name) == ("keras", "compiled, 2 in flight")


def names(curves: Sequence[LaneCurve]) -> list[str]:
    """The lanes of some curves, in words."""
    return [curve.name for curve in curves]


def lane(seconds: float, engine: str = "keras", flights: int = 1) -> Measurement:
    """A block of eight rows in some lane."""
    return Measurement(Candidate(8, engine, concurrency=flights), (seconds, seconds))


def test_the_best_lane_of_an_engine_leads_it() -> None:
    """Of the lanes of an engine the fastest leads; the faster engine comes first."""
    record = of(lane(0.2), lane(0.1, "keras", 2), lane(0.05, "xla"), lane(0.09, "xla", 2))
    assert names(leading(curves_of(record), record)) == ["xla", "keras, 2 in flight"]


def test_the_chosen_lane_leads_whoever_is_faster() -> None:
    """The chosen lane comes first, and stands for its engine."""
    outcomes = lane(0.2), lane(0.1, "keras", 2), lane(0.05, "xla")
    record = recommending(tuned_on(None, None, outcomes=outcomes), Candidate(8))
    assert names(leading(curves_of(record), record)) == ["keras", "xla"]


def test_a_lane_within_the_limits_leads_a_faster_one_that_is_over_them() -> None:
    """What may not be used does not stand for its engine, unless all of it is so."""
    slow = Measurement(Candidate(1), (0.02, 0.02))
    fast = Measurement(Candidate(100, concurrency=2), (0.2, 0.2))
    record = of(slow, fast, goal=Goal(latency_budget_s=0.05))
    assert names(leading(curves_of(record), record)) == ["keras"]
    record = replaced(record, goal=Goal())
    assert names(leading(curves_of(record), record)) == ["keras, 2 in flight"]
    record = replaced(record, goal=Goal("latency"))
    assert names(leading(curves_of(record), record)) == ["keras"]


def test_steps_tell_when_each_probe_began_and_what_it_was_for() -> None:
    """Probes follow each other in time, each with its purpose and what came of it."""
    outcomes = (
        Measurement(EIGHT, (0.1, 0.1), elapsed_s=0.5),
        OutOfMemory(Candidate(16), elapsed_s=2.0),
        Measurement(EIGHT, (0.1, 0.1), elapsed_s=0.5, disturbed=1),
    )
    rounds = Round("search", 2, 0), Round("confirm", 1, 1)
    steps = steps_of(of(*outcomes, rounds=rounds))
    assert [step.start_s for step in steps] == [0.0, 0.5, 2.5]
    assert [step.purpose for step in steps] == ["search", "search", "confirm"]
    assert [step.outcome for step in steps] == ["measured", "out_of_memory", "measured"]
    assert [step.disturbed for step in steps] == [False, False, True]
    assert [step.rows_per_s for step in steps] == [pytest.approx(80), None, pytest.approx(80)]


@pytest.mark.parametrize("counts", [(2,), (10**12,), (-1, 2), (2, -1)])
def test_rounds_that_do_not_add_up_are_passed_over(counts: tuple[int, ...]) -> None:
    """A record whose rounds are not those of its outcomes still has its curves, at once."""
    rounds = tuple(Round("confirm", count, 0) for count in counts)
    record = of(block(0.1), rounds=rounds)
    assert [step.purpose for step in steps_of(record)] == ["search"]
    assert only_point(record).is_measured


@given(RECORDS)
def test_any_record_has_curves(record: TuningRecord) -> None:
    """Sizes of a curve rise, each once; every engine has one leading lane; steps do not overlap."""
    curves = curves_of(record)
    for curve in curves:
        sizes = [point.candidate.batch_size for point in curve.points]
        assert sizes == sorted(set(sizes))
    engines = [curve.engine for curve in leading(curves, record)]
    assert sorted(engines) == sorted({curve.engine for curve in curves})
    starts = [step.start_s for step in steps_of(record)]
    assert starts == sorted(starts)
    assert len(starts) == len(record.outcomes)
