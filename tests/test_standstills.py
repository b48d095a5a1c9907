"""Standstills: what timed calls tell of them, and how long requests wait for that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune import Candidate, Measurement
from autotune.standstills import NEVER, Standstills
from tests.clocks import Clocks

SHORT_AND_LONG = (0.01, 0.02, 0.03, 0.09, 0.1)
stills = st.builds(
    Standstills,
    per_s=st.floats(0.01, 100.0),
    lengths_s=st.lists(st.floats(0.001, 1.0), min_size=1, max_size=5).map(sorted).map(tuple),
)


def blocks_of(clocks: Clocks, block_s: float, concurrency: int = 1) -> list[Measurement]:
    """What blocks of calls of a millisecond tell that are timed on such a machine, one a second."""
    found = []
    for start_s in np.arange(0.0, clocks.wall_s[-1], 1.0137):
        inside = start_s + np.arange(0.0, block_s, 0.001)
        calls_s = np.diff(inside)
        lost_s = np.round(0.95 * (calls_s - np.diff(clocks.to_running(inside))), 9)
        calls_s, lost_s = np.repeat(calls_s, concurrency), np.repeat(lost_s, concurrency)
        way = Candidate(8, concurrency=concurrency)
        found.append(Measurement(way, tuple(calls_s), lost_s=tuple(lost_s)))
    return found


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("block_s", [0.03, 0.05, 0.3])
def test_they_are_found_in_blocks_that_are_shorter_than_they_are(
    block_s: float, concurrency: int
) -> None:
    """Few are seen from begin to end, but their number and their share of the time are."""
    clocks = Clocks.of(0.7, SHORT_AND_LONG, 2_000)
    found = Standstills.seen_in(blocks_of(clocks, block_s, concurrency))
    assert found.per_s == pytest.approx(0.7, rel=0.2)
    share = 1 - clocks.running_s[-1] / clocks.wall_s[-1]
    assert found.share == pytest.approx(share, rel=0.25)


def test_long_ones_are_told_from_short_ones_where_most_are_cut_off() -> None:
    """By those that are seen to their end, and how many of the others went on so long."""
    found = Standstills.seen_in(blocks_of(Clocks.of(0.7, SHORT_AND_LONG, 4_000), 0.12))
    for share, length_s in zip((0.1, 0.3, 0.5, 0.8), SHORT_AND_LONG, strict=False):
        assert np.quantile(found.lengths_s, share) == pytest.approx(length_s, rel=0.15)


def test_one_or_two_are_no_reason_to_count_on_more() -> None:
    """Nor is a block that lay within one."""
    calm = Measurement(Candidate(8), (0.01,) * 100)
    once = Measurement(Candidate(8), (0.01, 0.05, 0.01), lost_s=(0.0, 0.04, 0.0))
    within = Measurement(Candidate(8), (0.05,) * 3, lost_s=(0.04,) * 3)
    assert Standstills.seen_in([calm, once, once, *[within] * 9]) == NEVER
    assert NEVER.share == NEVER.mean_s == 0
    assert not NEVER.waits_s(0.5, 10).any()


@given(stills, st.integers(1, 1_000))
def test_with_nothing_else_to_do_nobody_waits_longer_than_one_lasts(
    still: Standstills, count: int
) -> None:
    """And only those wait who come while it lasts."""
    waits_s = still.waits_s(0.0, count)
    assert waits_s.shape == (count,)
    assert (waits_s >= 0).all()
    assert waits_s.max() <= max(still.lengths_s) + 1e-9
    assert np.mean(waits_s > 0) == pytest.approx(still.share, abs=0.01 + 4 / count)


@given(stills, st.floats(0.0, 0.9))
def test_the_busier_the_machine_the_longer_they_wait(still: Standstills, share: float) -> None:
    """At any share of those who come."""
    free = 1 - still.share
    less, more = (np.sort(still.waits_s(busy * free, 4_096)) for busy in (share, share + 0.05))
    assert (more >= less - 1e-9).all()


@pytest.mark.parametrize("busy", [0.3, 0.8])
def test_many_waits_and_few_tell_the_same(busy: float) -> None:
    """Short simulations see no other machine than long ones, so that rates can be compared."""
    still = Standstills(per_s=1.5, lengths_s=SHORT_AND_LONG)
    exact = np.quantile(still.waits_s(busy, 65_536), 0.99)
    for count in (2_000, 8_192):
        assert np.quantile(still.waits_s(busy, count), 0.99) == pytest.approx(exact, rel=0.03)


def test_halts_that_follow_each_other_are_one() -> None:
    """A machine that goes on for a few milliseconds has not recovered."""
    calls_s, lost_s = (0.01,) * 12, (0.0, 0.0, 0.009, 0.0, 0.009, *(0.0,) * 5, 0.009, 0.0)
    found = Standstills.seen_in([Measurement(Candidate(8), calls_s, lost_s=lost_s)] * 5)
    assert sorted(set(np.round(found.lengths_s, 6))) == [0.009, 0.018]
    assert found.per_s == pytest.approx(2 / (sum(calls_s) - sum(lost_s) - 0.01))
