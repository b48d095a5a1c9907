"""Standstills: what timed calls tell of them, and how a clock goes on meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune import Candidate, Measurement
from autotune.standstills import NEVER, Standstills

Floats = np.ndarray[Any, np.dtype[np.float64]]
some = st.builds(Standstills, per_s=st.floats(0.01, 100.0), mean_s=st.floats(0.001, 1.0))
moments = st.lists(st.floats(0.0, 1e6), min_size=1, max_size=50).map(np.sort)


def blocks_of(still: Standstills, block_s: float, concurrency: int = 1) -> list[Measurement]:
    """What blocks of calls of a millisecond tell that are timed on such a machine, one a second."""
    found = []
    for start_s in np.arange(0.0, 2_000.0, 1.0137):
        inside = start_s + np.arange(0.0, block_s, 0.001)
        ran_s = np.diff(still.to_running(inside))
        lost_s = np.round(0.95 * (np.diff(inside) - ran_s), 9)
        calls_s, lost_s = np.repeat(np.diff(inside), concurrency), np.repeat(lost_s, concurrency)
        way = Candidate(8, concurrency=concurrency)
        found.append(Measurement(way, tuple(calls_s), lost_s=tuple(lost_s)))
    return found


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("block_s", [0.03, 0.05, 0.3])
def test_they_are_found_in_blocks_that_are_shorter_than_they_are(
    block_s: float, concurrency: int
) -> None:
    """Few are seen from begin to end, but their number and their share of the time are."""
    still = Standstills(per_s=0.7, mean_s=0.05)
    found = Standstills.seen_in(blocks_of(still, block_s, concurrency))
    assert found.per_s == pytest.approx(0.7, rel=0.2)
    assert found.share == pytest.approx(still.share, rel=0.25)


def test_one_or_two_are_no_reason_to_count_on_more() -> None:
    """Nor is a block that lay within one."""
    calm = Measurement(Candidate(8), (0.01,) * 100)
    once = Measurement(Candidate(8), (0.01, 0.05, 0.01), lost_s=(0.0, 0.04, 0.0))
    within = Measurement(Candidate(8), (0.05,) * 3, lost_s=(0.04,) * 3)
    assert Standstills.seen_in([calm, once, once, *[within] * 9]) == NEVER
    assert Standstills.seen_in([calm, once, once, once]).mean_s == pytest.approx(0.04)
    assert NEVER.share == 0


@given(some, moments)
def test_a_clock_never_goes_back_and_the_machine_never_runs_faster(
    still: Standstills, clock_s: Floats
) -> None:
    """Each moment has its own, in order; between two the machine runs no longer than they last."""
    running_s = still.to_running(clock_s)
    slack = 1e-6 + 1e-9 * clock_s
    assert (np.diff(running_s) >= -slack[1:]).all()
    assert (np.diff(running_s) <= np.diff(clock_s) + slack[1:]).all()
    assert (still.to_clock(running_s) <= clock_s + 2 * still.mean_s + slack).all()
    assert still.to_running(still.to_clock(running_s)) == pytest.approx(running_s, abs=1e-5)


def test_any_stretch_holds_its_share_of_long_ones() -> None:
    """Short simulations see no other machine than long ones, so that rates can be compared."""
    still = Standstills(per_s=2.0, mean_s=0.055)
    for seconds in (5.0, 50.0, 500.0, 5_000.0):
        ran_s = float(still.to_running(np.array([seconds]))[0])
        assert 1 - ran_s / seconds == pytest.approx(still.share, rel=0.2 if seconds < 10 else 0.05)
