"""Standstills: how often a machine's processors are held up, and what becomes of time meanwhile.

Few calls are slow by that, but all who come meanwhile wait, and together: a queue that draws each
call's time by itself knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from autotune.outcomes import Measurement

FEWEST = 3  # that were seen to begin, to count on more of them
DRAWN = 1_024  # after which the same come again
# Multiples of these, without their whole part, are spread evenly however many are taken: a short
# simulation has as many long standstills among its own as a long one has.
GOLDEN, SILVER = (5**0.5 - 1) / 2, 2**0.5 - 1

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Standstills:
    """How often a machine stands still, and for how long.

    They come evenly, one in each `1 / per_s` seconds, and last from no time at all to twice the
    mean: seen from within, in a process alone on two processors, 13 of a quarter of a minute lasted
    41 ms in the mean, from 14 to 83.

    Attributes:
        per_s: How many come in a second in which the machine runs.
        mean_s: Mean seconds of one.
    """

    per_s: float = 0.0
    mean_s: float = 0.0

    @classmethod
    def seen_in(cls, measurements: Iterable[Measurement]) -> Standstills:
        """Find them in what timed calls lost.

        Blocks are shorter than many of them, so that few are seen from their begin to their end.
        But as many begin in a second as there are, and the share of the time that they take is
        what it is: the mean follows from both.

        Example:
            >>> from autotune import Candidate
            >>> calls_s, lost_s = (0.01, 0.05, 0.06), (0.0, 0.04, 0.05)
            >>> seen = Measurement(Candidate(8), calls_s, lost_s=lost_s)
            >>> found = Standstills.seen_in([seen] * 5)
            >>> round(found.per_s, 3), round(found.mean_s, 3)
            (33.333, 0.09)
        """
        began, lost_s, ran_s = 0, 0.0, 0.0
        for each in measurements:
            still = np.array([lost > 0 for lost in each.lost_s], bool)
            began += int(np.count_nonzero(still[1:] & ~still[:-1]))
            lost_s += sum(each.lost_s) / each.candidate.concurrency
            ran_s += sum(each.running_s) / each.candidate.concurrency
        return cls(began / ran_s, lost_s / began) if began >= FEWEST else NEVER

    @property
    def share(self) -> float:
        """Share of the time in which the machine stands still."""
        return 1 - 1 / (1 + self.per_s * self.mean_s)

    def to_clock(self, running_s: Floats) -> Floats:
        """Turn moments of a machine that runs on and on into those of a clock on the wall."""
        if not self.per_s:
            return running_s
        turns, rest = np.divmod(running_s, self._knots[0][-1])
        found: Floats = turns * self._knots[1][-1] + np.interp(rest, *self._knots)
        return found

    def to_running(self, clock_s: Floats) -> Floats:
        """Turn it back: all moments of a standstill are the one at which it began."""
        if not self.per_s:
            return clock_s
        turns, rest = np.divmod(clock_s, self._knots[1][-1])
        found: Floats = turns * self._knots[0][-1] + np.interp(rest, *self._knots[::-1])
        return found

    @cached_property
    def _knots(self) -> tuple[Floats, Floats]:
        """Where the time that runs and that of the clock go apart, up to where it begins anew."""
        numbers = np.arange(DRAWN)
        begins_s = (numbers + numbers * SILVER % 1) / self.per_s
        lengths_s = 2 * self.mean_s * ((numbers + 0.5) * GOLDEN % 1)
        before_s = np.cumsum(lengths_s) - lengths_s
        running_s = np.repeat(begins_s, 2)
        clock_s = np.ravel(np.column_stack([begins_s + before_s, begins_s + before_s + lengths_s]))
        end_s = DRAWN / self.per_s
        return (
            np.concatenate([[0.0], running_s, [end_s]]),
            np.concatenate([[0.0], clock_s, [end_s + lengths_s.sum()]]),
        )


NEVER = Standstills()  # stands a machine still that nobody else uses
