"""How long to wait for company: read from the measured curve and the latency budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune import Candidate, Failure, Goal, Measurement, Outcome, OutOfMemory
from autotune.records import TuningRecord
from autotune.schedule import Schedule
from autotune.scheduling import BATCH_S, WORTHWHILE, schedule_for
from tests.batchers import record_of, timed


def schedule_of(record: TuningRecord, **wishes: float | int | None) -> Schedule:
    """The schedule for a record's own recommendation."""
    assert record.recommendation
    return schedule_for(record.recommendation, record, **wishes)  # type: ignore[arg-type]


# 1 ms a call and 10 us a row: 91 % of the tuned speed at 1,024 rows, 52 % at 128.
CURVE = [timed(size, 1e-3 + 1e-5 * size) for size in (1, 128, 1_024, 8_192)]
TUNED = Candidate(8_192)
TUNED_S = 1e-3 + 1e-5 * 8_192


def test_the_wait_is_the_time_of_the_smallest_batch_that_is_worth_it() -> None:
    """Nobody waits longer than a batch takes that is 0.9 times as fast as the tuned one."""
    schedule = schedule_of(record_of(TUNED, call_s=TUNED_S, outcomes=CURVE))
    assert (schedule.batch_size, schedule.enough_rows) == (8_192, 1_024)
    assert schedule.max_wait_s == pytest.approx(1e-3 + 1e-5 * 1_024)
    assert schedule.follows_crowd


def test_nobody_waits_longer_than_company_saves() -> None:
    """Two rows at once take 3.4 ms, one after the other 4.4: no wait is worth more than 1 ms."""
    curve: list[Outcome] = [timed(1, 0.0022), timed(2, 0.0034), timed(4, 0.0066)]
    record = record_of(Candidate(4), call_s=0.0066, outcomes=curve)
    schedule = schedule_of(record)
    assert schedule.enough_rows == 2
    assert schedule.max_wait_s == pytest.approx(0.001)
    unknown = schedule_of(record_of(Candidate(4), call_s=0.0066, outcomes=curve[1:]))
    assert unknown.max_wait_s == pytest.approx(0.0034)
    alone = schedule_of(record_of(Candidate(4), call_s=0.0088, outcomes=curve[:1]))
    assert (alone.enough_rows, alone.max_wait_s) == (1, 0.0022)


def test_a_batch_leaves_room_for_the_one_before_it() -> None:
    """With a budget the batch is the largest of which two fit, and the wait is what it leaves."""
    goal = Goal(latency_budget_s=0.09)
    schedule = schedule_of(record_of(TUNED, call_s=TUNED_S, outcomes=CURVE, goal=goal))
    assert schedule.batch_size == 1_024
    assert schedule.max_wait_s == pytest.approx(1e-3 + 1e-5 * 1_024)
    tight = Goal(latency_budget_s=0.02)
    record = record_of(Candidate(1_024), call_s=0.01124, late_s=0.015, outcomes=CURVE, goal=tight)
    assert schedule_of(record).max_wait_s == pytest.approx((0.02 - 0.015) / 2)


def test_only_what_was_measured_in_the_same_way_counts() -> None:
    """Other engines, other numbers in flight, disturbed and failed probes say nothing here."""
    others: list[Outcome] = [
        timed(512, 1e-6, engine="compiled"),
        timed(512, 1e-6, concurrency=2),
        Measurement(Candidate(512), (1e-6,) * 4, disturbed=4),
        OutOfMemory(Candidate(512)),
        Failure(Candidate(512), kind="timeout"),
        timed(16_384, 1e-6),
    ]
    alone = schedule_of(record_of(TUNED, call_s=TUNED_S))
    assert schedule_of(record_of(TUNED, call_s=TUNED_S, outcomes=others)) == alone
    assert (alone.enough_rows, alone.max_wait_s) == (8_192, TUNED_S)


def test_a_wish_is_kept_to_the_letter() -> None:
    """With a given wait batches start full or after it, and follow no crowd."""
    schedule = schedule_of(record_of(TUNED, call_s=TUNED_S, outcomes=CURVE), max_wait_s=0.5)
    assert schedule == Schedule(8_192, 8_192, 0.5, False, schedule.max_queue_rows)


