"""The race: who could still be the answer, and so has to be timed again."""

from __future__ import annotations

from autotune.judging import lane_of
from autotune.outcomes import Candidate
from autotune.standing import OFTEN, Standing

MUCH = 2  # times the tolerance: by so much a larger batch may be better before it is closed
ENOUGH = 4  # blocks of a candidate before a best guess may decide
LOOKS = 1.5  # times as wide as at 95 %: each round is a chance to be out, and not timed again
FAR = 0.8  # as a log ratio: more than a neighbour takes away, who halves the speed
WELL_BEHIND = 0.1  # as a log ratio
MOST_CALLS = 2_000  # a quantile that is not settled by then lies on its limit


def unresolved(standing: Standing) -> list[Candidate]:
    """Return the candidates that could still change the answer, most promising first."""
    best, chosen = standing.best, standing.chosen
    if best is None or chosen is None:
        return []
    found = [c for c in standing.allowed if c != best and _is_open(standing, c, best, chosen)]
    found += [c for c in standing.levels if c not in found and _hangs(standing, c, chosen)]
    return sorted(found, key=lambda c: -standing.levels[c])


def _is_open(standing: Standing, candidate: Candidate, best: Candidate, chosen: Candidate) -> bool:
    if _is_out(standing, candidate, best):
        return False
    if standing.times_tried(candidate) < OFTEN:
        return True
    if candidate != chosen and standing.cost_of(candidate) > standing.cost_of(chosen):
        # It is no better than the best, but that may be bad luck.
        dearer = candidate.batch_size > chosen.batch_size
        worth = (MUCH if dearer else 1) * standing.tolerance
        doubt = standing.gap(candidate, chosen)
    else:
        worth, doubt = standing.tolerance, standing.gap(best, candidate)
    exact = doubt.half_width <= standing.tolerance / 2
    return doubt.high > worth and not (exact and standing.times_tried(candidate) >= ENOUGH)


def _is_out(standing: Standing, candidate: Candidate, best: Candidate) -> bool:
    """Whether a candidate is inferior, or so far behind that no disturbance did it.

    One that is well behind a larger batch that is out itself need not be timed again.
    """
    levels = standing.levels
    if standing.times_tried(candidate) > 1 and levels[best] - levels[candidate] > FAR:
        return True
    return _is_inferior(standing, candidate, best) or any(
        other.batch_size > candidate.batch_size
        and levels[other] > levels[candidate] + WELL_BEHIND
        and lane_of(other) == lane_of(candidate)
        and _is_inferior(standing, other, best)
        for other in standing.allowed
    )


def _is_inferior(standing: Standing, candidate: Candidate, best: Candidate) -> bool:
    if standing.times_tried(candidate) < 2:
        return False
    gap = standing.gap(best, candidate)
    return gap.log_ratio - LOOKS * gap.half_width > standing.tolerance


def _hangs(standing: Standing, candidate: Candidate, chosen: Candidate) -> bool:
    """Whether it depends on a verdict not yet given if this candidate is the answer."""
    if standing.verdict(candidate) != "undecided" or not standing.fits(candidate):
        return False
    hopeful = standing.levels[candidate] - standing.levels[chosen] > standing.tolerance
    return (candidate == chosen or hopeful) and standing.calls_of(candidate) < MOST_CALLS
