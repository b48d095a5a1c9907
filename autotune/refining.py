"""Between the rungs: sizes around the best one that may be better, or smaller and as good."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from autotune.bounds import Bounds, at, rounded
from autotune.judging import Lane, lane_of
from autotune.ladder import is_rung
from autotune.outcomes import Candidate
from autotune.standing import Standing

NEAR = 0.06  # as a log ratio: lanes this close to the best are refined too
EDGE = 1.03  # the edge of memory or latency is approached up to here
WIDE = 1.5  # so far below a size that failed another one is worth the risk of its failing too
FINE = 1.13  # sizes closer than that are not told apart
ROUGH = 0.025  # off the straight line by more, a curve has steps or cliffs
MOST = 14  # sizes besides the rungs


def refine(standing: Standing, bounds: Bounds) -> Candidate | None:
    """Return a size worth trying that has not been tried; None when there is none left."""
    best, chosen = standing.best, standing.chosen
    if best is None or chosen is None:
        return None
    levels = standing.levels
    tried = [c for c in standing.known if not is_rung(c.batch_size, standing.goal)]
    if len(tried) >= MOST:
        return None
    lanes = dict.fromkeys([lane_of(chosen), lane_of(best)])
    near = sorted(standing.allowed, key=lambda c: -levels[c])
    lanes |= dict.fromkeys(lane_of(c) for c in near if standing.gap(best, c).low < NEAR)
    for lane in list(lanes)[:3]:
        for size in _worth_trying(standing, bounds, lane):
            if bounds.allow(lane, size):
                return at(lane, size)
    return None


def _worth_trying(standing: Standing, bounds: Bounds, lane: Lane) -> Iterator[int]:
    line = [size for size in standing.of_lane(lane) if standing.allows(at(lane, size))]
    if not line:
        return
    best = max(standing.levels[at(lane, size)] for size in line)
    near = best - standing.tolerance
    pivot = next(size for size in line if standing.levels[at(lane, size)] >= near)
    yield from _equal_parts(standing, pivot)
    yield from _towards_edge(standing, bounds, lane, line)
    if standing.goal.objective != "latency":
        yield from _smaller(standing, lane, line)
    yield from (rounded(pivot * 3 / 2), rounded(pivot * 3 / 4))
    yield from _between(standing, lane, line, pivot)


def _equal_parts(standing: Standing, pivot: int) -> Iterator[int]:
    """For a job of known size its equal parts: a full last batch beats a round number."""
    goal = standing.goal
    if goal.objective == "makespan" and goal.rows is not None:
        parts = (-(-goal.rows // count) for count in range(1, 33))
        yield from [size for size in parts if pivot / 2 < size < 2 * pivot][:4]


def _towards_edge(
    standing: Standing, bounds: Bounds, lane: Lane, line: Sequence[int]
) -> Iterator[int]:
    """Up to where memory or latency ended the ladder, from below, while speed still rises."""
    bad = [size for size in standing.of_lane(lane) if size not in line]
    bad += [c.batch_size for c in bounds.refused if lane_of(c) == lane]
    high = min((size for size in bad if size > line[-1]), default=0)
    low = line[-1]
    if not high or high <= EDGE * low:
        return
    rising = _slope(standing, lane, line) * (high - low) / low > standing.tolerance / 2
    if not rising and standing.goal.objective != "latency":
        return
    broken = [size for size in standing.of_lane(lane) if standing.known[at(lane, size)].failed]
    if any(low < size <= WIDE * low for size in broken):
        return  # a forecast that was wrong once is not trusted again
    if at(lane, high) in bounds.refused:
        yield rounded(bounds.largest_that_fits(lane, low, high))
    else:
        yield rounded((low + high) / 2)


def _slope(standing: Standing, lane: Lane, line: Sequence[int]) -> float:
    """Gain at the end of a curve, as log value for log size."""
    if len(line) < 2:
        return 1.0
    last, before = line[-1], max((size for size in line if size <= 0.8 * line[-1]), default=line[0])
    gain = standing.levels[at(lane, last)] - standing.levels[at(lane, before)]
    return gain / ((last - before) / before)


def _smaller(standing: Standing, lane: Lane, line: Sequence[int]) -> Iterator[int]:
    """Where a straight line says that the smallest size within the tolerance lies."""
    chosen = standing.chosen
    if chosen is None or lane_of(chosen) != lane:
        return
    below = [size for size in line if size < chosen.batch_size]
    if not below or chosen.batch_size <= FINE * below[-1]:
        return
    low, high = below[-1], chosen.batch_size
    rise = standing.levels[chosen] - standing.levels[at(lane, low)]
    if rise < standing.tolerance / 2 and high < 2 * low:
        return  # nobody could tell a size in between from these two
    target = standing.levels[standing.best or chosen] - standing.tolerance
    guess = _crossing(
        low, _seconds(standing, lane, low), high, _seconds(standing, lane, high), target
    )
    if guess * FINE < high:
        yield max(rounded(guess), rounded(low * FINE))
    elif high > 1.5 * low:
        yield rounded((low + high) / 2)


def _seconds(standing: Standing, lane: Lane, size: int) -> float:
    """Relative seconds of a batch, from its level."""
    return size / math.exp(standing.levels[at(lane, size)])


def _crossing(low: int, low_s: float, high: int, high_s: float, target: float) -> float:
    """The size at which, seconds being a straight line, the level reaches a target."""
    a_row = (high_s - low_s) / (high - low)
    fixed = low_s - a_row * low
    speed = math.exp(target)
    left = 1 - speed * a_row
    return speed * fixed / left if left > 0 else high


def _between(standing: Standing, lane: Lane, line: Sequence[int], pivot: int) -> Iterator[int]:
    """Middles of the intervals around the best, while the curve there is no straight line."""
    window = [size for size in line if pivot / 2 <= size <= 2 * pivot]
    if not _is_rough(standing, lane, window):
        return
    intervals = [(a, b) for a, b in itertools.pairwise(window) if b > FINE * a]
    for a, b in sorted(intervals, key=lambda ab: (pivot not in ab, ab[0] != pivot, -ab[1] / ab[0])):
        yield rounded((a + b) / 2)


def _is_rough(standing: Standing, lane: Lane, window: Sequence[int]) -> bool:
    for a, b, c in zip(window, window[1:], window[2:], strict=False):
        a_s, b_s, c_s = (_seconds(standing, lane, size) for size in (a, b, c))
        straight = a_s + (c_s - a_s) * (b - a) / (c - a)
        if abs(math.log(b_s / straight)) > max(ROUGH, 3 * standing.fit.noise):
            return True
    return False
