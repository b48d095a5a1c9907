"""Memory that runs short under a predictor: nothing lost, nothing twice, and it is told."""

from __future__ import annotations

import gc
import logging
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from autotune import Candidate, TunedPredictor
from autotune import predictor as room
from autotune.stats import Stats
from tests.batchers import numbered, record_of, timed, together
from tests.guards import GIB, FreeMemory
from tests.tunings import with_peaks

PEAKS = {size: GIB + size * 2**23 for size in (64, 128, 256, 512)}


class Memory:
    """How many rows fit; and how often a batch fails though it would fit.

    Attributes:
        fits: Rows.
        share: Of the batches of more than one row, those that fail at random.
        asked: Rows of each batch.
    """

    def __init__(self) -> None:
        self.fits, self.share = 10**9, 0.0
        self.asked: list[int] = []
        self._dice, self._lock = random.Random(0), threading.Lock()  # noqa: S311  no secrets

    def take(self, rows: int) -> None:
        """Take memory for a batch."""
        self.asked.append(rows)
        with self._lock:
            unlucky = rows > 1 and self._dice.random() < self.share
        if rows > self.fits or unlucky:
            raise MemoryError(f"failed to allocate {rows} rows")


@pytest.fixture
def memory() -> Memory:
    """Memory that a test makes short."""
    return Memory()


@pytest.fixture
def make(keras: Any, memory: Memory) -> Callable[..., TunedPredictor]:
    """Make a predictor that doubles its rows, as far as memory goes."""

    class Tight(keras.Sequential):  # type: ignore[misc]
        def predict_on_batch(self, x: Any) -> Any:
            memory.take(len(x))
            return super().predict_on_batch(x)

    model = Tight([keras.Input((3,), name="x"), keras.layers.Rescaling(2.0)])

    def make(size: int = 64, concurrency: int = 1, record: Any = None) -> TunedPredictor:
        record = record or record_of(Candidate(size, concurrency=concurrency))
        return TunedPredictor(record, lambda: model, model.save)

    return make


def assert_doubled(predictor: TunedPredictor, first: int, count: int) -> None:
    """Every row has its own answer, in its place."""
    rows = numbered(first, count)
    np.testing.assert_array_equal(predictor.predict(rows), 2 * rows)


def test_the_cut_of_a_long_call_is_not_kept(make: Callable[..., TunedPredictor]) -> None:
    """Calls may have any number of rows, each with a cut of its own."""

    def slices() -> int:
        gc.collect()
        return sum(type(each) is slice for each in gc.get_objects())

    predictor = make(2)
    assert_doubled(predictor, 0, 4)
    before = slices()
    for count in range(500, 505):
        assert_doubled(predictor, 0, count)
    assert slices() < before + 250


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_memory_that_runs_out_in_mid_call_loses_nothing(
    make: Callable[..., TunedPredictor], memory: Memory, concurrency: int
) -> None:
    """The batch is halved and goes on from its row; later calls begin with what fits."""
    predictor = make(concurrency=concurrency)
    assert_doubled(predictor, 0, 200)
    memory.fits = 20
    assert_doubled(predictor, 0, 200)
    stats = predictor.stats
    assert (stats.batch_size, stats.largest_ran, stats.smallest_failed) == (16, 64, 32)
    assert (stats.steps_down, stats.steps_up) == (2, 0)
    assert 2 <= stats.out_of_memory <= 3 * (concurrency + 2)
    assert_doubled(predictor, 0, 32)
    assert predictor.stats.out_of_memory == stats.out_of_memory


def test_batches_in_turn_are_full(make: Callable[..., TunedPredictor], memory: Memory) -> None:
    """Smaller ones would end sooner on several threads, but here they are all on one."""
    curve = [timed(size, 5e-4 + 5e-5 * size, concurrency=2) for size in (1, 4, 8, 16, 32)]
    record = record_of(Candidate(32, concurrency=2), call_s=0.0021, outcomes=curve)
    predictor, rows = make(record=record), numbered(0, 100)
    np.testing.assert_array_equal(predictor.predict_in_turn(rows), 2 * rows)
    assert memory.asked[-4:] == [32, 32, 32, 4]  # after those of the warm-up


def test_batches_in_turn_step_down_as_well(
    make: Callable[..., TunedPredictor], memory: Memory
) -> None:
    """Where batches are in flight on threads of the caller, none is lost either."""
    predictor, rows = make(concurrency=2), numbered(0, 200)
    np.testing.assert_array_equal(predictor.predict_in_turn(rows), 2 * rows)
    memory.fits = 20
    np.testing.assert_array_equal(predictor.predict_in_turn(rows), 2 * rows)
    assert predictor.stats.batch_size == 16


def test_the_size_comes_back_when_memory_does(
    make: Callable[..., TunedPredictor], memory: Memory
) -> None:
    """Step by step, without a failure on the way."""
    predictor = make()
    memory.fits = 20
    assert_doubled(predictor, 0, 200)
    memory.fits = 1000
    failed = predictor.stats.out_of_memory
    for _ in range(15):
        assert_doubled(predictor, 0, 1000)
    stats = predictor.stats
    assert (stats.batch_size, stats.smallest_failed, stats.out_of_memory) == (64, None, failed)
    assert stats.steps_up >= 2


def test_rows_that_are_split_evenly_bring_the_size_back(
    make: Callable[..., TunedPredictor], memory: Memory
) -> None:
    """Calls of a little more than the limit never fill a batch, and yet it rises."""
    predictor = make()
    memory.fits = 32
    assert_doubled(predictor, 0, 64)
    memory.fits = 1000
    for _ in range(200):
        assert_doubled(predictor, 0, 40)
    assert predictor.stats.batch_size == 64


