"""The MicroBatcher: requests that are too many, too late, of another kind, no longer wanted."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest

from autotune import (
    BatcherClosed,
    Candidate,
    DeadlineExceeded,
    InvalidInput,
    MicroBatcher,
    Overloaded,
    TunedPredictor,
)
from autotune.records import Recommendation
from tests.batchers import (
    Watched,
    behind_door,
    doubler,
    numbered,
    record_of,
    serve,
    workers,
)
from tests.waiting import wait_until

MODEL = doubler()


def test_a_full_queue_turns_requests_away() -> None:
    """What is over the limit is refused at once; what was let in is answered."""
    watched, batcher = serve(Candidate(4), model=MODEL, max_queue_rows=4)
    with batcher:
        behind_door(watched, batcher)
        futures = [batcher.submit(numbered(0, 3)), batcher.submit(numbered(3))]
        with pytest.raises(Overloaded, match="4 rows wait, 1 came, and max_queue_rows is 4"):
            batcher.submit(numbered(4))
        with pytest.raises(Overloaded):
            asyncio.run(batcher.abatch(numbered(5)))
        watched.door.set()
        for future in futures:
            future.result(60)
    assert batcher.figures.shed == 2
    assert not {4, 5} & watched.ran


def test_an_empty_queue_lets_any_request_in() -> None:
    """A request larger than the whole queue is run when nobody else waits."""
    _, batcher = serve(Candidate(4), model=MODEL, max_queue_rows=4)
    with batcher:
        assert len(batcher.submit(numbered(0, 50)).result(60)) == 50


def test_a_request_that_is_too_late_is_never_run() -> None:
    """It fails while the model is still busy, and frees its place."""
    watched, batcher = serve(Candidate(4), model=MODEL, max_queue_rows=2)
    with batcher:
        behind_door(watched, batcher)
        late = batcher.submit(numbered(1), timeout_s=0.01)
        patient = batcher.submit(numbered(2), timeout_s=600)
        with pytest.raises(DeadlineExceeded, match=r"0\.01 s") as caught:
            late.result(60)
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(DeadlineExceeded):
            asyncio.run(batcher.abatch(numbered(4), timeout_s=0.0))
        watched.door.set()
        np.testing.assert_array_equal(patient.result(60), 2 * numbered(2))
    assert not {1, 4} & watched.ran
    assert batcher.figures.expired == 2


def test_deadlines_are_met_in_any_order() -> None:
    """A nearer deadline that comes later is seen in time, and one met at the door is not run."""
    watched, batcher = serve(Candidate(64), model=MODEL)
    with batcher:
        behind_door(watched, batcher)
        waits = [600, 0.2, 0.01, 0.1, -1.0]
        futures = [batcher.submit(numbered(n), timeout_s=s) for n, s in enumerate(waits)]
        for future in futures[1:]:
            with pytest.raises(DeadlineExceeded):
                future.result(60)
        watched.door.set()
        futures[0].result(60)
    assert watched.ran == {900, 0}


def test_callers_of_different_kinds_do_not_wait_for_each_other() -> None:
    """Where everybody is there a batch starts, though no two have rows of one shape."""
    record = record_of(Candidate(64), call_s=30.0)  # the chosen wait: longer than the test's limit
    _, batcher = serve(Candidate(64), model=doubler((None,)), record=record)
    turns, over = [0] * 8, threading.Event()
    for width in range(1, 9):  # each kind is learned
        batcher.submit(np.zeros((1, width), np.float32)).result(60)

    def call(width: int) -> None:
        row = np.full((1, width), 3, np.float32)
        while not over.is_set():
            assert batcher.submit(row).result(60).tolist() == (2 * row).tolist()
            turns[width - 1] += 1

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call, width) for width in range(1, 9)]
        try:
            wait_until(lambda: min(turns) >= 5)
        finally:
            over.set()
            batcher.close()  # who comes last would wait for those that have gone
    assert {type(each.exception()) for each in calls} <= {type(None), BatcherClosed}
    assert batcher.max_wait_s >= 30


def test_a_model_that_takes_no_zeros_is_served() -> None:
    """A row of zeros stands for rows of a new kind; where it fails, that says nothing of them."""

    class Picky(Watched):
        def predict(self, x: Any) -> Any:
            if not x.any():  # also of no rows
                raise RuntimeError("no such id: 0")
            return super().predict(x)

    record = record_of(Candidate(4))
    with MicroBatcher(cast(TunedPredictor, Picky(doubler(), record))) as batcher:
        assert batcher.submit(numbered(3)).result(60).tolist() == [[6.0] * 3]
        with pytest.raises(RuntimeError, match="no such id"):
            batcher.submit(numbered(0)).result(60)


def test_it_goes_by_what_the_predictor_can_run() -> None:
    """A predictor that cannot run as recommended says so when it is opened, before all else."""

    class Lessened(Watched):
        def open(self) -> None:
            super().open()
            self.recommendation = cast(Recommendation, record_of(Candidate(8)).recommendation)

    record = record_of(Candidate(64, concurrency=3))
    with MicroBatcher(cast(TunedPredictor, Lessened(doubler(), record))) as batcher:
        assert batcher.batch_size == 8
        assert len(workers(batcher)) == 1


def test_a_forked_process_is_told_that_it_has_no_threads() -> None:
    """A request there would wait for ever, and so may the backend's first look at new rows."""
    script = """
import os, sys, numpy as np
from autotune import BatcherClosed, Candidate
from tests.batchers import numbered, serve
_, batcher = serve(Candidate(4))
batcher.submit(numbered(1)).result()
child = os.fork()
if child == 0:
    for rows in (numbered(1), numbered(1).astype(np.float64)):
        try:
            batcher.submit(rows)
        except BatcherClosed as error:
            assert "make one after the fork" in str(error)
        else:
            os._exit(1)
    os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=300)
    assert done.returncode == 7


def test_answers_are_not_kept_until_they_would_have_been_late() -> None:
    """What its caller has let go is gone, however far off its deadline was."""
    _, batcher = serve(Candidate(4))
    with batcher:
        future = batcher.submit(numbered(1), timeout_s=3_600)
        future.result(300)
        gone = weakref.ref(future)
        del future
        batcher.submit(numbered(2)).result(300)  # the worker has let go of the first batch
        gc.collect()
        wait_until(lambda: gone() is None)


def test_a_timeout_that_is_no_number_is_refused() -> None:
    """NaN is later than nothing and earlier than nothing."""
    _, batcher = serve(Candidate(4), model=MODEL)
    with batcher, pytest.raises(InvalidInput, match="timeout_s"):
        batcher.submit(numbered(0), timeout_s=float("nan"))


def test_a_cancelled_request_is_never_run() -> None:
    """It leaves the queue at once; one in flight can no longer be cancelled."""
    watched, batcher = serve(Candidate(64), model=MODEL)
    with batcher:
        (flying,) = behind_door(watched, batcher)
        futures = [batcher.submit(numbered(n)) for n in range(6)]
        assert futures[2].cancel()
        assert futures[2].cancel(), "twice is the same as once"
        assert batcher.figures.queue_rows == 5
        assert not flying.cancel()
        assert (flying.running(), futures[0].running()) == (True, False)
        done, _ = concurrent.futures.wait([futures[2]], timeout=60)
        assert done == {futures[2]}
        watched.door.set()
        flying.result(60)
        for number in (0, 1, 3, 4, 5):
            futures[number].result(60)
        assert not futures[0].cancel()
    assert 2 not in watched.ran
    assert batcher.figures.cancelled == 1


def test_a_cancelled_task_takes_its_rows_along() -> None:
    """A task that is cancelled in the queue is not run; in flight, it harms nobody."""
    watched, batcher = serve(Candidate(64), model=MODEL)
    behind_door(watched, batcher)

    async def story() -> None:
        tasks = [asyncio.create_task(batcher.abatch(numbered(n))) for n in range(4)]
        await asyncio.to_thread(wait_until, lambda: batcher.figures.queue_rows == 4)
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        assert batcher.figures.queue_rows == 3
        watched.at_door.clear()
        watched.door.set()
        for number in (0, 2, 3):
            np.testing.assert_array_equal(await tasks[number], 2 * numbered(number))
        watched.door.clear()
        watched.at_door.clear()
        flying = asyncio.create_task(batcher.abatch(numbered(5)))
        await asyncio.to_thread(watched.at_door.wait, 60)
        flying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flying
        watched.door.set()
        await batcher.abatch(numbered(6))

    with batcher:
        asyncio.run(story())
    assert 1 not in watched.ran
    assert batcher.figures.cancelled == 1
