"""The MicroBatcher in trouble: requests, workers and callers that break."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest

from autotune import Candidate, DeadlineExceeded, Overloaded
from tests.batchers import behind_door, doubler, numbered, serve, together, workers

MODEL = doubler()


def test_a_poisoned_request_harms_only_itself() -> None:
    """Of a batch of sixteen with two bad ones, fourteen are answered and two get their error."""
    watched, batcher = serve(Candidate(16), model=MODEL)
    watched.poison = {3.0: ValueError("three"), 11.0: MemoryError("eleven")}
    with batcher:
        behind_door(watched, batcher)
        futures = [batcher.submit(numbered(n)) for n in range(16)]
        watched.door.set()
        for number, future in enumerate(futures):
            if number in watched.poison:
                assert future.exception(60) is watched.poison[number]
            else:
                np.testing.assert_array_equal(future.result(60), 2 * numbered(number))
        batcher.submit(numbered(20)).result(60)
    assert (batcher.figures.failed, batcher.figures.answered) == (2, 16)
    assert len(watched.batches) <= 1 + 1 + 2 * 8 + 1


def test_of_several_batches_only_the_bad_one_is_halved() -> None:
    """Where they were taken at once, each is run again by itself, and no row more than that."""
    watched, batcher = serve(Candidate(4), model=MODEL)
    watched.poison = {5.0: ValueError("five")}
    with batcher:
        behind_door(watched, batcher)
        futures = [batcher.submit(numbered(n)) for n in range(48)]
        watched.door.set()
        assert futures[5].exception(60) is watched.poison[5.0]
        for number in {*range(48)} - {5}:
            np.testing.assert_array_equal(futures[number].result(60), 2 * numbered(number))
    ran = Counter(number for batch in watched.batches for number in batch)
    assert max(map(len, watched.batches)) > 4
    assert {ran[number] for number in {*range(48)} - {4, 5, 6, 7}} <= {1, 2}


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_an_error_of_no_model_reaches_all_callers(error: BaseException) -> None:
    """What ends other threads fails the batch, without a second run, and the batcher goes on."""
    watched, batcher = serve(Candidate(16), model=MODEL)
    watched.poison = {3.0: error}
    with batcher:
        behind_door(watched, batcher)
        futures = [batcher.submit(numbered(n)) for n in range(6)]
        watched.door.set()
        assert [future.exception(60) for future in futures] == [error] * 6
        batcher.submit(numbered(20)).result(60)
    assert len(watched.batches) == 3


def test_a_task_gets_an_error_that_asyncio_refuses() -> None:
    """StopIteration, which no asyncio future takes, becomes a RuntimeError."""
    watched, batcher = serve(Candidate(16), model=MODEL)
    watched.poison = {1.0: StopIteration(), 2.0: ValueError("two")}
    with batcher:
        with pytest.raises(RuntimeError, match="StopIteration"):
            asyncio.run(batcher.abatch(numbered(1)))
        with pytest.raises(ValueError, match="two"):
            asyncio.run(batcher.abatch(numbered(2)))


def test_an_error_thrown_into_a_worker_loses_no_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker that is hit from outside, wherever it is, settles its batch and goes on."""
    _, batcher = serve(Candidate(4, concurrency=2), model=MODEL)
    with batcher:
        batcher.submit(numbered(0)).result(60)
        for hit in range(1, 11):
            throw_into(workers(batcher)[hit % 2], KeyboardInterrupt)
            while len(caplog.records) < hit:  # until it was felt
                futures = [batcher.submit(numbered(n)) for n in range(20)]
                done, _ = concurrent.futures.wait(futures, timeout=60)
                assert len(done) == 20
        assert batcher.submit(numbered(5)).exception(60) is None
        assert len(workers(batcher)) == 2


def throw_into(thread: threading.Thread, error: type[BaseException]) -> None:
    """Raise an error in another thread, at its next step."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(error)
    )


def test_a_callback_that_fails_harms_nobody_else() -> None:
    """The other callers of the batch get their answers."""
    watched, batcher = serve(Candidate(16), model=MODEL)

    def leave(_: Any) -> None:
        raise SystemExit

    with batcher:
        behind_door(watched, batcher)
        futures = [batcher.submit(numbered(n)) for n in range(4)]
        futures[1].add_done_callback(leave)
        watched.door.set()
        for future in futures:
            future.result(60)
        batcher.submit(numbered(9)).result(60)


def test_a_loop_that_was_closed_harms_nobody_else() -> None:
    """A loop that ended while its request was in flight is passed over."""
    watched, batcher = serve(Candidate(16), model=MODEL)

    async def give_up() -> None:
        await asyncio.wait_for(batcher.abatch(numbered(1)), 0.05)

    with batcher:
        batcher.submit(numbered(0)).result(60)
        watched.door.clear()
        with pytest.raises(TimeoutError):
            asyncio.run(give_up())
        watched.door.set()
        batcher.submit(numbered(2)).result(60)


def test_nothing_is_lost_in_the_worst_of_days() -> None:
    """Faults, deadlines, cancellations and a full queue at once: each request ends just once."""
    watched, batcher = serve(
        Candidate(8, "compiled", concurrency=3), model=MODEL, max_queue_rows=60
    )
    watched.poison = {float(n): ValueError(str(n)) for n in range(0, 1_000_000, 37)}
    counts: dict[str, int] = dict.fromkeys(
        ["answered", "failed", "shed", "expired", "cancelled"], 0
    )
    lock = threading.Lock()

    def end_of(first: int, size: int, rng: np.random.Generator) -> str:
        timeout_s = float(rng.choice([0.0005, 0.003, 10]))
        try:
            future = batcher.submit(numbered(first, size), timeout_s=timeout_s)
            if rng.random() < 0.2 and future.cancel():
                return "cancelled"
            np.testing.assert_array_equal(future.result(60), 2 * numbered(first, size))
        except Overloaded:
            return "shed"
        except DeadlineExceeded:
            return "expired"
        except ValueError as error:
            return "failed" if int(str(error)) in range(first, first + size) else "swapped"
        assert not any(number in watched.poison for number in range(first, first + size))
        return "answered"

    def call(thread: int) -> None:
        rng = np.random.default_rng(thread)
        for turn in range(60):
            end = end_of(10_000 * thread + 20 * turn, int(rng.integers(1, 13)), rng)
            with lock:
                counts[end] += 1

    with batcher:
        together(call, range(24))
        figures = batcher.figures
        assert (figures.queue_rows, figures.flying_rows) == (0, 0)
        assert {name: getattr(figures, name) for name in counts} == counts
        assert figures.requests + figures.shed == 24 * 60
