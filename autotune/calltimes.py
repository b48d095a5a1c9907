"""How long a call takes by its rows, from the calls that a tuning timed."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from autotune.judging import Lane, lane_of
from autotune.outcomes import Measurement, Outcome

NEAR = 8  # a line towards few rows goes by sizes up to so many times the smallest
LEVELS = 4_096  # quantiles that stand for the times of one size: a call in thousands is told
DRAWN = (np.arange(LEVELS) + 0.5) / LEVELS


class Times:
    """Times of a call by its rows: `LEVELS` quantiles, evenly spaced, each as likely as the others.

    Between sizes that were measured each quantile lies on a straight line. Beyond them a line
    through medians goes on, within what is plausible: fewer rows take no more seconds than the
    smallest size and no more rows a second, and so on at the other end. Upwards it is that through
    the two largest sizes. Downwards it goes by all up to eight times the smallest, by least squares
    of relative errors: two neighbouring sizes alone, each measured a little wrong, tell next to
    nothing of what a call takes whatever its rows.

    Args:
        measured: Seconds of calls by rows.
        padded: Sizes that batches are padded to; none where they are run as they are.

    Attributes:
        sizes: Sizes that were measured, rising.

    Example:
        >>> times = Times({10: [1.0], 20: [1.5]})
        >>> [round(times.seconds(rows, 0), 2) for rows in (1, 10, 14, 40)]
        [0.55, 1.0, 1.2, 2.5]
    """

    def __init__(self, measured: Mapping[int, Sequence[float]], padded: Sequence[int] = ()) -> None:
        self.sizes = sorted(measured)
        quantiles = [np.quantile(measured[size], DRAWN) for size in self.sizes]
        self._medians = [float(np.median(each)) for each in quantiles]
        self._means = [float(np.mean(each)) for each in quantiles]
        self._quantiles = [each.tolist() for each in quantiles]
        self._padded = sorted(padded)
        self._mixed = functools.cache(self._mix)

    def seconds(self, rows: int, draw: int) -> float:
        """Seconds of a call, by the number of its quantile."""
        below, share_below, above, share_above = self._mixed(rows)
        quantiles = self._quantiles
        return float(share_below * quantiles[below][draw] + share_above * quantiles[above][draw])

    def mean(self, rows: int) -> float:
        """Mean seconds of a call."""
        below, share_below, above, share_above = self._mixed(rows)
        return share_below * self._means[below] + share_above * self._means[above]

    def median(self, rows: int) -> float:
        """Median seconds of a call."""
        below, share_below, above, share_above = self._mixed(rows)
        return share_below * self._medians[below] + share_above * self._medians[above]

    def _mix(self, rows: int) -> tuple[int, float, int, float]:
        """Places of two measured sizes, each with its share in the times of so many rows."""
        larger = bisect.bisect_left(self._padded, rows)
        size = self._padded[larger] if larger < len(self._padded) else rows
        sizes, last = self.sizes, len(self.sizes) - 1
        place = bisect.bisect_left(sizes, size)
        if place > last:
            return last, self._share(size, last, range(max(0, last - 1), last + 1)), last, 0.0
        if place == 0:
            near = bisect.bisect_right(sizes, NEAR * sizes[0])
            return 0, self._share(size, 0, range(max(near, min(2, last + 1)))), 0, 0.0
        weight = (size - sizes[place - 1]) / (sizes[place] - sizes[place - 1])
        return place - 1, 1 - weight, place, weight

    def _share(self, rows: int, end: int, near: range) -> float:
        """Seconds of rows beyond the measured ones as a share of those of the size at the end."""
        low, high = sorted((1.0, rows / self.sizes[end]))
        if len(near) == 1:
            return high
        sizes, medians_s = np.array(self.sizes)[near], np.array(self._medians)[near]
        line = np.polynomial.Polynomial.fit(sizes, medians_s, 1, w=1 / medians_s)
        return float(min(high, max(low, line(rows) / line(self.sizes[end]))))


def times_by_lane(outcomes: Iterable[Outcome]) -> dict[Lane, dict[int, list[float]]]:
    """Times of all calls, of the blocks that nothing disturbed where there are any.

    They are those of a machine that never stands still: see `Standstills`.
    """
    calm: dict[Lane, dict[int, list[float]]] = {}
    every: dict[Lane, dict[int, list[float]]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Measurement):
            lane, size = lane_of(outcome.candidate), outcome.candidate.batch_size
            for lanes in (every,) if outcome.is_disturbed else (every, calm):
                lanes.setdefault(lane, {}).setdefault(size, []).extend(outcome.running_s)
    return {lane: sizes | calm.get(lane, {}) for lane, sizes in every.items()}
