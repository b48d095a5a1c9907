"""The ladder: doublings in each lane, until larger batches gain nothing that counts."""

from __future__ import annotations

from collections.abc import Sequence

from autotune.bounds import Bounds, at, top_of
from autotune.goal import Goal
from autotune.judging import Lane, lane_of
from autotune.outcomes import Candidate
from autotune.standing import OFTEN, Standing

PATIENCE = 3  # rungs without gain before a ladder ends: a dip is not a plateau
# Fewer where one more rung would take these shares of the time that is left.
DEAR, PATIENCE_WHEN_DEAR = 0.04, 2
VERY_DEAR, LEAST_PATIENCE = 0.10, 1
DOUBTS = 6  # rounds after which a doubtful plateau is taken for one
MOST_HICCUPS = 40  # blocks of a rung that is too slow, while it is not known what made it so
# As a log ratio: a lane that far behind the best, and not catching up, is left.
BEHIND, BEHIND_WHEN_DEAR = 0.15, 0.05


def climb(standing: Standing, bounds: Bounds, lanes: Sequence[Lane]) -> list[Candidate]:
    """Return what the ladders want timed side by side; nothing once all of them have ended.

    The ladders rise in step: only the lowest rungs that are wanted are tried.
    """
    if not standing.known:  # what the other lanes will take is forecast from the first
        return [at(lanes[0], standing.goal.min_batch_size)]
    doubts: list[Candidate] = []
    rungs: list[tuple[int, Lane]] = []
    for lane in lanes:
        wanted = _wants(standing, bounds, lane)
        if isinstance(wanted, int):
            rungs.append((wanted, lane))
        else:
            doubts += wanted
    lowest = min((size for size, _ in rungs), default=0)
    new = [at(lane, size) for size, lane in rungs if size <= 2 * lowest - 1]
    if new:
        return [*new, *anchor(standing)]
    return list(dict.fromkeys(doubts))


def anchor(standing: Standing) -> list[Candidate]:
    """Return the best so far, if any: with it in each, rounds can be compared with each other."""
    fine = standing.allowed
    return [max(fine, key=lambda c: standing.levels[c])] if fine else []


def _wants(standing: Standing, bounds: Bounds, lane: Lane) -> int | list[Candidate]:
    """The next rung of a ladder; or, where its end is in doubt, what must be timed again."""
    goal = standing.goal
    rungs = _climbed(standing, lane)
    if not rungs:
        size = goal.min_batch_size
        return size if bounds.allow(lane, size) else []
    last = at(lane, rungs[-1])
    if not standing.allows(last):
        return [last, *anchor(standing)] if _may_be_a_hiccup(standing, last) else []
    size = min(2 * rungs[-1], top_of(goal))
    if size == rungs[-1]:
        return []
    doubt = _left_behind(standing, bounds, lane, rungs)
    if doubt is not None:
        return doubt
    if not standing.times_tried(last):  # but disturbed: nothing follows from that
        return rungs[-1]
    doubt = _plateau(standing, bounds, lane, rungs)
    if doubt is None:
        return size if bounds.allow(lane, size) else []
    return doubt


def _climbed(standing: Standing, lane: Lane) -> list[int]:
    """The rungs from the lowest up to the first that was not tried."""
    tried, top = set(standing.of_lane(lane)), top_of(standing.goal)
    rungs: list[int] = []
    size = standing.goal.min_batch_size
    while size in tried and (not rungs or size > rungs[-1]):
        rungs.append(size)
        size = min(2 * size, top)
    return rungs


def is_rung(size: int, goal: Goal) -> bool:
    """Whether a size is a doubling of the smallest one, or the largest allowed."""
    if size == top_of(goal):
        return True
    steps, rest = divmod(size, goal.min_batch_size)
    return rest == 0 and steps & (steps - 1) == 0


def _may_be_a_hiccup(standing: Standing, candidate: Candidate) -> bool:
    """Whether a rung is only too slow, and not surely so."""
    undecided = standing.verdict(candidate) == "undecided"
    return (
        undecided
        and standing.fits(candidate)
        and standing.is_too_slow(candidate)
        and standing.times_tried(candidate) < MOST_HICCUPS
    )


def _left_behind(
    standing: Standing, bounds: Bounds, lane: Lane, rungs: Sequence[int]
) -> list[Candidate] | None:
    """None while a lane may still be the best; else what must be timed again to be sure it is not.

    It is not where it is so far behind the best that what it may still gain is not enough. Surely
    so, because a neighbour slows several batches in flight more than one.
    """
    level = standing.levels
    line = [at(lane, size) for size in rungs if standing.allows(at(lane, size))]
    line = [candidate for candidate in line if standing.times_tried(candidate)]
    others = [c for c in standing.allowed if lane_of(c) != lane]
    if len(line) < 3 or not others:
        return None
    gain = level[line[-1]] - level[line[-2]]
    if gain > 0.3:  # not yet bending: nothing is known of where it ends
        return None
    own = max(line, key=lambda c: level[c])
    best = max(others, key=lambda c: level[c])
    is_dear = _share(bounds, lane, rungs) >= DEAR
    # On b / (b + h), all that is still to come is less than twice the last doubling's gain.
    reach = 2 * max(0.0, gain) + (BEHIND_WHEN_DEAR if is_dear else BEHIND)
    gap = standing.gap(best, own)
    if gap.low > reach:
        return []
    tried = min(standing.times_tried(best), standing.times_tried(own))
    # To be sure of it takes less time than another rung that is dear.
    return [best, own] if is_dear and gap.log_ratio > reach and tried < DOUBTS else None


def _share(bounds: Bounds, lane: Lane, rungs: Sequence[int]) -> float:
    """Share of the time left that one more rung would take."""
    return bounds.expected_s(lane, 2 * rungs[-1]) / max(bounds.remaining_s, 1e-9)


def _plateau(
    standing: Standing, bounds: Bounds, lane: Lane, rungs: Sequence[int]
) -> list[Candidate] | None:
    """None while a ladder should go on; else what must be timed again, nothing if it has ended."""
    share = _share(bounds, lane, rungs)
    patience = PATIENCE if share < DEAR else PATIENCE_WHEN_DEAR
    if share > VERY_DEAR:
        patience = LEAST_PATIENCE
    if len(rungs) <= patience:
        return None
    level = standing.levels
    line = [at(lane, size) for size in rungs if standing.allows(at(lane, size))]
    if len(line) <= patience:
        return None
    before = max(line[:-patience], key=lambda c: level[c])
    after = max(line[-patience:], key=lambda c: level[c])
    # Latency only grows with the batch: there the ladder ends when it has clearly grown.
    worth = -standing.tolerance if standing.goal.objective == "latency" else standing.tolerance
    gap = standing.gap(after, before)
    gains = gap.log_ratio > 10 * standing.tolerance and share < DEAR
    if gap.low > worth or gains:
        return None
    tried = min(standing.times_tried(after), standing.times_tried(before))
    sure = gap.high <= worth or gap.half_width <= standing.tolerance / 2
    if tried >= DOUBTS or (sure and tried >= OFTEN):
        return None if gap.log_ratio > worth else []
    return [after, before]
