"""Times of calls in a service, from rehearsals: by how many are in flight, and by their rows."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

from autotune.calltimes import LEVELS, Times
from autotune.outcomes import Rehearsal

Sizes = dict[int, list[float]]  # seconds of calls by their rows

FEW = 10  # calls of a size beside so many others: fewer tell nothing of it


class Served:
    """Times of calls that serve requests, of a machine as fast as in the search.

    How long a call takes depends on how many others are in flight, and on how much Python has to
    do beside them: at a higher rate few rows take longer. So each time is taken from the rehearsal
    whose rate is nearest, as far as that has enough such calls, or else from the next; where none
    has, from calls beside fewer or more others, and for a full batch at last from the search.

    Args:
        rehearsals: Of the recommended way.
        searched: Times of calls in the search, one right after the other, of one in flight, of two,
            and so on.
        sizes: Rows that a batch is run with, or near which its time is kept, rising; the last is
            the tuned size.
        padded: Sizes that batches are padded to; none where they are run as they are.
    """

    def __init__(
        self,
        rehearsals: Sequence[Rehearsal],
        searched: Sequence[Times],
        sizes: Sequence[int],
        padded: Sequence[int],
    ) -> None:
        self._searched, self._sizes, self._padded = searched, sizes, padded
        self._near = functools.cache(self._nearest_size)
        self._by_rate: dict[float, dict[int, Sizes]] = {}
        for each in rehearsals:
            self._take_in(each, self._by_rate.setdefault(each.rows_per_s, {}))
        self._by_nearness = functools.cache(self._times)

    def at(self, rows_per_s: float) -> list[Times]:
        """Times of calls while so many rows come a second, of one in flight, of two, and so on.

        There are none where nothing was rehearsed, or no kind of call often enough.
        """
        rates = sorted(self._by_rate, key=lambda rate: abs(math.log(rows_per_s / rate)))
        return self._by_nearness(tuple(rates))

    def _take_in(self, rehearsal: Rehearsal, found: dict[int, Sizes]) -> None:
        """Note its times by flights and rows, as if the machine had the speed of the search."""
        warm_s = self._searched[-1].median(self._sizes[-1])
        faster = warm_s / (rehearsal.warm_s or warm_s)
        calls = zip(rehearsal.rows, rehearsal.flights, rehearsal.running_s, strict=True)
        for rows, flights, time_s in calls:
            near, share = self._near(rows)
            sizes = found.setdefault(flights, {})
            sizes.setdefault(near, []).append(share * faster * time_s)

    def _nearest_size(self, rows: int) -> tuple[int, float]:
        """The kept size that is nearest, and what its calls take as a share of these rows'."""
        near = min(self._sizes, key=lambda size: abs(math.log(size / rows)))
        times = self._searched[-1]
        return near, times.median(near) / times.median(rows)

    def _times(self, rates: Sequence[float]) -> list[Times]:
        found: dict[int, Sizes] = {}
        for rate in rates:
            for flights, sizes in self._by_rate[rate].items():
                known = found.setdefault(flights, {})
                for rows, times_s in sizes.items():
                    if len(times_s) >= FEW:
                        known.setdefault(rows, times_s)
        every = range(1, len(self._searched) + 1) if any(found.values()) else ()
        return [Times(dict(self._of(flights, found)), self._padded) for flights in every]

    def _of(self, flights: int, found: dict[int, Sizes]) -> Iterator[tuple[int, list[float]]]:
        """Give seconds of each size, beside as many others as can be."""
        for rows in self._sizes:
            having = [each for each, sizes in found.items() if rows in sizes]
            if having:
                yield rows, found[min(having, key=lambda each: abs(each - flights))][rows]
            elif rows == self._sizes[-1]:
                times = self._searched[flights - 1]
                yield rows, [times.seconds(rows, draw) for draw in range(LEVELS)]
