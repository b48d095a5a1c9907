"""How long a batch takes to serve: the record's own call times, and what Python adds to them.

A queue is simulated with these times in place of the model.
"""

from __future__ import annotations

import bisect
import functools
from array import array
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from autotune.errors import InvalidRecord
from autotune.judging import Lane, lane_of
from autotune.outcomes import Measurement
from autotune.records import Recommendation, TuningRecord
from autotune.runner import SMALLER
from autotune.splitting import Splitter

LEVELS = 512  # quantiles that stand for the times of one size: a call in a thousand is told
DRAWN = (np.arange(LEVELS) + 0.5) / LEVELS

Floats = npt.NDArray[np.float64]


class Overhead(Struct, frozen=True, kw_only=True):
    """Seconds that a `MicroBatcher` takes beside the model's calls.

    All but `wake_s` are spent with the interpreter's lock, by one thread at a time, so that they
    add up over all threads.

    Attributes:
        let_in_s: For each request, until it waits in the queue; on its caller's thread.
        answer_s: For each request, to join its rows to a batch and to hand its answer out.
        batch_s: For each batch.
        wake_s: Before a batch for which a thread that slept has to wake.
    """

    let_in_s: float
    answer_s: float
    batch_s: float
    wake_s: float

    @property
    def request_s(self) -> float:
        """Seconds for each request."""
        return self.let_in_s + self.answer_s

    def scaled_to(self, request_s: float) -> Overhead:
        """Return the same for requests that take so long in all, in the same proportion.

        Example:
            >>> Overhead(let_in_s=1.0, answer_s=3.0, batch_s=5.0, wake_s=7.0).scaled_to(2.0)
            Overhead(let_in_s=0.5, answer_s=1.5, batch_s=5.0, wake_s=7.0)
        """
        share = request_s / self.request_s
        return replace(self, let_in_s=share * self.let_in_s, answer_s=share * self.answer_s)


# By `python -m tests.benchmarks.plan --overhead` on two cores of an x86 server, Python 3.11.
MEASURED = Overhead(let_in_s=10e-6, answer_s=10e-6, batch_s=20e-6, wake_s=50e-6)
NOTHING = Overhead(let_in_s=0.0, answer_s=0.0, batch_s=0.0, wake_s=0.0)


class Times(dict[int, "array[float]"]):
    """Times of a call by its rows: `LEVELS` quantiles, evenly spaced, each as likely as the others.

    Between sizes that were measured each quantile lies on a straight line. Beyond them the line
    through the two nearest medians goes on, within what is plausible: fewer rows take no more
    seconds than the smallest size and no more rows a second, and so on at the other end.

    Args:
        measured: Seconds of calls by rows.
        padded: Sizes that batches are padded to; none where they are run as they are.

    Example:
        >>> times = Times({10: [1.0], 20: [1.5]})
        >>> [round(times[rows][0], 2) for rows in (1, 10, 14, 40)]
        [0.55, 1.0, 1.2, 2.5]
    """

    def __init__(self, measured: Mapping[int, Sequence[float]], padded: Sequence[int] = ()) -> None:
        super().__init__()
        self.sizes = sorted(measured)
        self._quantiles = [np.quantile(measured[size], DRAWN) for size in self.sizes]
        self._padded = sorted(padded)

    def __missing__(self, rows: int) -> array[float]:
        larger = bisect.bisect_left(self._padded, rows)
        size = self._padded[larger] if larger < len(self._padded) else rows
        self[rows] = times = array("d", self._at(size).tobytes())  # a quarter of a list
        return times

    def mean(self, rows: int) -> float:
        """Mean seconds of a call."""
        return sum(self[rows]) / LEVELS

    def _at(self, rows: int) -> Floats:
        sizes, quantiles = self.sizes, self._quantiles
        place = bisect.bisect_left(sizes, rows)
        if place == len(sizes):
            return quantiles[-1] * self._share(rows, of=len(sizes) - 1, beside=len(sizes) - 2)
        if sizes[place] == rows:
            return quantiles[place]
        if place == 0:
            return quantiles[0] * self._share(rows, of=0, beside=1)
        below = sizes[place - 1]
        weight = (rows - below) / (sizes[place] - below)
        return (1 - weight) * quantiles[place - 1] + weight * quantiles[place]

    def _share(self, rows: int, of: int, beside: int) -> float:
        """Seconds of rows beyond the measured ones as a share of those of the size at the end."""
        size = self.sizes[of]
        low, high = sorted((1.0, rows / size))
        if len(self.sizes) == 1:
            return high
        end_s, next_s = (float(np.median(self._quantiles[place])) for place in (of, beside))
        row_s = (end_s - next_s) / (size - self.sizes[beside])
        return min(high, max(low, 1.0 + (rows - size) * row_s / end_s))


