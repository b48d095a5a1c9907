"""What to time next, side by side: a pure function of what is known.

A search is a sequence of rounds. A round times a few candidates once each, in random order. First
ladders of doublings climb, each new rung beside the best so far. Then sizes between the rungs
join, and whoever could still be the answer is timed again, round after round, until none is in
doubt. At the end the choice is measured afresh, beside the baselines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autotune.bounds import Bounds
from autotune.confirming import Confirmation
from autotune.judging import Lane
from autotune.ladder import climb
from autotune.outcomes import Candidate, Purpose
from autotune.racing import unresolved
from autotune.refining import refine
from autotune.standing import Standing

FIELD = 6  # candidates in a round: more would stretch it over too much time
CONFIRM_SHARE = 0.25  # of the budget, at most, is kept for the fresh measurement


@dataclass(frozen=True, slots=True)
class Plan:
    """One round: candidates to time side by side, and what for."""

    candidates: tuple[Candidate, ...]
    purpose: Purpose = "search"


def plan_search(standing: Standing, bounds: Bounds, lanes: Sequence[Lane]) -> Plan | None:
    """Return the next round of the search; None when the answer is settled."""
    climbing = climb(standing, bounds, lanes)
    if climbing:
        return Plan(tuple(climbing))
    return plan_race(standing, refine(standing, bounds))


def plan_race(standing: Standing, joiner: Candidate | None = None) -> Plan | None:
    """Return a round of those that could still be the answer, and one that joins them."""
    doubtful = unresolved(standing)
    if not doubtful and joiner is None:
        return None
    field = [joiner, standing.chosen, standing.best, *doubtful]
    return Plan(tuple(dict.fromkeys(c for c in field if c is not None))[:FIELD])


def plan_confirmation(
    standing: Standing, baselines: Sequence[Candidate], limit_s: float
) -> Plan | None:
    """Return the next round of the fresh measurement; None when there are enough."""
    chosen = standing.chosen
    if chosen is None or Confirmation(standing, chosen).is_enough(limit_s):
        return None
    return Plan(tuple(dict.fromkeys([chosen, *baselines])), "confirm")
