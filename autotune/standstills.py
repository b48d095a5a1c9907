"""Standstills: how often a machine's processors are held up, and how long requests wait for that.

Few calls are slow by it, but all who come meanwhile wait, and together: a queue that draws each
call's time by itself knows nothing of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotune.outcomes import Measurement

FEWEST = 3  # that were seen to begin, to count on more of them
APART_S = 0.03  # that a machine runs between two; one of tens of milliseconds may falter
LEVELS = 256  # lengths that stand for all, each as likely as the others
FOLLOWED = 4_096  # standstills
MOMENTS = 65_521  # at which somebody may come; a prime, never so many from one to the next
# Multiples of these, without their whole part, are spread evenly however many are taken: a short
# simulation has as many long waits among its own as a long one has.
GOLDEN, SILVER = (5**0.5 - 1) / 2, 2**0.5 - 1

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Standstills:
    """How often a machine stands still, and for how long.

    Attributes:
        per_s: How many come in a second in which the machine runs.
        lengths_s: Seconds of one, rising, each as likely as the others.
    """

    per_s: float = 0.0
    lengths_s: tuple[float, ...] = ()

    @classmethod
    def seen_in(cls, measurements: Iterable[Measurement]) -> Standstills:
        """Find them in what timed calls lost.

        Blocks are hardly longer than many of them, so that few are seen from their begin to their
        end. But as many begin in a second as there are, and the share of the time that they take
        is what it is: the mean follows from both. How the short ones differ follows from those that
        were seen to begin, those among them that a block's end cut off included; the longer ones,
        whose end no block saw, are taken to be equal, and as long as the mean demands.

        Args:
            measurements: Of calls that filled the processors.

        Example:
            >>> from autotune import Candidate
            >>> calls_s, lost_s = (0.01, 0.05, 0.06), (0.0, 0.04, 0.05)
            >>> seen = Measurement(Candidate(8), calls_s, lost_s=lost_s)
            >>> found = Standstills.seen_in([seen] * 5)
            >>> round(found.per_s, 3), round(found.mean_s, 3)
            (50.0, 0.09)
        """
        ended_s, cut_s = list[float](), list[float]()
        lost_s = ran_s = watched_s = 0.0
        for each in measurements:
            flights = each.candidate.concurrency
            lost_s += sum(each.lost_s) / flights
            ran_s += sum(each.running_s) / flights
            watched_s += sum(each.running_s[flights:]) / flights
            for length_s, is_cut in _begun_in(each):
                (cut_s if is_cut else ended_s).append(length_s)
        begun = len(ended_s) + len(cut_s)
        if begun < FEWEST:
            return NEVER
        per_s = begun / watched_s
        lengths_s = _lengths(ended_s, cut_s, lost_s / ran_s / per_s)
        return cls(per_s, tuple(lengths_s.tolist()))

    @property
    def mean_s(self) -> float:
        """Mean seconds of one."""
        return float(np.mean(self.lengths_s)) if self.lengths_s else 0.0

    @property
    def share(self) -> float:
        """Share of the time in which the machine stands still."""
        return 1 - 1 / (1 + self.per_s * self.mean_s)

    def waits_s(self, busy: float, count: int) -> Floats:
        """Return what standstills add to the waits of so many requests; shape `(count,)`.

        Who comes when one begins waits for the whole of it. Who comes later waits the less, by
        `1 - busy` seconds each second, for what came before him is done first: until nobody waits,
        or the next one begins. (The fluid approximation: Kleinrock, Queueing Systems, volume 2,
        1976, chapter 2.) They come evenly, one in each `1 / per_s` seconds that the machine runs.

        Args:
            busy: Share of what the machine can do that is asked of it while it runs.
            count: Of requests.

        Example:
            >>> still = Standstills(per_s=1.0, lengths_s=(0.05,))
            >>> [round(float(np.mean(still.waits_s(busy, 10_000) > 0)), 2) for busy in (0.0, 0.8)]
            [0.05, 0.24]
        """
        if not self.per_s:
            return np.zeros(count)
        numbers = np.arange(FOLLOWED + 1)
        runs_s = np.diff(numbers + numbers * SILVER % 1) / self.per_s
        lengths_s = np.array(self.lengths_s)[_levels(FOLLOWED, len(self.lengths_s))]
        begins_s = np.concatenate([[0.0], np.cumsum(lengths_s + runs_s)])
        more_s = lengths_s - (1 - busy) * np.diff(begins_s)  # to wait for, from one to the next
        sums_s = np.cumsum(np.concatenate([[0.0], more_s[:-1]]))
        highest_s = sums_s - np.minimum.accumulate(sums_s) + lengths_s  # never less than nothing
        moments_s = (np.arange(MOMENTS) + 0.5) * begins_s[-1] / MOMENTS
        last = np.searchsorted(begins_s, moments_s, "right") - 1
        left_s = highest_s[last] - (1 - busy) * (moments_s - begins_s[last])
        waits_s: Floats = np.sort(np.maximum(0.0, left_s))[_levels(count, MOMENTS)]
        return waits_s


NEVER = Standstills()  # stands a machine still that nobody else uses


def _levels(count: int, among: int) -> npt.NDArray[np.intp]:
    """So many numbers below `among`, in no order and evenly spread."""
    return ((np.arange(count) + 0.5) * GOLDEN % 1 * among).astype(np.intp)


def _begun_in(block: Measurement) -> Iterator[tuple[float, bool]]:
    """What was lost by each that began in a block, and whether its end was not seen.

    Halts with next to no time between them are one. By one that began before the block all lose
    that are in flight at its begin.
    """
    flights = block.candidate.concurrency
    lost_s, ran_s = np.array(block.lost_s), np.cumsum(block.running_s) / flights
    still = np.flatnonzero(lost_s)
    between_s = ran_s[still[1:] - 1] - ran_s[still[:-1]]
    for calls in np.split(still, np.flatnonzero(between_s > APART_S) + 1):
        if len(calls) and calls[0] >= flights:
            yield float(lost_s[calls].sum()) / flights, bool(calls[-1] == len(lost_s) - 1)


def _lengths(ended_s: Sequence[float], cut_s: Sequence[float], mean_s: float) -> Floats:
    """Lengths that are each as likely as the others, by those seen whole and those cut off.

    Kaplan and Meier, Nonparametric Estimation from Incomplete Observations, 1958. Of those that it
    leaves open all have what is missing of the mean, but no less than the longest that was seen.
    """
    seen_s = np.array([*ended_s, *cut_s])
    order = np.argsort(seen_s, kind="stable")  # of equal ones those first that ended
    has_ended = order < len(ended_s)
    longer = np.cumprod(1 - has_ended / np.arange(len(order), 0, -1))
    places = np.searchsorted(-longer, (np.arange(LEVELS) + 0.5) / LEVELS - 1)
    known_s = seen_s[order][places[places < len(order)]]
    left = LEVELS - len(known_s)
    missing_s = (LEVELS * mean_s - known_s.sum()) / max(1, left)
    return np.concatenate([known_s, np.repeat(max(missing_s, float(seen_s.max())), left)])
