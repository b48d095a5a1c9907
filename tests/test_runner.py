"""The runner: only sizes that are ready, and every row once, whatever memory does."""

from __future__ import annotations

import logging
import random
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.pace import Pace
from autotune.runner import WARM_UP_SIZES, Runner
from autotune.stats import Counters
from tests.batchers import together
from tests.engines import Doubler

ROW = np.zeros((1, 2), np.float32)


def numbered(first: int, count: int) -> Any:
    """Rows that carry the numbers from `first` on, the last of which a runner may repeat."""
    return np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], 2, axis=1)


def runner_of(engine: Doubler, size: int = 64, **shared: Any) -> tuple[Runner, Pace, Counters]:
    """A runner of that engine, with all that it tells."""
    pace, counters = shared.get("pace") or Pace(size), Counters()
    turn = shared.get("turn") or threading.Lock()
    return Runner(engine, shared.get("example", ROW), size, pace, counters, turn), pace, counters


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(64, [1, 8, 16, 32, 64]), (100, [1, 12, 25, 50, 100]), (3, [1, 3]), (1, [1])],
)
def test_sizes_are_made_ready_and_no_other_ever_runs(size: int, sizes: list[int]) -> None:
    """Where each size is a program, a few are run at first, and after that only these."""
    engine = Doubler(compiles_per_shape=True)
    runner, _, counters = runner_of(engine, size)
    assert engine.sizes == sizes
    for rows in range(1, size + 1):
        got = runner.run(numbered(7, rows), rows, strict=False)
        np.testing.assert_array_equal(got, 2 * numbered(7, rows))
        assert engine.sizes[-1] == min(n for n in sizes if n >= rows)
    assert counters.batches == size
    assert counters.padded_rows == sum(engine.sizes[len(sizes) :]) - size * (size + 1) // 2


def test_padded_rows_are_copies_of_the_last_one() -> None:
    """Rows of zeros may be invalid; the last row is valid, and its copies are dropped again."""
    seen: list[Any] = []
    engine = Doubler(compiles_per_shape=True, fails=seen.append)
    runner, _, counters = runner_of(engine, example={"a": ROW, "b": [ROW[:, 0]]})
    rows = numbered(5, 3)
    got = runner.run({"a": rows, "b": [rows[:, 0]]}, 3, strict=False)
    assert seen[-1][:, 0].tolist() == [5, 6, 7, 7, 7, 7, 7, 7]
    assert got["a"].tolist() == (2 * rows).tolist()
    assert got["b"][0].tolist() == [10, 12, 14]
    assert counters.padded_rows == 5


def test_an_engine_for_any_size_runs_batches_as_they_are() -> None:
    """Nothing is padded, and the sizes that were run first when it was measured are run first."""
    engine = Doubler()
    runner, _, counters = runner_of(engine)
    for rows in (1, 13, 64):
        runner.run(numbered(0, rows), rows, strict=False)
    assert engine.sizes == [*WARM_UP_SIZES, 1, 13, 64]
    assert (counters.batches, counters.padded_rows) == (3, 0)
    assert runner.at_most(17) == 17


def test_a_session_is_ready_as_it_is() -> None:
    """What runs an exported model has its program already: the first batch is the first call."""

    class Opened(Doubler):
        def release(self, example: Any) -> None:
            """Nothing is kept."""

    engine = Opened()
    runner = runner_of(engine)[0]
    runner.run(numbered(0, 13), 13, strict=False)
    assert engine.sizes == [13]


def test_the_largest_size_that_is_ready_is_run() -> None:
    """Up to a limit, there is always one."""
    runner = runner_of(Doubler(compiles_per_shape=True))[0]
    assert [runner.at_most(limit) for limit in (1, 7, 8, 40, 63, 64)] == [1, 1, 8, 32, 32, 64]


def test_no_larger_size_is_made_ready_than_there_is_room_for() -> None:
    """Where memory is short already, making a runner ready does not use it up."""
    pace, engine = Pace(64), Doubler(compiles_per_shape=True)
    pace.make_room(20)
    runner = runner_of(engine, pace=pace)[0]
    assert engine.sizes == [1, 8, 16]
    pace.make_room(64)
    assert runner.at_most(pace.limit) == 16


def test_a_size_that_does_not_fit_is_not_made_ready() -> None:
    """One that runs out of memory when it is made ready is not run later, nor is a larger one."""
    engine = Doubler(compiles_per_shape=True, fits=20)
    runner = runner_of(engine)[0]
    assert engine.sizes == [1, 8, 16, 32]
    assert runner.at_most(64) == 16
    runner = runner_of(Doubler(compiles_per_shape=True, fits=0))[0]
    assert runner.at_most(64) == 1


def test_rows_of_zeros_need_not_be_valid() -> None:
    """A model that refuses the rows with which it is made ready is run all the same."""

    def refuse_zeros(rows: Any) -> None:
        if not rows.all():
            raise ValueError("0 is not a word")

    engine = Doubler(compiles_per_shape=True, fails=refuse_zeros)
    runner, _, counters = runner_of(engine, 8)
    assert engine.sizes == [1, 2, 4, 8]
    assert runner.run(numbered(1, 3), 3, strict=False).tolist() == (2 * numbered(1, 3)).tolist()
    assert counters.out_of_memory == 0


