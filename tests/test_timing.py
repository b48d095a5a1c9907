"""Timed calls: how long those in flight together take, whoever ends first."""

from __future__ import annotations

import pytest

from autotune.disturbance import Meter
from autotune.guard import Guard
from autotune.timing import LONG, Threads, span_s, time_calls
from tests.guards import UNWATCHED

Call = tuple[float, float]


def in_turn(*seconds: float, start: float = 0.0) -> list[Call]:
    """The calls of one thread, which makes one after the other."""
    calls = []
    for each in seconds:
        calls.append((start, start + each))
        start += each
    return calls


def test_threads_that_end_together_took_as_long_as_the_clock_says() -> None:
    """Two threads that make three calls of a second each are done after three seconds."""
    for at_once in (1, 2, None):
        assert span_s(in_turn(1, 1, 1) * 2, 2, at_once) == pytest.approx(3.0)


def test_a_thread_that_has_nothing_left_to_do_counts_for_its_processor() -> None:
    """Of two processors the second does half of what both do, until it ends."""
    calls = [*in_turn(1, 1), *in_turn(4 / 3, 4 / 3)]
    assert span_s(calls, 2, 2) == pytest.approx(2 + 1 / 3)
    assert span_s(calls, 2, 1) == pytest.approx(2 + 2 / 3)
    assert span_s(calls, 2) == pytest.approx(((2 + 1 / 3) * (2 + 2 / 3)) ** 0.5)


def test_threads_that_share_processors_are_busy_until_too_few_are_left() -> None:
    """Of three on two processors the first to end leaves both to the others."""
    calls = [(0.0, 1.2), (0.0, 1.4), (0.0, 1.6)]
    assert span_s(calls, 3, 2) == pytest.approx(1.4 + 0.2 / 2)
    assert span_s(calls, 3, 3) == pytest.approx(1.2 + 0.2 * 2 / 3 + 0.2 / 3)
    assert span_s(calls, 3, 8) == span_s(calls, 3, 3)  # no more than there are calls
    assert span_s(calls, 3, 0.5) == span_s(calls, 3, 1)  # threads of one call share as well


def test_a_thread_that_begins_late_was_no_slower() -> None:
    """Six calls of a second take three seconds; from the first start to the last end it is 3.5."""
    late = in_turn(1, 1, 1, start=0.5)
    assert span_s([*in_turn(1, 1, 1), *late], 2, 2) == pytest.approx(3.0)


def test_time_between_calls_counts_while_all_are_there() -> None:
    """A thread that makes no call then is handing over, or waits for Python's lock."""
    gaps = [(n * 0.75, n * 0.75 + 0.5) for n in range(4)]
    for at_once in (1, 2, None):
        assert span_s([*gaps, *gaps], 2, at_once) == pytest.approx(3 * 0.75 + 0.5)
    assert span_s([(0.0, 1.0)], 2, 1) == 1.0


def test_the_order_in_which_calls_are_told_does_not_matter() -> None:
    """Threads tell of a call when it has ended."""
    calls = [*in_turn(0.9, 1.3), *in_turn(1.1, 0.8, start=0.1), *in_turn(1.0, 1.0, start=0.2)]
    assert span_s(calls, 3, 2) == span_s(calls[::-1], 3, 2)


@pytest.mark.parametrize(
    ("concurrency", "blocks", "made"),
    [(1, 2.0, 1), (3, 2.0, 6), (3, LONG + 1.0, 3), (1, LONG + 1.0, 1)],
)
def test_of_long_calls_few_are_made(concurrency: int, blocks: float, made: int) -> None:
    """One alone, two for each thread in flight; where they take many blocks, one for each."""
    calls: list[object] = []
    timings = time_calls(
        calls.append,
        [None],
        0.01,
        threads=Threads(),
        concurrency=concurrency,
        fewest=2,
        at_once=None,
        meter=Meter(),
        guard=Guard(UNWATCHED, own_bytes=0),
        call_s=blocks * 0.01,
    )
    assert len(calls) == len(timings.times_s) == made
