"""Closing the MicroBatcher: who still waits is answered, or told why not."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from autotune import BatcherClosed, Candidate
from tests.batchers import behind_door, doubler, numbered, serve, workers
from tests.waiting import wait_until

MODEL = doubler()


def test_closing_answers_all_that_wait() -> None:
    """Leaving the `with` drains the queue; afterwards nothing is taken, and no thread is left."""
    watched, batcher = serve(Candidate(4, concurrency=2), model=MODEL, max_wait_s=3600)
    with batcher:
        assert {worker.name for worker in workers(batcher)} == {
            "autotune-batcher-0",
            "autotune-batcher-1",
        }
        assert all(worker.daemon for worker in workers(batcher))
        futures = [batcher.submit(numbered(n), timeout_s=3000) for n in range(11)]
    for number, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(0), 2 * numbered(number))
    with pytest.raises(BatcherClosed, match="takes no more"):
        batcher.submit(numbered(0))
    with pytest.raises(BatcherClosed):
        asyncio.run(batcher.abatch(numbered(0)))
    batcher.close()
    assert not workers(batcher)
    assert watched.ran == set(range(11))


def test_closing_without_draining_fails_those_that_wait() -> None:
    """What is in flight is answered, what waits gets BatcherClosed, in threads and loops."""
    watched, batcher = serve(Candidate(4), model=MODEL)
    (flying,) = behind_door(watched, batcher)
    waiting = batcher.submit(numbered(1), timeout_s=600)

    async def story() -> None:
        task = asyncio.create_task(batcher.abatch(numbered(2)))
        await asyncio.to_thread(wait_until, lambda: batcher.figures.queue_rows == 2)
        closing = asyncio.create_task(batcher.aclose(drain=False))
        with pytest.raises(BatcherClosed):
            await task
        watched.door.set()
        await closing

    asyncio.run(story())
    with pytest.raises(BatcherClosed, match="before the request ran"):
        waiting.result(0)
    flying.result(0)
    assert watched.ran == {900}
    assert batcher.figures.abandoned == 2
    assert not workers(batcher)


def test_an_async_with_drains_too() -> None:
    """Tasks that wait when the block ends are answered."""
    _, batcher = serve(Candidate(4), model=MODEL, max_wait_s=3600)

    async def story() -> Any:
        async with batcher:
            task = asyncio.create_task(batcher.abatch(numbered(1)))
            await asyncio.to_thread(wait_until, lambda: batcher.figures.queue_rows == 1)
        return await task

    np.testing.assert_array_equal(asyncio.run(story()), 2 * numbered(1))


def test_a_callback_may_close_the_batcher() -> None:
    """A worker that closes its own batcher does not wait for itself."""
    watched, batcher = serve(Candidate(1), model=MODEL)
    (flying,) = behind_door(watched, batcher)
    flying.add_done_callback(lambda _: batcher.close())
    waiting = batcher.submit(numbered(1), timeout_s=600)
    watched.door.set()
    waiting.result(60)
    wait_until(lambda: not workers(batcher))