def test_the_queue_holds_a_second_of_work_and_never_less_than_a_burst() -> None:
    """Slow models get room for 256 rows and four rounds of batches, fast ones for a second."""
    assert schedule_of(record_of(Candidate(8), call_s=1.0)).max_queue_rows == 256
    slow = record_of(Candidate(512, concurrency=2), call_s=10.0)
    assert schedule_of(slow).max_queue_rows == 4 * 512 * 2
    assert schedule_of(record_of(Candidate(100), call_s=0.001)).max_queue_rows == 100_000
    assert schedule_of(record_of(Candidate(8)), max_queue_rows=7).max_queue_rows == 7


@given(
    call_s=st.floats(1e-5, 0.1),
    row_s=st.floats(1e-7, 0.01),
    tuned=st.sampled_from([1, 4, 32, 512]),
    slack=st.floats(1.0, 10),
)
def test_wait_and_batch_stay_within_the_budget(
    call_s: float, row_s: float, tuned: int, slack: float
) -> None:
    """For any curve the wait and the batch together fit, and speed is worth it."""

    def seconds(size: int) -> float:
        return call_s + row_s * size

    curve = [timed(size, seconds(size)) for size in (1, 2, 4, 16, 32, 128, 512)]
    goal = Goal(latency_budget_s=slack * seconds(tuned))
    record = record_of(Candidate(tuned), call_s=seconds(tuned), outcomes=curve, goal=goal)
    schedule = schedule_of(record)
    assert goal.latency_budget_s
    assert schedule.enough_rows <= schedule.batch_size <= tuned
    assert schedule.max_wait_s + seconds(schedule.batch_size) <= goal.latency_budget_s * (1 + 1e-9)
    speed = schedule.batch_size / seconds(schedule.batch_size)
    assert speed >= WORTHWHILE * (1 - 1e-9) * tuned / seconds(tuned)


@pytest.mark.parametrize(
    ("call_s", "late_s", "budget_s", "batches"),
    [
        (0.001, None, None, 8),
        (0.005, None, None, 4),
        (0.05, None, None, 1),
        (0.003, 0.004, 0.02, 2),
        (0.003, 0.02, 0.02, 1),
    ],
)
def test_short_batches_are_taken_several_at_once(
    call_s: float, late_s: float | None, budget_s: float | None, batches: int
) -> None:
    """For 20 ms and eight batches at most, and only where two such loads fit into the budget."""
    goal = Goal(latency_budget_s=budget_s)
    record = record_of(Candidate(4), call_s=call_s, late_s=late_s, goal=goal)
    assert schedule_of(record).batches == batches
    assert schedule_of(record, max_batch_size=2).batches == 1
    assert schedule_of(record, max_wait_s=0.1).batches == 1


def test_rows_that_take_next_to_no_time_are_not_shared_out() -> None:
    """As many rows as the tuned speed makes in the time that a batch costs Python."""
    record = record_of(Candidate(1_000), call_s=1_000 * BATCH_S / 8)
    assert schedule_of(record).least_share == 8
    assert schedule_of(record_of(TUNED, call_s=TUNED_S, outcomes=CURVE)).least_share == 4
    assert schedule_of(record_of(Candidate(4), call_s=1.0)).least_share == 0
    assert schedule_of(record, max_wait_s=0.1).least_share == 0  # whose batches are full or late


def test_a_smaller_batch_can_be_wished_for_and_a_larger_one_not() -> None:
    """With max_batch_size no batch is larger and fewer rows are enough; a larger one is ignored."""
    record = record_of(TUNED, call_s=TUNED_S, outcomes=CURVE)
    small = schedule_of(record, max_batch_size=100)
    assert (small.batch_size, small.enough_rows, small.follows_crowd) == (100, 100, True)
    both = schedule_of(record, max_batch_size=100, max_wait_s=0.5)
    assert both == Schedule(100, 100, 0.5, False, both.max_queue_rows)
    assert schedule_of(record, max_batch_size=10**6) == schedule_of(record)
