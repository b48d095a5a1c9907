"""Figures of a running batcher: counts and histograms, for people and as Prometheus text."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields

ROW_BOUNDS = tuple(float(2**power) for power in range(17))
WAIT_BOUNDS_S = tuple(
    step * 10.0**power for power in range(-4, 1) for step in (1.0, 2.0, 5.0)
)  # 0.1 ms to 5 s


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values fell between bounds.

    Attributes:
        bounds: Upper bounds, rising; a value equal to a bound lies below it.
        counts: How many values lie below each bound and above the one before; the last count is
            of the values above all bounds.
        total: Sum of all values.

    Example:
        >>> histogram = Histogram((1.0, 2.0, 4.0), (0, 2, 2, 0), 10.0)
        >>> histogram.count, histogram.mean, histogram.quantile(0.75)
        (4, 2.5, 3.0)
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Their mean; NaN where there were none."""
        return self.total / self.count if self.count else math.nan

    def quantile(self, share: float) -> float:
        """Return the value that a share of all do not exceed, evenly between the bounds around it.

        NaN where there were none; the highest bound where it lies above that.
        """
        if not self.count:
            return math.nan
        wanted, below, low = share * self.count, 0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and below + count >= wanted:
                return low + (bound - low) * (wanted - below) / count
            below, low = below + count, bound
        return self.bounds[-1]


class Tally:
    """A histogram that grows; whoever adds to it holds a lock."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def snapshot(self) -> Histogram:
        """Return it as it is now."""
        return Histogram(self._bounds, tuple(self._counts), self._total)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a batcher did so far, at one moment.

    Every request that was let in is waiting, in flight, or counted as just one of answered,
    failed, expired, cancelled and abandoned; `shed` ones were not let in.

    Attributes:
        queue_rows: Rows that wait.
        flying_rows: Rows in flight.
        requests: Requests that were let in.
        rows: Rows of those.
        batches: Batches that were started; several that were taken at once count as one.
        answered: Requests with an answer.
        failed: Requests with the model's error.
        shed: Requests turned away because the queue was full.
        expired: Requests whose time was over before their turn came.
        cancelled: Requests that their callers cancelled while they waited.
        abandoned: Requests that waited when the batcher was closed without draining.
        batch_rows: Rows by batch.
        wait_s: Seconds from a request's coming until it is taken for a batch.
    """

    queue_rows: int
    flying_rows: int
    requests: int
    rows: int
    batches: int
    answered: int
    failed: int
    shed: int
    expired: int
    cancelled: int
    abandoned: int
    batch_rows: Histogram
    wait_s: Histogram

    def prometheus(self) -> str:
        """Return them in Prometheus's text format, version 0.0.4."""
        return "".join(
            _as_histogram(f"{_PREFIX}{name}", what, getattr(self, field))
            if kind == "histogram"
            else _head(f"{_PREFIX}{name}", kind, what) + f"{_PREFIX}{name} {getattr(self, field)}\n"
            for field, (name, kind, what) in _EXPORTED.items()
        )


_PREFIX = "autotune_batcher_"
_EXPORTED = {  # field: Prometheus's name, with the unit and "_total" as its guide wants them
    "queue_rows": ("queue_rows", "gauge", "Rows that wait."),
    "flying_rows": ("flying_rows", "gauge", "Rows in flight."),
    "requests": ("requests_total", "counter", "Requests let in."),
    "rows": ("rows_total", "counter", "Rows of the requests let in."),
    "batches": (
        "batches_total",
        "counter",
        "Batches started; several that were taken at once are one.",
    ),
    "answered": ("answered_total", "counter", "Requests with an answer."),
    "failed": ("failed_total", "counter", "Requests with an error of the model."),
    "shed": ("shed_total", "counter", "Requests turned away from a full queue."),
    "expired": ("expired_total", "counter", "Requests whose time ended in the queue."),
    "cancelled": ("cancelled_total", "counter", "Requests cancelled while they waited."),
    "abandoned": ("abandoned_total", "counter", "Requests that waited at an undrained close."),
    "batch_rows": ("batch_rows", "histogram", "Rows of batches that were taken at once."),
    "wait_s": ("wait_seconds", "histogram", "Seconds in the queue, until taken for a batch."),
}
assert [*_EXPORTED] == [field.name for field in fields(Figures)]  # noqa: S101


def _head(name: str, kind: str, what: str) -> str:
    return f"# HELP {name} {what}\n# TYPE {name} {kind}\n"


def _as_histogram(name: str, what: str, histogram: Histogram) -> str:
    lines, below = [_head(name, "histogram", what)], 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        below += count
        lines.append(f'{name}_bucket{{le="{bound:g}"}} {below}\n')
    lines.append(f'{name}_bucket{{le="+Inf"}} {histogram.count}\n')
    lines.append(f"{name}_sum {histogram.total!r}\n{name}_count {histogram.count}\n")
    return "".join(lines)
