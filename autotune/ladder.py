"""The ladder: doublings in the first lane, until larger batches gain nothing that counts."""

from __future__ import annotations

from collections.abc import Sequence

from autotune.bounds import Bounds, at, top_of
from autotune.goal import Goal
from autotune.judging import Lane
from autotune.outcomes import Candidate
from autotune.standing import OFTEN, Standing

PATIENCE = 3  # rungs without gain before a ladder ends: a dip is not a plateau
# Fewer where one more rung would take these shares of the time that is left.
DEAR, PATIENCE_WHEN_DEAR = 0.04, 2
VERY_DEAR, LEAST_PATIENCE = 0.10, 1
DOUBTS = 6  # rounds after which a doubtful plateau is taken for one
MOST_HICCUPS = 40  # blocks of a rung that is too slow, while it is not known what made it so


def anchor(standing: Standing) -> list[Candidate]:
    """Return the best so far, if any: with it in each, rounds can be compared with each other.

    And the best of those that are well known, while the best is not: else who was lucky once would
    only be timed beside newcomers, and what lies below it would not be seen again.
    """
    best = max(standing.allowed, key=lambda c: standing.levels[c], default=None)
    if best is None:
        return []
    often = [c for c in standing.allowed if standing.times_tried(c) >= OFTEN]
    known = max(often, key=lambda c: standing.levels[c], default=best)
    return list(dict.fromkeys([best, known]))


def climb(standing: Standing, bounds: Bounds, lane: Lane, lanes: int = 1) -> int | list[Candidate]:
    """Return the next rung; or, where the ladder's end is in doubt, what must be timed again.

    Nothing once it has surely ended. The time that is left is for so many lanes.
    """
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
    if not standing.times_tried(last):  # but disturbed: nothing follows from that
        return rungs[-1]
    doubt = _plateau(standing, lanes * _share(bounds, lane, rungs), lane, rungs)
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


def _share(bounds: Bounds, lane: Lane, rungs: Sequence[int]) -> float:
    """Share of the time left that one more rung would take."""
    return bounds.expected_s(lane, 2 * rungs[-1]) / max(bounds.remaining_s, 1e-9)


def _plateau(
    standing: Standing, share: float, lane: Lane, rungs: Sequence[int]
) -> list[Candidate] | None:
    """None while a ladder should go on; else what must be timed again, nothing if it has ended."""
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
