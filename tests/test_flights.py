"""Batches in flight: in order, at most so many at once, and none left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.flights import TURN_S, fly, spread


@given(st.lists(st.integers()), st.integers(1, 4))
def test_results_come_in_order(numbers: list[int], concurrency: int) -> None:
    """Whatever is in flight, each result stands where its batch stood."""
    with ThreadPoolExecutor(concurrency) as pool:
        assert list(fly(pool, str, numbers, concurrency)) == [str(n) for n in numbers]


def test_so_many_run_at_once() -> None:
    """Three calls that wait for each other all end, so three were in flight."""
    gate = threading.Barrier(3, timeout=30)

    def meet(number: int) -> int:
        gate.wait()
        return number

    with ThreadPoolExecutor(3) as pool:
        assert list(fly(pool, meet, range(9), 3)) == list(range(9))


def test_no_more_is_taken_than_is_needed() -> None:
    """Of a long input only the batches in flight and one more are held."""
    taken: list[int] = []

    def batches() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = fly(pool, int, batches(), 2)
        assert next(results) == 0
        assert len(taken) == 3


def test_an_error_reaches_the_caller_and_ends_the_flight() -> None:
    """A call that fails raises where its result was due, and the rest is not run."""
    ran: list[int] = []

    def fail_at_two(number: int) -> int:
        ran.append(number)
        if number == 2:
            raise KeyError(number)
        return number

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyError):
        list(fly(pool, fail_at_two, range(50), 1))
    assert len(ran) < 10


@given(st.lists(st.integers()), st.integers(1, 4))
def test_each_is_called_once(numbers: list[int], concurrency: int) -> None:
    """In whatever order: none twice, none left out, and all have ended."""
    found: list[int] = []
    with ThreadPoolExecutor(concurrency) as pool:
        spread(pool, found.append, numbers, concurrency)
        assert sorted(found) == sorted(numbers)


def test_so_many_are_spread_at_once() -> None:
    """Three calls that wait for each other all end, so three were in flight."""
    gate = threading.Barrier(3, timeout=30)
    with ThreadPoolExecutor(3) as pool:
        spread(pool, lambda _: gate.wait(), range(9), 3)


@pytest.mark.parametrize("where", ["a call", "the batches"])
def test_an_error_ends_what_is_spread(where: str) -> None:
    """The first error reaches the caller when no call runs any more, and no more are begun."""
    ran: list[int] = []
    running = threading.Semaphore(0)

    def batches() -> Iterator[int]:
        yield from range(10)
        if where == "the batches":
            raise KeyError(where)
        yield from range(10, 1000)

    def call(number: int) -> None:
        ran.append(number)
        if number == 10:
            raise KeyError(where)
        time.sleep(0.001)
        running.release()

    with ThreadPoolExecutor(3) as pool:
        with pytest.raises(KeyError, match=where):
            spread(pool, call, batches(), 3)
        ended = len(ran)
        assert ended < 20
        time.sleep(0.05)
        assert len(ran) == ended


def test_a_pool_is_shared_fairly() -> None:
    """A short job is done while a long one goes on, on the same single thread."""
    events: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        long = threading.Thread(
            target=spread, args=(pool, lambda _: time.sleep(TURN_S / 4), range(100), 1)
        )
        long.start()
        spread(pool, events.append, ["short"], 1)
        assert events == ["short"]
        assert long.is_alive()
        long.join()


def test_a_closed_pool_is_told() -> None:
    """Nothing waits for calls that will never be made."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        spread(pool, print, range(3), 1)
