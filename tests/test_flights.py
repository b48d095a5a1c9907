"""Batches in flight: in order, at most so many at once, and none left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.flights import fly


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
