"""The pulse: what it takes for a processor that is held up, and what it does not."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.pulse import FEWEST, HELD_UP, LONGEST_S, PERIOD_S, Pulse, undone_until

Floats = np.ndarray[Any, np.dtype[np.float64]]


def lost_at(*slowness: float) -> float:
    """How many times the period between two pulses is lost in all."""
    moments_s = PERIOD_S * np.arange(len(slowness), dtype=np.float64)
    return float(undone_until(moments_s, np.array(slowness, np.float64))[-1]) / PERIOD_S


def test_a_processor_that_is_held_up_loses_the_work_that_it_did_not_do() -> None:
    """At a tenth of its speed it loses nine tenths of the time, and half of that at each end."""
    assert lost_at(1, 1, 10, 10, 10, 1) == pytest.approx(0.9 * 3)
    assert lost_at(10, 10) == pytest.approx(0.9)
    assert lost_at(1, 2, 10, 2, 1) == pytest.approx(0.5 + 0.9 + 0.5)


def test_a_lower_clock_or_a_smaller_core_is_not_held_up() -> None:
    """It is slower, as it is for whatever is timed there; and one slow pulse is just that."""
    assert lost_at(1, 2, 3, 2, 1, 0.5, 0.9 * HELD_UP, 1) == 0
    assert lost_at(*[3] * 12, 4, *[3] * 12) == pytest.approx(0.75 + 2 * 2 / 3)


def test_of_a_long_time_without_a_pulse_nothing_is_known() -> None:
    """Python's lock may have been held by what is timed."""
    moments_s = np.array([0.0, 1.0])
    assert undone_until(moments_s, np.array([1.0, 10.0]))[-1] == pytest.approx(0.45 * LONGEST_S)


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
    pulse = Pulse()
    for _ in range(FEWEST):
        with pulse:
            began_s = time.perf_counter()
            time.sleep(0.01)
            ended_s = time.perf_counter()
        assert len(pulse._beats) >= 2
        assert 0 <= pulse.lost_s([(began_s, ended_s)])[0] < ended_s - began_s
    with pytest.raises(ValueError, match="of the model"), pulse:
        raise ValueError("of the model")
    assert "autotune-pulse" not in [thread.name for thread in threading.enumerate()]


def test_what_is_lost_falls_to_the_calls_that_were_made_meanwhile() -> None:
    """By their begin and end, against what the work usually takes."""
    pulse = Pulse()
    pulse._usual_s.extend([2e-5] * FEWEST)
    pulse._beats = [(0.004 * n, 2e-5 * (10 if 3 <= n <= 5 else 1)) for n in range(9)]
    calls = [(0.0, 0.008), (0.008, 0.02), (0.014, 0.016), (0.024, 0.032)]
    assert pulse.lost_s(calls) == pytest.approx((0.0, 0.0018 + 0.0072, 0.0018, 0.0), abs=1e-9)


def test_where_there_is_no_thread_to_be_had_nothing_is_felt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is timed is not to blame for that."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Pulse() as pulse:
        pass
    assert pulse.lost_s([(0.0, 1.0)]) == (0.0,)


def test_before_anything_is_usual_nothing_is_lost() -> None:
    """The first pulses of a process may be slow, with nothing to hold them against."""
    with Pulse() as pulse:
        now_s = time.perf_counter()
    assert pulse.lost_s([(now_s, now_s + 1), (now_s, now_s + 2)]) == (0.0, 0.0)
