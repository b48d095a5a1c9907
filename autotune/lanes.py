"""The other lanes: a quick look at each beside the first ladder, then doublings where it pays.

The first lane has climbed from the smallest size to its plateau. At the size where that begins the
others are looked at, at an eighth of it and at an eighth of that: a batch takes so much a call and
so much a row, and two sizes tell both. A lane that could be the best at no size is left; the others
climb from their own best size, in both directions. So an engine costs a few probes more and not a
ladder, and so does a number of batches in flight.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from autotune.bounds import Bounds, at, top_of
from autotune.goal import Goal
from autotune.judging import Lane
from autotune.outcomes import Candidate
from autotune.standing import Standing

APART = 8  # times each size of a look is the next
PLATEAU = 0.05  # as a log ratio: that far below its best begins the plateau of the first lane
BEHIND = 0.15  # as a log ratio: a lane that can come no nearer to the best than that is left
NEAR = 0.06  # as a log ratio: so near the best, smaller sizes are of interest too
IN_FLIGHT = math.log(2.5)  # what several batches in flight gain over one, at most
DEAR = 0.02  # share of the time left: a size that takes more must be likely to be the best
MOST_AT_ONCE = 6  # candidates in a round


def look_around(standing: Standing, bounds: Bounds, lanes: Sequence[Lane]) -> list[Candidate]:
    """Return what the lanes after the first want timed side by side; nothing once they are done."""
    first, *others = lanes
    size = _plateau_of(standing, first)
    if size is None or standing.best is None:
        return []
    hopeful = [lane for lane in others if _may_be_best(standing, lane, lanes)]
    looks = [_looks(standing, bounds, lane, size) for lane in hopeful]
    wanted = list(itertools.chain.from_iterable(looks))
    if not wanted:
        hopeful.sort(key=lambda lane: -_level(standing, lane))
        steps = [_steps(standing, bounds, lane) for lane in hopeful]
        wanted = list(itertools.chain.from_iterable(steps))
    return wanted[:MOST_AT_ONCE]


def _line(standing: Standing, lane: Lane) -> list[Candidate]:
    """The candidates of a lane that are within the limits, by size."""
    sizes = standing.of_lane(lane)
    return [at(lane, size) for size in sizes if standing.allows(at(lane, size))]


def _level(standing: Standing, lane: Lane) -> float:
    """The level of a lane's best candidate."""
    return max((standing.levels[c] for c in _line(standing, lane)), default=-math.inf)


def _plateau_of(standing: Standing, lane: Lane) -> int | None:
    """The smallest size of a lane that is nearly as good as its best; None where nothing ran."""
    near = _level(standing, lane) - PLATEAU
    good = (c.batch_size for c in _line(standing, lane) if standing.levels[c] >= near)
    return next(good, None)


def _may_be_best(standing: Standing, lane: Lane, lanes: Sequence[Lane]) -> bool:
    """Whether a lane may hold the answer, or nothing is known of it yet."""
    line = _line(standing, lane)
    if not line and standing.of_lane(lane):
        return True  # all over a limit: a smaller size may not be
    best = _level_of_best(standing)
    if not line:
        single = next(one for one in lanes if one[0] == lane[0])
        if single == lane:
            return True
        known = _line(standing, single)  # of the same engine
        return bool(known) and _hope(standing, known) + IN_FLIGHT >= best
    return _hope(standing, line) >= best


def is_near_best(standing: Standing, lane: Lane) -> bool:
    """Whether a lane is about as good as the best as far as it has been tried.

    Where noise is loud any lane may be; whoever may still be the answer is for the race.
    """
    line = _line(standing, lane)
    return bool(line) and _level(standing, lane) >= _level_of_best(standing) - NEAR


def _is_near(standing: Standing, own: Candidate) -> bool:
    best = max(standing.allowed, key=lambda c: standing.levels[c])
    return own == best or standing.gap(best, own).low <= NEAR


def _level_of_best(standing: Standing) -> float:
    return max(standing.levels[c] for c in standing.allowed)


