"""Splitting: how many rows go into each batch of a call, so that the whole call ends soonest.

Full batches and a short last one are a good way to run many rows. But 100 rows by 64 end sooner
as twice 50, and with two batches in flight a single one leaves half of the machine idle. What is
sooner is read from the times that were measured.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import statistics
from collections.abc import Mapping, Sequence

from autotune.judging import Lane, lane_of
from autotune.outcomes import Candidate, Measurement, Outcome

# Until threads that slept have taken the parts of a call, and its caller has what they made of them
# (0.15 to 0.45 and 0.11 ms on two cores of a shared server).
HAND_OVER_S = 3e-4
GAIN = 0.05  # less than that, and times of blocks that were not side by side tell nothing
FEW = 8  # full batches for each in flight: with more the last ones hardly count
CACHED = 4096  # numbers of rows whose split is remembered

Curve = Mapping[int, float]


def curve_of(outcomes: Sequence[Outcome], lane: Lane) -> Curve:
    """Median seconds of a call by batch size, of the blocks that nothing disturbed if there are."""
    blocks: dict[int, list[Measurement]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Measurement) and lane_of(outcome.candidate) == lane:
            blocks.setdefault(outcome.candidate.batch_size, []).append(outcome)
    return {
        size: statistics.median(
            m.latency_s for m in [m for m in found if not m.is_disturbed] or found
        )
        for size, found in sorted(blocks.items())
    }


def seconds(curve: Curve, size: int) -> float:
    """Seconds of a call, between measured sizes on a straight line.

    Fewer rows than any measured are taken to need as long as these, more in proportion.

    Example:
        >>> [seconds({10: 1.0, 20: 3.0}, size) for size in (5, 10, 15, 40)]
        [1.0, 1.0, 2.0, 6.0]
    """
    sizes = list(curve)
    place = bisect.bisect_left(sizes, size)
    if place == len(sizes):
        return curve[sizes[-1]] * size / sizes[-1]
    above = sizes[place]
    if place == 0 or above == size:
        return curve[above]
    below = sizes[place - 1]
    return curve[below] + (curve[above] - curve[below]) * (size - below) / (above - below)


class Splitter:
    """Splits a number of rows into batches.

    Args:
        candidate: What was recommended.
        outcomes: What was measured on the way.
        any_size: Whether the engine runs a batch of any size as it is: then rows may be
            split evenly too.
    """

    def __init__(
        self, candidate: Candidate, outcomes: Sequence[Outcome] = (), *, any_size: bool = True
    ) -> None:
        engine, flights, threads = lane_of(candidate)
        self._flights = flights
        self._any_size = any_size
        self._together = curve_of(outcomes, (engine, flights, threads))
        # With as few in flight as anybody measured: a call may be faster so.
        curves = (curve_of(outcomes, (engine, few, threads)) for few in range(1, flights))
        self._alone = next(filter(None, curves), self._together)
        self._cache: dict[tuple[int, int], tuple[int, ...]] = {}

    def split(self, rows: int, limit: int) -> tuple[int, ...]:
        """Return the rows of each batch, at most `limit` in one.

        Example:
            >>> Splitter(Candidate(64)).split(100, 64)
            (64, 36)
        """
        if rows <= limit and (rows == 1 or self._flights == 1):
            return (rows,)
        sizes = self._cache.get((rows, limit))
        if sizes is None:
            sizes = self._split(rows, limit)
            if len(self._cache) >= CACHED:
                self._cache.clear()
            if rows <= FEW * self._flights * limit:  # longer ones would take much memory
                self._cache[rows, limit] = sizes
        return sizes

    def _split(self, rows: int, limit: int) -> tuple[int, ...]:
        full, rest = divmod(rows, limit)
        usual = (*itertools.repeat(limit, full), *([rest] if rest else []))
        if not self._any_size or not self._together or full > FEW * self._flights:
            return usual
        even = min(self._even(rows, len(usual)), key=self._makespan_s)
        return even if self._makespan_s(even) < (1 - GAIN) * self._makespan_s(usual) else usual

    def _even(self, rows: int, fewest: int) -> list[tuple[int, ...]]:
        """Even splits into the fewest batches there can be, and so that all in flight are used."""
        counts = {fewest, -(-fewest // self._flights) * self._flights}
        return [evenly(rows, count) for count in counts if count <= rows]

    def _makespan_s(self, sizes: Sequence[int]) -> float:
        """Seconds until the last batch ends, each begun when a thread is free."""
        if len(sizes) == 1:
            return seconds(self._alone, sizes[0])
        ends = [0.0] * self._flights
        for size in sizes:
            heapq.heapreplace(ends, ends[0] + seconds(self._together, size))
        return max(ends) + (HAND_OVER_S if self._flights > 1 else 0.0)


def evenly(rows: int, count: int) -> tuple[int, ...]:
    """Split rows into so many batches whose sizes differ by one at most.

    Example:
        >>> evenly(100, 3)
        (34, 33, 33)
    """
    least, more = divmod(rows, count)
    return tuple(least + (place < more) for place in range(count))