@settings(max_examples=60)
@given(
    rows=st.integers(1, 64), fits=st.integers(1, 64), per_shape=st.booleans(), nested=st.booleans()
)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    rows: int, fits: int, per_shape: bool, nested: bool
) -> None:
    """Whatever fits, each row has its answer once and in its place, and what failed is counted."""
    engine = Doubler(compiles_per_shape=per_shape)
    example = {"a": ROW, "b": (ROW,)} if nested else ROW
    runner, pace, counters = runner_of(engine, example=example)
    engine.fits, warmed = fits, len(engine.sizes)
    x = numbered(3, rows)
    got = runner.run({"a": x, "b": (x,)} if nested else x, rows, strict=False)
    if nested:
        np.testing.assert_array_equal(got["b"][0], 2 * x)
    np.testing.assert_array_equal(got["a"] if nested else got, 2 * x)
    failed = [size for size in engine.sizes[warmed:] if size > fits]
    assert counters.out_of_memory == len(failed)
    assert counters.batches == len(engine.sizes) - warmed - len(failed)
    assert bool(failed) == (pace.limit < 64) == (pace.smallest_failed is not None)
    assert pace.largest_ran <= min(rows, fits)


@pytest.mark.parametrize(("rows", "strict"), [(64, True), (1, False)])
def test_strict_or_with_a_single_row_the_error_is_raised(rows: int, strict: bool) -> None:
    """There is nothing to halve, or nothing is to be worked around."""
    engine = Doubler()
    runner, pace, counters = runner_of(engine)
    engine.fits = 0
    with pytest.raises(MemoryError, match=f"failed to allocate {rows} rows"):
        runner.run(numbered(0, rows), rows, strict=strict)
    assert engine.sizes == [*WARM_UP_SIZES, rows]
    assert (counters.out_of_memory, pace.limit) == (1, 64)


def test_an_error_that_is_not_memory_is_raised_at_once() -> None:
    """A model's own error is not met with smaller batches, also not in a half of a batch."""

    def fail(rows: Any) -> None:
        if 9 in rows and len(rows) <= 4:
            raise ValueError("nine")

    engine = Doubler(fails=fail)
    runner, pace, counters = runner_of(engine)
    with pytest.raises(ValueError, match="nine"):
        runner.run(numbered(8, 3), 3, strict=False)
    assert (engine.sizes[2:], counters.out_of_memory, pace.limit) == ([3], 0, 64)
    engine.fits = 4
    with pytest.raises(ValueError, match="nine"):
        runner.run(numbered(0, 16), 16, strict=False)
    assert engine.sizes[3:] == [16, 8, 4, 4, 8, 4]


def test_memory_that_runs_out_in_disguise_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    """Keras re-raises errors `from None`; the chain tells, and one line is logged."""

    def fail(rows: Any) -> None:
        if len(rows) > 8:
            try:
                raise MemoryError("no more")
            except MemoryError:
                raise RuntimeError("(16, 2)\nand more") from None

    runner = runner_of(Doubler(fails=fail))[0]
    assert len(runner.run(numbered(0, 16), 16, strict=False)) == 16
    assert caplog.messages == [
        "Out of memory with 16 rows, going on with 8: RuntimeError: (16, 2) and more"
    ]


def test_batches_rise_again_for_an_engine_with_few_sizes() -> None:
    """Though no ready size is the limit itself, batches that go well raise it."""
    engine = Doubler(compiles_per_shape=True)
    runner, pace, _ = runner_of(engine)
    pace.failed(13, "")
    assert pace.limit == 6
    for _ in range(40 * 16):
        size = runner.at_most(pace.limit)
        runner.run(numbered(0, size), size, strict=False)
    assert (pace.limit, engine.sizes[-1]) == (64, 64)


@pytest.mark.parametrize("thread_safe", [True, False])
def test_an_unsafe_engine_is_called_once_at_a_time(thread_safe: bool) -> None:
    """Two runners of one model share the turn: also while one of them is made ready."""
    engine, turn, pace = Doubler(thread_safe=thread_safe), threading.Lock(), Pace(64)

    def work(seed: int) -> None:
        runner = runner_of(engine, turn=turn, pace=pace)[0]
        for number in range(20):
            rows = 1 + (seed + number) % 9
            got = runner.run(numbered(seed, rows), rows, strict=False)
            np.testing.assert_array_equal(got, 2 * numbered(seed, rows))

    together(work, range(4))
    assert (engine.at_once > 1) == thread_safe


def test_threads_lose_nothing_when_memory_runs_out(caplog: pytest.LogCaptureFixture) -> None:
    """With errors at random, from four threads at once: all rows, once, each to its caller."""
    caplog.set_level(logging.ERROR, "autotune")
    dice = random.Random(0)  # noqa: S311  not for secrets

    def fail(rows: Any) -> None:
        if len(rows) > 1 and dice.random() < 0.3:
            raise MemoryError("no more")

    runner, _, counters = runner_of(Doubler(fails=fail))

    def work(seed: int) -> None:
        for number in range(25):
            rows = 1 + (seed * 17 + number) % 64
            first = 1000 * seed + number
            got = runner.run(numbered(first, rows), rows, strict=False)
            np.testing.assert_array_equal(got, 2 * numbered(first, rows))

    together(work, range(4))
    assert counters.out_of_memory > 10
