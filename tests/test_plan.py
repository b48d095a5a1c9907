"""Plans: the setting, the replicas and the price, from a record alone."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune import Candidate, InvalidInput, Measurement, NoFeasibleBatchSize, TuningRecord
from autotune.outcomes import Rehearsal
from autotune.plan import Plan, plan_capacity
from autotune.served import FEW
from autotune.service import NOTHING, Overhead
from tests.batchers import record_of, serve, timed
from tests.tunings import MODEL, XEON, replaced

SIZES = (1, 8, 64, 256)


def record_with(
    call_s: float = 0.002, row_s: float = 0.0001, flights: int = 1, sizes: tuple[int, ...] = SIZES
) -> TuningRecord:
    """A record whose calls take so long, and so long for each row."""
    way = Candidate(sizes[-1], concurrency=flights)
    outcomes = [timed(n, call_s + n * row_s, concurrency=flights) for n in sizes]
    return record_of(way, call_s=call_s + sizes[-1] * row_s, outcomes=outcomes)


def quick(record: TuningRecord, rate: float = 10_000.0, limit_s: float = 0.1, **more: Any) -> Plan:
    """A plan for one rate alone, without what Python takes."""
    return plan_capacity(record, rate, limit_s, **{"rates": (), "overhead": NOTHING, **more})


PLANNED = quick(record_with(), price_per_hour=0.5)


def test_a_plan_meets_its_limit_with_replicas_for_the_rate_and_the_headroom() -> None:
    """They carry 1.2 times the rate, none too many, and the tail that is expected is within."""
    load = PLANNED.load
    assert load.replicas * PLANNED.requests_per_s >= 1.2 * 10_000
    assert (load.replicas - 1) * PLANNED.requests_per_s < 1.2 * 10_000
    assert load.latency_s < load.latency_quantile_low_s <= load.latency_quantile_s
    assert load.latency_quantile_s <= load.latency_quantile_high_s <= PLANNED.limit_s
    assert 0 < load.utilisation < 1
    assert 1 <= load.batch_rows <= PLANNED.batch_size
    assert load.cost_per_hour == 0.5 * load.replicas
    assert PLANNED.requests_per_s < PLANNED.rows_per_s_limit
    assert PLANNED.rows_per_s_limit == pytest.approx(256 / 0.0276, rel=0.01)


def test_the_setting_can_be_passed_as_it_is() -> None:
    """A MicroBatcher takes the plan's arguments, and is then set up as was planned."""
    for limit_s in (0.1, 0.02):
        record = record_with()
        plan = quick(record, limit_s=limit_s)
        _, batcher = serve(Candidate(256), record=record, **cast(Any, plan.arguments))
        with batcher:
            assert batcher.batch_size == plan.batch_size
            assert batcher.max_queue_rows == plan.max_queue_rows
            assert plan.max_wait_s in (None, batcher.max_wait_s)


def test_a_tight_limit_costs_replicas() -> None:
    """What must be answered sooner is answered in smaller batches, of which more are needed."""
    found = [quick(record_with(), limit_s=limit_s) for limit_s in (0.008, 0.02, 0.1, 1.0)]
    replicas = [plan.load.replicas for plan in found]
    assert replicas == sorted(replicas, reverse=True)
    assert replicas[0] > replicas[-1]
    assert [plan.saturates_first for plan in found[::3]] == ["latency", "model"]


def test_who_is_busy_with_requests_is_told_so() -> None:
    """Where Python takes longer for a request than the model for a row, that saturates first."""
    slow = Overhead(let_in_s=0.001, answer_s=0.001, batch_s=0.0, wake_s=0.0)
    plan = quick(record_with(), overhead=slow, limit_s=10.0)
    assert plan.saturates_first == "requests"
    assert plan.rows_per_s_limit < 1 / 0.002


def test_requests_of_several_rows_share_the_rows_of_a_batch() -> None:
    """A replica answers a quarter of the requests where each has four rows."""
    plan = quick(record_with(), rows_per_request=4, rate=2_500)
    assert plan.rows_per_s_limit == pytest.approx(PLANNED.rows_per_s_limit, rel=0.01)
    assert plan.requests_per_s == pytest.approx(PLANNED.requests_per_s / 4, rel=0.1)


