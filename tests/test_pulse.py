"""The pulse: what it takes for a processor that is held up, and what it does not."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.pulse import FEWEST, HELD_UP, Pulse, undone_until

Floats = np.ndarray[Any, np.dtype[np.float64]]


def lost_at(*slowness: float) -> float:
    """Seconds that are lost in all, felt once a second."""
    return float(undone_until(np.arange(float(len(slowness))), np.array(slowness))[-1])


def test_a_processor_that_is_held_up_loses_the_work_that_it_did_not_do() -> None:
    """At a tenth of its speed it loses nine tenths of the time, and half of that at each end."""
    assert lost_at(1, 1, 10, 10, 10, 1) == pytest.approx(0.9 * 3)
    assert lost_at(10, 10) == pytest.approx(0.9)
    assert lost_at(1, 2, 10, 2, 1) == pytest.approx(0.5 + 0.9 + 0.5)


def test_a_lower_clock_or_a_smaller_core_is_not_held_up() -> None:
    """It is slower, as it is for whatever is timed there."""
    assert lost_at(1, 2, 3, 2, 1, 0.5, 0.9 * HELD_UP, 1) == 0
    assert lost_at(3, 3, 1, 10, 1) == pytest.approx(0.9)  # each stretch by itself


@given(st.lists(st.tuples(st.floats(1e-4, 1.0), st.floats(0.1, 1_000.0)), min_size=1, max_size=50))
def test_never_is_more_lost_than_there_was(beats: list[tuple[float, float]]) -> None:
    """And nothing is given back."""
    gaps_s, slowness = map(np.array, zip(*beats, strict=True))
    moments_s = np.cumsum(gaps_s)
    lost_s = np.diff(undone_until(moments_s, slowness))
    assert (lost_s >= 0).all()
    assert (lost_s <= np.diff(moments_s) * (1 + 1e-9)).all()


def test_it_is_felt_while_it_is_entered_and_no_thread_is_left() -> None:
    """Also where what is timed fails."""
    threads, pulse, calls = threading.active_count(), Pulse(), []
    for _ in range(FEWEST):
        with pulse:
            began_s = time.perf_counter()
            time.sleep(0.01)
            calls.append((began_s, time.perf_counter()))
        lost_s = pulse.lost_s(calls[-1:])[0]
        assert 0 <= lost_s < calls[-1][1] - calls[-1][0]
    with pytest.raises(ValueError, match="of the model"), pulse:
        raise ValueError("of the model")
    assert threading.active_count() == threads


def test_before_anything_is_usual_nothing_is_lost() -> None:
    """The first pulses of a process may be slow, with nothing to hold them against."""
    with Pulse() as pulse:
        now_s = time.perf_counter()
    assert pulse.lost_s([(now_s, now_s + 1), (now_s, now_s + 2)]) == (0.0, 0.0)
