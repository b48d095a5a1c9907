"""The pace: down at once where memory runs short, up with caution, never beyond what was tuned."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.pace import FIRST_PATIENCE, MOST_PATIENCE, Pace
from tests.batchers import together


def run(pace: Pace, batches: int) -> None:
    """Have so many full batches go well."""
    for _ in range(batches):
        pace.ran(pace.limit, pace.limit)


def steps_of(pace: Pace, batches: int) -> list[int]:
    """The limits that so many full batches lead to, in order."""
    limits = [pace.limit]
    for _ in range(batches):
        run(pace, 1)
        if pace.limit != limits[-1]:
            limits.append(pace.limit)
    return limits


def test_batches_that_go_well_change_nothing() -> None:
    """Without a failure the tuned size stays, and the largest that ran is remembered."""
    pace = Pace(64)
    for size in (1, 64, 30):
        pace.ran(size, 64)
    assert (pace.limit, pace.largest_ran, pace.smallest_failed) == (64, 64, None)
    assert (pace.steps_down, pace.steps_up) == (0, 0)


@pytest.mark.parametrize(("size", "half"), [(64, 32), (33, 16), (3, 1), (2, 1)])
def test_a_failure_halves_what_failed(
    size: int, half: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit is half the size that failed, whatever it was before, and a warning says so."""
    pace = Pace(64)
    pace.failed(size, "no more")
    assert (pace.limit, pace.smallest_failed, pace.steps_down) == (half, size, 1)
    assert caplog.messages == [f"Out of memory with {size} rows, going on with {half}: no more"]


def test_a_failure_that_comes_late_lowers_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What was in flight when another thread failed fails as well, and counts once."""
    pace = Pace(64)
    for _ in range(3):
        pace.failed(64, "no more")
    assert (pace.limit, pace.steps_down, len(caplog.messages)) == (32, 1, 1)


def test_it_rises_by_halves_of_the_way_to_what_failed_and_then_forgets_it() -> None:
    """Each step is halfway to the size that failed; close to it, that is tried again."""
    pace = Pace(64)
    pace.failed(64, "")
    assert steps_of(pace, FIRST_PATIENCE - 1) == [32]
    assert steps_of(pace, 1) == [32, 48]
    assert steps_of(pace, FIRST_PATIENCE) == [48, 56]
    assert pace.smallest_failed == 64
    run(pace, FIRST_PATIENCE)
    assert vars(pace)["smallest_failed"] is None
    assert pace.limit == 56
    assert steps_of(pace, FIRST_PATIENCE) == [56, 64]
    assert pace.steps_up == 3


def test_far_from_what_failed_it_doubles() -> None:
    """From a size far below the one that failed it rises to twice, until that is in the way."""
    pace = Pace(1024)
    for size in (1024, 512, 256, 128):
        pace.failed(size, "")
    pace.smallest_failed = 1024
    assert steps_of(pace, 16 * 4 * FIRST_PATIENCE)[:4] == [64, 128, 256, 512]


def test_each_try_that_fails_doubles_the_patience_up_to_a_limit() -> None:
    """The more often a larger one failed, the more batches must go well before the next try."""
    pace, waited = Pace(2), []
    for _ in range(9):
        pace.failed(2, "")
        run(pace, 1)
        count = 1
        while pace.limit == 1:
            run(pace, 1)
            count += 1
        waited.append(count // 2)  # half of them until what failed is forgotten
    assert waited == [min(FIRST_PATIENCE * 2**n, MOST_PATIENCE) for n in range(9)]


def test_a_shortage_that_takes_several_steps_is_one() -> None:
    """However far down it went, the first step up comes as soon."""
    pace = Pace(1024)
    for size in (1024, 512, 256, 128):
        pace.failed(size, "")
    assert steps_of(pace, FIRST_PATIENCE) == [64, 96]


def test_small_batches_say_nothing_of_larger_ones() -> None:
    """Batches of less than half of what might have run do not raise the limit; halves do."""
    pace = Pace(64)
    pace.failed(64, "")
    for _ in range(1000):
        pace.ran(15, 32)
    assert pace.limit == 32
    for _ in range(FIRST_PATIENCE):
        pace.ran(16, 32)
    assert pace.limit == 48


def test_a_failure_in_between_begins_the_count_again() -> None:
    """Batches must go well one after the other."""
    pace = Pace(64)
    pace.failed(64, "")
    run(pace, FIRST_PATIENCE - 1)
    pace.failed(64, "")
    run(pace, FIRST_PATIENCE - 1)
    assert pace.limit == 32


def test_room_holds_the_limit_down_and_lets_it_up(caplog: pytest.LogCaptureFixture) -> None:
    """Free memory lowers the limit, and more of it raises it again to what was tuned."""
    caplog.set_level(logging.DEBUG, "autotune")
    pace = Pace(64)
    for room, limit in ((1000, 64), (16, 16), (16, 16), (0, 1), (32, 32), (64, 64)):
        pace.make_room(room)
        assert pace.limit == limit
    assert (pace.steps_down, pace.steps_up) == (2, 2)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2 + ["INFO"] * 2
    assert caplog.messages[0] == "Memory is short: batches of 16 rows, not 64."
    pace.make_room(8, tell=False)
    assert caplog.records[-1].levelname == "DEBUG"


def test_room_does_not_bring_back_what_failed() -> None:
    """More free memory raises the limit no further than failures allow."""
    pace = Pace(64)
    pace.failed(32, "")
    pace.make_room(4)
    pace.make_room(64)
    assert pace.limit == 16


def test_where_free_memory_is_the_limit_no_step_is_counted() -> None:
    """Batches that fill the room there is say nothing of the size that failed."""
    pace = Pace(64)
    pace.failed(64, "")
    pace.make_room(8)
    run(pace, 1000)
    pace.make_room(64)
    assert (pace.limit, pace.steps_up) == (32, 1)


@settings(max_examples=30)
@given(tuned=st.integers(1, 5000), share=st.floats(0, 1))
def test_it_comes_close_to_what_fits_and_seldom_fails(tuned: int, share: float) -> None:
    """In as much memory as there is, nearly all batches go well, and they are half of it at least.

    Those after the first tries: it begins with the tuned size.
    """
    fits, pace, failures = max(1, int(share * tuned)), Pace(tuned), []
    for number in range(5_000):
        size = pace.limit
        assert 1 <= size <= tuned
        if size > fits:
            pace.failed(size, "")
            failures.append(number)
        else:
            pace.ran(size, size)
    assert len(failures) <= 30
    assert pace.largest_ran <= fits
    assert 2 * max(pace.limit, pace.largest_ran) >= fits


def test_threads_do_not_lose_a_step() -> None:
    """Of many threads' batches the largest is remembered, and the limit stays within bounds."""
    pace = Pace(64)

    def work(seed: int) -> None:
        for number in range(3000):
            size = 1 + (seed * 7919 + number * 31) % 64
            if number % 500 == 250:
                pace.failed(size, "")
            pace.ran(size, size)
            assert 1 <= pace.limit <= 64

    together(work, range(4))
    assert pace.largest_ran == 64