def test_the_table_has_the_rate_among_others() -> None:
    """Rates rise, replicas and price with them, and the rate that was asked for is one."""
    plan = plan_capacity(record_with(), 5_000, 0.1, price_per_hour=2.0)
    assert [load.rate_per_s for load in plan.loads] == [10, 100, 1_000, 5_000, 10**4, 10**5, 10**6]
    assert plan.load in plan.loads
    replicas = [load.replicas for load in plan.loads]
    assert replicas == sorted(replicas)
    assert [load.cost_per_hour for load in plan.loads] == [2.0 * count for count in replicas]
    assert all(load.latency_quantile_s <= plan.limit_s for load in plan.loads)


def test_a_plan_is_the_same_again_and_goes_to_json() -> None:
    """The same record, wishes and seed give the same plan, which JSON keeps."""
    assert quick(record_with(), price_per_hour=0.5) == PLANNED
    assert msgspec.json.decode(msgspec.json.encode(PLANNED), type=Plan) == PLANNED


def test_a_limit_below_the_fastest_answer_is_refused_with_that() -> None:
    """The message says what a replica with nothing else to do takes."""
    with pytest.raises(NoFeasibleBatchSize, match=r"99 %.* 2\.00 ms.* 2\.10 ms for one of 1 row\."):
        quick(record_with(), limit_s=0.002)


@settings(max_examples=6)
@given(
    seconds=st.lists(st.floats(1e-5, 0.1), min_size=4, max_size=4),
    noise=st.lists(st.floats(1.0, 3.0), min_size=3, max_size=20),
    flights=st.integers(1, 3),
    rates=st.lists(st.floats(0.1, 1e7), min_size=3, max_size=3),
)
def test_any_curve_can_be_planned(
    seconds: list[float], noise: list[float], flights: int, rates: list[float]
) -> None:
    """For any curve and noise replicas carry the rate, and more are never fewer for more."""
    outcomes = [
        Measurement(Candidate(size, concurrency=flights), tuple(call_s * n for n in noise))
        for size, call_s in zip(SIZES, seconds, strict=True)
    ]
    record = record_of(
        Candidate(SIZES[-1], concurrency=flights), call_s=seconds[-1], outcomes=outcomes
    )
    plan = quick(record, rate=max(rates), limit_s=1.0, rates=rates, headroom=0.0)
    replicas = [load.replicas for load in plan.loads]
    assert replicas == sorted(replicas)
    for load in plan.loads:
        assert load.replicas >= load.rate_per_s / plan.rows_per_s_limit
        assert load.utilisation <= 1
        assert load.latency_quantile_s <= plan.limit_s


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rate": 0.0}, "rate must be from 1e-06 to 1e[+]15, but got 0"),
        ({"rate": -5.0}, "-5"),
        ({"rate": float("nan")}, "nan"),
        ({"rates": (10.0, -1.0)}, "-1"),
        ({"limit_s": 0.0}, "limit_s must be positive"),
        ({"quantile": 1.0}, "at most 0.999, but got 1.0"),
        ({"quantile": 0.0}, "quantile"),
        ({"rows_per_request": 0}, "rows_per_request must be a whole number"),
        ({"rows_per_request": 1.5}, "1.5"),
        ({"headroom": -0.1}, "headroom must be from 0 to 1e[+]15, but got -0.1"),
        ({"price_per_hour": -1.0}, "price_per_hour must be from 0 to 1e[+]15, but got -1.0"),
        ({"price_per_hour": float("inf")}, "but got inf"),
        ({"headroom": 1e308}, "but got 1e[+]308"),
        ({"rate": 1e-305}, "but got 1e-305"),
        ({"seed": -1}, "seed must be 0 or more"),
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any], words: str) -> None:
    """The message names the argument and what came."""
    with pytest.raises(InvalidInput, match=words):
        quick(record_with(), **wrong)


def test_doubt_is_told() -> None:
    """Guessed small batches, an unsettled tuning and a record with warnings are warned of."""
    record = record_with(sizes=(64, 256))
    assert record.recommendation is not None
    unsettled = replaced(record.recommendation, confidence="low")
    plan = quick(replaced(record, recommendation=unsettled, warnings=("Random rows.",)), rate=10)
    assert [warning.split(":")[0] for warning in plan.warnings] == [
        "No batch of fewer than 64 rows was measured in the recommended way",
        "The tuning was not settled",
        "The record itself has warnings",
    ]
    assert PLANNED.warnings == ()