def test_nothing_is_lost_while_errors_come_at_random(
    make: Callable[..., TunedPredictor], memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    """From several threads, by all ways of asking: each row carries its number."""
    caplog.set_level(logging.ERROR, "autotune")
    predictor = make(16, concurrency=2)
    memory.share = 0.2

    def pieces(first: int) -> Iterator[Any]:
        for number in range(5):
            yield numbered(first + 10 * number, 10)

    def ask(seed: int) -> None:
        for number in range(12):
            first, rows = 10_000 * seed + 100 * number, 1 + (seed * 31 + number * 7) % 90
            assert_doubled(predictor, first, rows)
            out = np.empty((50, 3), np.float32)
            predictor.predict(pieces(first), out=out)
            np.testing.assert_array_equal(out, 2 * numbered(first, 50))
            answers = list(predictor.stream(pieces(first)))
            np.testing.assert_array_equal(np.concatenate(answers), 2 * numbered(first, 50))

    together(ask, range(4))
    stats = predictor.stats
    assert stats.calls == 4 * 12 * 7
    assert stats.rows == 48 * 100 + sum(
        1 + (seed * 31 + number * 7) % 90 for seed in range(4) for number in range(12)
    )
    assert stats.out_of_memory > 10


@pytest.mark.parametrize("concurrency", [1, 2])
def test_strict_raises_and_changes_nothing(
    make: Callable[..., TunedPredictor], memory: Memory, concurrency: int
) -> None:
    """The framework's own error comes, and the next batch is as large."""
    predictor = make(concurrency=concurrency)
    predictor.strict = True
    memory.fits = 20
    for rows in (64, 200):
        with pytest.raises(MemoryError, match="failed to allocate"):
            predictor.predict(numbered(0, rows))
    stats = predictor.stats
    assert (stats.batch_size, stats.steps_down, stats.calls) == (64, 0, 0)
    assert predictor.hold_to_memory() == 64
    assert_doubled(predictor, 0, 20)


def test_one_row_that_does_not_fit_is_an_error(
    make: Callable[..., TunedPredictor], memory: Memory
) -> None:
    """There is nothing to halve."""
    predictor = make()
    memory.fits = 0
    with pytest.raises(MemoryError, match="failed to allocate 1 rows"):
        predictor.predict(numbered(0, 5))


def test_stats_count_what_was_done(make: Callable[..., TunedPredictor]) -> None:
    """Calls, rows and batches; a call without rows runs one, to see what it would be."""
    predictor = make(16)
    for count in (1, 16, 40, 0):
        assert_doubled(predictor, 0, count)
    with pytest.raises(ValueError, match="shape"):
        predictor.predict(np.zeros((2, 7)))
    assert predictor.stats == Stats(
        calls=4,
        rows=57,
        batches=6,
        padded_rows=0,
        out_of_memory=0,
        steps_down=0,
        steps_up=0,
        batch_size=16,
        largest_ran=16,
        smallest_failed=None,
    )


@pytest.fixture
def looked_at(
    make: Callable[..., TunedPredictor], monkeypatch: pytest.MonkeyPatch
) -> tuple[TunedPredictor, FreeMemory]:
    """A predictor whose batches of 512 rows take 5 GiB, and free memory that a test sets."""
    monkeypatch.setattr(room, "LOOK_EVERY_S", 0.0)
    record = with_peaks(PEAKS, Candidate(512), kind="cpu", counted=False, idle_bytes=GIB)
    return make(record=record), FreeMemory(monkeypatch, 100 * GIB)


def test_batches_are_held_to_free_memory(looked_at: tuple[TunedPredictor, FreeMemory]) -> None:
    """Asked to look, it runs no larger batches than fit, and larger ones when they do again."""
    predictor, memory = looked_at
    assert predictor.hold_to_memory() == 512, "the model is not open: nothing is known"
    assert_doubled(predictor, 0, 1)
    for free, size in ((100 * GIB, 512), (3 * GIB, 256), (0, 1), (2 * GIB, 128), (9 * GIB, 512)):
        memory.free_bytes = free
        assert predictor.hold_to_memory() == size == predictor.stats.batch_size
    assert (predictor.stats.steps_down, predictor.stats.steps_up) == (2, 2)


@pytest.mark.parametrize("way", ["array", "generator", "stream"])
def test_before_many_rows_free_memory_is_looked_at(
    looked_at: tuple[TunedPredictor, FreeMemory], way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever gives them, no larger batches run than fit, and a warning says so."""
    predictor, memory = looked_at
    assert_doubled(predictor, 0, 1)
    memory.free_bytes = int(1.5 * GIB)
    rows = numbered(0, 1300)
    if way == "array":
        got = predictor.predict(rows)
    elif way == "generator":
        got = predictor.predict(iter([rows]))
    else:
        (got,) = predictor.stream([rows])
    np.testing.assert_array_equal(got, 2 * rows)
    assert predictor.stats.largest_ran <= 128
    assert caplog.messages == ["Memory is short: batches of 128 rows, not 512."]


def test_memory_is_not_looked_at_for_a_row(
    looked_at: tuple[TunedPredictor, FreeMemory],
) -> None:
    """A look takes longer than a small call."""
    predictor, memory = looked_at
    assert_doubled(predictor, 0, 1)
    looks = memory.looks
    assert_doubled(predictor, 0, 1)
    assert memory.looks == looks