def _hope(standing: Standing, line: Sequence[Candidate]) -> float:
    """The level that a lane may still come to, with a margin for what its blocks do not tell."""
    own = max(line, key=lambda c: standing.levels[c])
    best = max(standing.allowed, key=lambda c: standing.levels[c])
    doubt = standing.gap(best, own).half_width if own != best else 0.0
    return standing.levels[own] + _reach(standing, line, own) + BEHIND + doubt


def _reach(standing: Standing, line: Sequence[Candidate], own: Candidate) -> float:
    """What larger batches may gain over a lane's best, as a log ratio.

    With `t` seconds a batch of `n` rows, both known at two sizes, a row takes `(t2 - t1) /
    (n2 - n1)` seconds at least, however many there are.
    """
    if standing.goal.objective == "latency" or own != line[-1]:
        return 0.0
    below = [c for c in line if 2 * c.batch_size <= own.batch_size]
    if not below:
        return math.inf
    large_s, small_s = _seconds(standing, own), _seconds(standing, below[-1])
    if large_s <= small_s:
        return math.inf
    row_s = (large_s - small_s) / (own.batch_size - below[-1].batch_size)
    return max(0.0, math.log(large_s / own.batch_size / row_s))


def _seconds(standing: Standing, candidate: Candidate) -> float:
    """Relative seconds of a batch, from its level."""
    return candidate.batch_size / math.exp(standing.levels[candidate])


def _looks(standing: Standing, bounds: Bounds, lane: Lane, size: int) -> list[Candidate]:
    """The first sizes of a lane; and any of which only disturbed blocks are known."""
    tried = set(standing.of_lane(lane))
    again = [c for c in _line(standing, lane) if not standing.times_tried(c)]
    first = _first_sizes(standing, bounds, lane, size)
    if len(tried) >= len(first):
        return again
    # A round has room for a few, and ends early where something disturbs it.
    return [*again, *(at(lane, n) for n in first if n not in tried)]


def _first_sizes(standing: Standing, bounds: Bounds, lane: Lane, size: int) -> list[int]:
    """The sizes of a look, those that ran already among them."""

    def may_run(n: int) -> bool:
        known = standing.known.get(at(lane, n))
        return bool(known and known.parts) or bounds.allow(lane, n)

    # No forecast looks further than a doubling of what was in flight together.
    most = 2 * max(c.batch_size * c.concurrency for c in standing.levels) // lane[1]
    size = size if size <= most else _rung_below(most, standing.goal)
    small = _rung_below(size / APART, standing.goal)
    while not may_run(small) and small > standing.goal.min_batch_size:
        small = _rung_below(small / 2, standing.goal)
    sizes = dict.fromkeys((_rung_below(small / APART, standing.goal), small, size))
    return [n for n in sizes if may_run(n)]


def _steps(standing: Standing, bounds: Bounds, lane: Lane) -> list[Candidate]:
    """The next sizes of a lane, above and below its best."""
    return [at(lane, n) for n in _next_to_best(standing, bounds, lane) if bounds.allow(lane, n)]


def _next_to_best(standing: Standing, bounds: Bounds, lane: Lane) -> Iterator[int]:
    goal, line = standing.goal, _line(standing, lane)
    if not line:
        yield from (_rung_below(size / APART, goal) for size in standing.of_lane(lane)[:1])
        return
    own = max(line, key=lambda c: standing.levels[c])
    if _is_near(standing, own):
        yield _rung_below(own.batch_size - 1, goal)
    above = min(2 * own.batch_size, top_of(goal))
    if not _is_dear(standing, bounds, lane, line, above):
        yield above


def _is_dear(
    standing: Standing, bounds: Bounds, lane: Lane, line: Sequence[Candidate], size: int
) -> bool:
    """Whether a size takes much of the time that is left, and is not expected to be the best."""
    if bounds.expected_s(lane, size) < DEAR * bounds.remaining_s:
        return False
    own = max(line, key=lambda c: standing.levels[c])
    expected = standing.levels[own] + _reach(standing, line, own) / 2  # half of it by a doubling
    return expected < _level_of_best(standing) + standing.tolerance


def _rung_below(size: float, goal: Goal) -> int:
    """The largest doubling of the smallest size that is no larger than this one."""
    steps = math.log2(max(1.0, size / goal.min_batch_size))
    return goal.min_batch_size << int(steps)
