"""The fresh measurement of the choice: figures that had no part in its being chosen.

Who is best of many has been lucky, too: the best of eight equal candidates looks 7 % better than
it is at 5 % noise. So the choice is timed again, and only those times are published.
"""

from __future__ import annotations

import math
import statistics
from functools import cached_property

from autotune.intervals import Speed, speed_from
from autotune.judging import merged, speed_of
from autotune.outcomes import Candidate, Measurement
from autotune.standing import Standing

ROUNDS = 12
ENOUGH = 3  # calm blocks before the others are left out
CHUNKS = 4  # of the search, between which the machine may have drifted
# Standard deviation, as a log ratio, of what a machine does over minutes. Windows of six blocks
# over 200 s of one net on two shared processors scattered by 0.025 (by their quartiles), rounds
# that a neighbour slowed down included; those are left out here, so it is a little less.
UNSEEN_DRIFT = 0.02


class Confirmation:
    """The fresh measurement, as far as it has come.

    Args:
        standing: What is known.
        chosen: Whose measurement it is.
    """

    def __init__(self, standing: Standing, chosen: Candidate) -> None:
        self._standing = standing
        self._chosen = chosen

    @cached_property
    def rounds(self) -> dict[int, dict[Candidate, Measurement]]:
        """The rounds at the end that were timed to confirm this choice."""
        found: dict[int, dict[Candidate, Measurement]] = {}
        for block in reversed(self._standing.blocks):
            if block.purpose == "search":
                break
            if block.purpose == "wait":
                continue
            if isinstance(block.outcome, Measurement):
                found.setdefault(block.round, {})[block.outcome.candidate] = block.outcome
        return {number: row for number, row in found.items() if self._chosen in row}

    @cached_property
    def calm(self) -> dict[int, dict[Candidate, Measurement]]:
        """Those rounds in which nothing disturbed the choice."""
        rounds = self.rounds.items()
        return {n: row for n, row in rounds if self._standing.is_calm(n, self._chosen)}

    def count_calm(self, candidate: Candidate) -> int:
        """In how many of the calm rounds a candidate was timed, itself undisturbed."""
        calm = self._standing.is_calm
        return sum(candidate in row and calm(n, candidate) for n, row in self.calm.items())

    def is_enough(self, limit_s: float) -> bool:
        """Whether it may end: enough quiet rounds, or so many seconds are over."""
        spent_s = sum(m.elapsed_s for row in self.rounds.values() for m in row.values())
        return len(self.calm) >= ROUNDS or spent_s >= limit_s

    @property
    def is_clean(self) -> bool:
        """Whether enough of it was undisturbed."""
        return len(self.calm) >= ROUNDS // 2

    def measurement(self, candidate: Candidate) -> Measurement | None:
        """All fresh times of a candidate, put together."""
        parts = self._believed(candidate)
        return merged(parts) if parts else None

    def _believed(self, candidate: Candidate) -> list[Measurement]:
        """A candidate's fresh blocks: only the calm ones, where there are enough of them."""
        rounds = self.calm if len(self.calm) >= ENOUGH else self.rounds
        own = {n: row[candidate] for n, row in rounds.items() if candidate in row}
        calm = [block for n, block in own.items() if self._standing.is_calm(n, candidate)]
        return calm if len(calm) >= ENOUGH else list(own.values())

    def speed(self, candidate: Candidate) -> Speed | None:
        """Rows per second of a candidate, from fresh times only."""
        logs = [math.log(speed_of(block)) for block in self._believed(candidate)]
        return speed_from(logs, self._drift) if logs else None

    def speed_in_search(self) -> Speed:
        """Rows per second of the choice where there was no time for a fresh measurement."""
        standing, chosen = self._standing, self._chosen
        own = [
            (block.round, block.outcome)
            for block in standing.blocks
            if isinstance(block.outcome, Measurement) and block.outcome.candidate == chosen
        ]
        calm = [(number, part) for number, part in own if standing.is_calm(number, chosen)]
        parts = calm if len(calm) > 2 else own
        return speed_from([math.log(speed_of(part)) for _, part in parts], self._drift)

    @cached_property
    def _drift(self) -> float:
        """How far the machine's speed wandered in the search: the fresh blocks are one moment."""
        calm = self._standing.calm_tides
        size = len(calm) // CHUNKS
        if size < 2:
            return UNSEEN_DRIFT
        means = [statistics.fmean(calm[i * size : (i + 1) * size]) for i in range(CHUNKS)]
        return max(UNSEEN_DRIFT, statistics.stdev(means))
