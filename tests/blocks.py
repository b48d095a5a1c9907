"""Short ways to write down what a search knows: measurements, rounds of blocks, standings."""

from __future__ import annotations

from collections.abc import Sequence

from autotune import Candidate, Goal, Measurement, Outcome
from autotune.goal import MOST_ROWS_PER_SECOND
from autotune.outcomes import Block, Purpose
from autotune.standing import Standing


def timed(
    size: int,
    call_s: float,
    engine: str = "keras",
    *,
    calls: int = 10,
    peak: int | None = None,
    disturbed: bool = False,
) -> Measurement:
    """A candidate whose calls all take the same time; disturbed, in all of them or in none."""
    return Measurement(
        Candidate(size, engine),
        (call_s,) * calls,
        elapsed_s=call_s * calls,
        device_peak_bytes=peak,
        disturbed=calls * disturbed,
    )


def blocks_of(
    rounds: Sequence[Sequence[Outcome]], purpose: Purpose = "search", first: int = 1
) -> list[Block]:
    """Rounds of outcomes as blocks."""
    return [
        Block(outcome, number, purpose)
        for number, row in enumerate(rounds, first)
        for outcome in row
    ]


def standing_of(
    rounds: Sequence[Sequence[Outcome]],
    goal: Goal = MOST_ROWS_PER_SECOND,
    memory_limit_bytes: int | None = None,
    *,
    confirming: Sequence[Sequence[Outcome]] = (),
) -> Standing:
    """Where a search stands after these rounds, and then these of the fresh measurement."""
    searched = blocks_of(rounds)
    fresh = blocks_of(confirming, "confirm", len(rounds) + 1)
    return Standing(goal, memory_limit_bytes, [*searched, *fresh])