class Service:
    """How the predictor of a record runs a batch: in which parts, and how long each takes.

    Args:
        record: The tuning run.

    Attributes:
        recommendation: Its answer.
        flights: How many batches are in flight at most.
        limits: Batch sizes that were measured in the recommended way, up to the tuned one.

    Raises:
        InvalidRecord: It has no recommendation, or no time of the recommended way.
    """

    def __init__(self, record: TuningRecord) -> None:
        chosen = record.recommendation
        if chosen is None:
            raise InvalidRecord("The record has no recommendation. Tune the model again.")
        self.recommendation: Recommendation = chosen
        self.flights = chosen.concurrency
        padded = _padded_sizes(record, chosen.batch_size)
        self._splitter = Splitter(chosen.candidate, record.outcomes, any_size=not padded)
        lanes = _times_by_lane(record)
        way = lane_of(chosen.candidate)
        if chosen.batch_size not in lanes.get(way, {}):
            raise InvalidRecord(
                f"The record holds no times of {chosen.candidate}. Tune the model again."
            )
        # With fewer in flight a call may be faster; it is not taken to be where nobody measured.
        self._times: list[Times] = []
        for flights in range(self.flights, 0, -1):
            measured = lanes.get((chosen.engine, flights, chosen.threads))
            self._times.append(Times(measured, padded) if measured else self._times[-1])
        self._times.reverse()
        self.limits = [size for size in self._times[-1].sizes if size <= chosen.batch_size]
        self.parts = functools.cache(self._parts)

    def times(self, flights: int) -> Times:
        """Times of a call that starts with so many in flight, itself among them."""
        return self._times[flights - 1]

    def _parts(self, rows: int) -> tuple[int, ...]:
        """Rows of each part in which the predictor runs a batch."""
        return self._splitter.split(rows, self.recommendation.batch_size)


def _times_by_lane(record: TuningRecord) -> dict[Lane, dict[int, list[float]]]:
    """Times of all calls, of the blocks that nothing disturbed where there are any."""
    calm: dict[Lane, dict[int, list[float]]] = {}
    every: dict[Lane, dict[int, list[float]]] = {}
    for outcome in record.outcomes:
        if isinstance(outcome, Measurement):
            lane, size = lane_of(outcome.candidate), outcome.candidate.batch_size
            for lanes in (every,) if outcome.is_disturbed else (every, calm):
                lanes.setdefault(lane, {}).setdefault(size, []).extend(outcome.times_s)
    return {lane: sizes | calm.get(lane, {}) for lane, sizes in every.items()}


def _padded_sizes(record: TuningRecord, tuned: int) -> list[int]:
    """Sizes that the predictor pads batches to; none where the engine runs them as they are.

    A program for each size is compiled by XLA, whoever asks for it: see `compiles_per_shape` of the
    engines, which are not at hand here.
    """
    engine, model = record.recommendation and record.recommendation.engine, record.model
    by_xla = model is not None and (
        model.backend == "jax" or (model.backend == "tensorflow" and model.jit_compile)
    )
    if engine != "xla" and not (by_xla and engine in ("keras", "compiled")):
        return []
    return sorted({1, *(tuned // part for part in SMALLER if tuned >= part)})