def rehearsed(record: TuningRecord) -> TuningRecord:
    """The same, with calls of one row and of as many as are recommended, as in a service."""
    assert record.recommendation is not None
    way = record.recommendation.candidate
    rehearsal = Rehearsal(
        candidate=way,
        rows_per_s=1_000.0,
        rows=(1, way.batch_size) * FEW,
        flights=(1, 1) * FEW,
        times_s=(0.003, 0.03) * FEW,
    )
    return replaced(record, rehearsals=(rehearsal,))


def test_small_batches_of_a_rehearsal_are_not_guessed() -> None:
    """They were timed, if not in the search."""
    record = record_with(sizes=(64, 256))
    assert quick(record, rate=10).warnings != ()
    assert quick(rehearsed(record), rate=10).warnings == ()


def test_a_processor_that_is_shared_with_python_is_warned_of() -> None:
    """Where the model ran on a CPU a plan is the least that is needed, without a rehearsal too."""
    record = replaced(record_with(), machine=XEON)
    (warning,) = quick(record).warnings
    assert "too optimistic" in warning
    (warning,) = quick(rehearsed(record)).warnings
    assert "the slowest seconds" in warning


def test_an_engine_that_minds_changes_of_the_batch_size_is_warned_of() -> None:
    """OpenVINO of heavy weights does, where batches have more than one row; a rehearsal sees it."""
    for size, parameters, count in ((256, 10**8, 1), (256, 100, 0), (1, 10**8, 0)):
        calls = [timed(size, 0.002, engine="openvino")]
        record = record_of(Candidate(size, "openvino"), call_s=0.002, outcomes=calls)
        record = replaced(record, model=replaced(MODEL, parameters=parameters))
        for changed, expected in ((record, count), (rehearsed(record), 0)):
            warnings = quick(changed, 10.0).warnings
            assert sum("OpenVINO" in warning for warning in warnings) == expected


def standing_still(length_s: float) -> TuningRecord:
    """A record of a machine that stood still once a second."""
    record = record_with()
    times_s = ((0.0021,) * 475 + (0.0021 + length_s,)) * 10
    lost_s = ((0.0,) * 475 + (length_s,)) * 10
    calls = Measurement(Candidate(1), times_s, lost_s=lost_s)
    return replaced(record, outcomes=(*record.outcomes, calls))


def test_a_machine_that_stands_still_carries_less() -> None:
    """What it did when it was tuned is in the plan, and told."""
    plan, calm = quick(standing_still(0.08)), quick(record_with())
    assert plan.standstills_per_s == pytest.approx(1.0, rel=0.05)
    assert plan.standstill_s == pytest.approx(0.08)
    assert plan.requests_per_s < 0.9 * calm.requests_per_s
    assert plan.load.latency_quantile_s <= plan.limit_s
    assert calm.standstills_per_s == 0
    assert not any("stood still" in warning for warning in plan.warnings)


def test_standstills_that_no_number_of_replicas_would_mend_are_left_out() -> None:
    """The plan is then that of a machine without them, and says what the tuned one would take."""
    plan, calm = quick(standing_still(0.2)), quick(record_with())
    assert plan.requests_per_s == pytest.approx(calm.requests_per_s, rel=0.05)
    assert plan.load.latency_quantile_s <= plan.limit_s
    warning = next(warning for warning in plan.warnings if "stood still" in warning)
    assert "0.97 times a second" in warning
    assert "for 200 ms in the mean" in warning
    late_s = float(warning.rpartition("would take ")[2].partition(" ms")[0]) / 1_000
    assert late_s > plan.limit_s
    busy = quick(standing_still(0.6), rate=0.99 * plan.requests_per_s, headroom=0.0)
    assert any("those could not keep up." in warning for warning in busy.warnings)


def test_a_limit_that_is_missed_without_standstills_too_is_refused() -> None:
    """The machine is not to blame for calls that take too long."""
    with pytest.raises(NoFeasibleBatchSize, match="with nothing else to do"):
        quick(standing_still(0.05), limit_s=0.001)
