"""Timed calls: how long those in flight together take, whoever ends first."""

from __future__ import annotations

import pytest

from autotune.timing import span_s

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
    assert span_s(in_turn(1, 1, 1) * 2, 2) == pytest.approx(3.0)


def test_a_thread_that_has_nothing_left_to_do_counts_for_half() -> None:
    """Until 2 s both are busy and make 2 + 1.5 calls; 4 calls take 2.29 s so, and 2.67 s in all."""
    slow = in_turn(4 / 3, 4 / 3)
    together = 2.0 * 4 / 3.5
    assert span_s([*in_turn(1, 1), *slow], 2) == pytest.approx((together * 8 / 3) ** 0.5)


def test_a_thread_that_begins_late_was_no_slower() -> None:
    """Six calls of a second take three seconds; from the first start to the last end it is 3.5."""
    late = in_turn(1, 1, 1, start=0.5)
    assert span_s([*in_turn(1, 1, 1), *late], 2) == pytest.approx((3.0 * 3.5) ** 0.5)


def test_calls_that_never_met_took_all_the_time_there_was() -> None:
    """Nothing tells then how long they would take together."""
    assert span_s([(0.0, 1.0), (1.5, 2.5)], 2) == 2.5
    assert span_s([(0.0, 1.0)], 2) == 1.0


def test_the_order_in_which_calls_are_told_does_not_matter() -> None:
    """Threads tell of a call when it has ended."""
    calls = [*in_turn(0.9, 1.3), *in_turn(1.1, 0.8, start=0.1), *in_turn(1.0, 1.0, start=0.2)]
    assert span_s(calls, 3) == span_s(calls[::-1], 3)
