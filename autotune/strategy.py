"""What to time next, side by side: a pure function of what is known.

A search is a sequence of rounds. A round times a few candidates once each, in random order. First
a ladder of doublings climbs, each new rung beside the best so far; then the other lanes are looked
at, and those with hope climb too. Sizes between the rungs join, and whoever could still be the
answer is timed again, round after round, until none is in doubt. At the end the choice is measured
afresh, beside the baselines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autotune.bounds import Bounds, at
from autotune.confirming import Confirmation
from autotune.judging import Lane
from autotune.ladder import anchor, climb
from autotune.lanes import is_near_best, look_around
from autotune.outcomes import Candidate, Purpose
from autotune.racing import unresolved
from autotune.refining import refine
from autotune.standing import OFTEN, Standing

FIELD = 6  # candidates in a round of the race: more would stretch it over too much time
BASELINE_ROUNDS = 5  # quiet ones are enough for what only stands beside the answer
LOUD = 0.08  # noise of a block, as a log ratio: more than sizes between the rungs gain
CONFIRM_SHARE = 0.25  # of the budget, at most, is kept for the fresh measurement


@dataclass(frozen=True, slots=True)
class Plan:
    """One round: candidates to time side by side, and what for."""

    candidates: tuple[Candidate, ...]
    purpose: Purpose = "search"


def plan_search(standing: Standing, bounds: Bounds, lanes: Sequence[Lane]) -> Plan | None:
    """Return the next round of the search; None when the answer is settled."""
    wanted = climb(standing, bounds, lanes[0], len(lanes))
    if isinstance(wanted, int):
        return _beside_anchor(standing, [at(lanes[0], wanted)])
    others = look_around(standing, bounds, lanes)
    if not others and (is_near_best(standing, lanes[0]) or not standing.allowed):
        others = wanted
    if others:
        return _beside_anchor(standing, others)
    # Where much noise hides who is the best of the rungs, it would hide sizes between them too.
    is_early = standing.fit.noise > LOUD and unresolved(standing)
    joiner = None if is_early else refine(standing, bounds)
    return plan_race(standing, bounds.remaining_s, joiner)


def _beside_anchor(standing: Standing, wanted: Sequence[Candidate]) -> Plan:
    return Plan(tuple(dict.fromkeys([*wanted, *anchor(standing)])))


def plan_race(
    standing: Standing, remaining_s: float, joiner: Candidate | None = None
) -> Plan | None:
    """Return a round of those that could still be the answer, and one that joins them."""
    doubtful = unresolved(standing)
    if not doubtful and joiner is None:
        return None
    field = [standing.chosen, standing.best, joiner, *doubtful]
    names = dict.fromkeys(candidate for candidate in field if candidate is not None)
    return Plan(tuple(_affordable(standing, list(names)[:FIELD], remaining_s)))


def _affordable(
    standing: Standing, field: Sequence[Candidate], remaining_s: float
) -> list[Candidate]:
    """Return the first of a field, as many as there is time to time often, and two at least.

    A race that cannot be finished for all is finished for the best.
    """
    left_s = remaining_s * standing.calm_share / OFTEN
    kept: list[Candidate] = []
    for candidate in field:
        known = standing.known.get(candidate)
        left_s -= known.elapsed_s if known else 0.0
        if left_s < 0 and len(kept) > 1:
            break
        kept.append(candidate)
    return kept


def plan_waiting(standing: Standing) -> Plan | None:
    """While something disturbs, return a round of the quickest probe there is, to see it end.

    What is timed meanwhile is worth little, and larger batches take long to time.
    """
    if not standing.is_disturbed_now or not standing.allowed:
        return None
    known = standing.known
    return Plan((min(standing.allowed, key=lambda c: known[c].elapsed_s),), "wait")


def plan_confirmation(
    standing: Standing, baselines: Sequence[Candidate], limit_s: float
) -> Plan | None:
    """Return the next round of the fresh measurement; None when there are enough."""
    chosen = standing.chosen
    if chosen is None:
        return None
    confirmation = Confirmation(standing, chosen)
    if confirmation.is_enough(limit_s):
        return None
    wanted = [c for c in baselines if confirmation.count_calm(c) < BASELINE_ROUNDS]
    return Plan(tuple(dict.fromkeys([chosen, *wanted])), "confirm")
