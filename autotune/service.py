"""How long a batch takes to serve: the record's own call times, and what Python adds to them.

A queue is simulated with these times in place of the model.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from autotune.dtypes import row_bytes
from autotune.errors import InvalidRecord
from autotune.judging import Lane, lane_of
from autotune.outcomes import Measurement
from autotune.records import Recommendation, TuningRecord
from autotune.runner import SMALLER
from autotune.splitting import Splitter

LEVELS = 4_096  # quantiles that stand for the times of one size: a call in thousands is told
DRAWN = (np.arange(LEVELS) + 0.5) / LEVELS


class Overhead(Struct, frozen=True, kw_only=True):
    """Seconds that a `MicroBatcher` takes beside the model's calls.

    All but `wake_s` are spent with the interpreter's lock, by one thread at a time: see
    `interpreter`.

    Attributes:
        let_in_s: For each request, until it waits in the queue; on its caller's thread.
        answer_s: For each request, to take it into a batch and to hand its answer out.
        batch_s: For each batch.
        wake_s: Before whatever a thread does that slept, be it for want of work or of the lock.
        byte_s: For each byte of the rows of a batch, where it holds several requests: to join
            them.
    """

    let_in_s: float
    answer_s: float
    batch_s: float
    wake_s: float
    byte_s: float = 0.0

    @property
    def request_s(self) -> float:
        """Seconds for each request."""
        return self.let_in_s + self.answer_s

    def times(self, together: int) -> Overhead:
        """Return the same for so many requests at once."""
        return replace(self, let_in_s=together * self.let_in_s, answer_s=together * self.answer_s)

    def scaled_to(self, request_s: float) -> Overhead:
        """Return the same for requests that take so long in all, joined, in the same proportion.

        Example:
            >>> Overhead(let_in_s=1.0, answer_s=3.0, batch_s=5.0, wake_s=7.0).scaled_to(2.0)
            Overhead(let_in_s=0.5, answer_s=1.5, batch_s=5.0, wake_s=7.0, byte_s=0.0)
        """
        share = request_s / self.request_s
        let_in_s, answer_s = share * self.let_in_s, share * self.answer_s
        return replace(self, let_in_s=let_in_s, answer_s=answer_s, byte_s=0.0)


# By `python -m tests.benchmarks.plan_overhead` on two cores of an x86 server, Python 3.11, in a
# flood of requests to a small model: in the middle of six runs between 5.2, 5.2, 7.7, 16 and 6.8,
# 8.1, 12, 56 microseconds; a batch takes another 8 in the predictor (`python -m
# tests.benchmarks.predictor`). A byte took 0.15 to 0.27 ns.
MEASURED = Overhead(let_in_s=6.5e-6, answer_s=6.0e-6, batch_s=19e-6, wake_s=22e-6, byte_s=0.21e-9)
NOTHING = Overhead(let_in_s=0.0, answer_s=0.0, batch_s=0.0, wake_s=0.0)


class Times:
    """Times of a call by its rows: `LEVELS` quantiles, evenly spaced, each as likely as the others.

    Between sizes that were measured each quantile lies on a straight line. Beyond them the line
    through the two nearest medians goes on, within what is plausible: fewer rows take no more
    seconds than the smallest size and no more rows a second, and so on at the other end.

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

    def _mix(self, rows: int) -> tuple[int, float, int, float]:
        """Places of two measured sizes, each with its share in the times of so many rows."""
        larger = bisect.bisect_left(self._padded, rows)
        size = self._padded[larger] if larger < len(self._padded) else rows
        sizes, last = self.sizes, len(self.sizes) - 1
        place = bisect.bisect_left(sizes, size)
        if place > last:
            return last, self._share(size, of=last, beside=last - 1), last, 0.0
        if place == 0:
            return 0, self._share(size, of=0, beside=1), 0, 0.0
        weight = (size - sizes[place - 1]) / (sizes[place] - sizes[place - 1])
        return place - 1, 1 - weight, place, weight

    def _share(self, rows: int, of: int, beside: int) -> float:
        """Seconds of rows beyond the measured ones as a share of those of the size at the end."""
        size = self.sizes[of]
        low, high = sorted((1.0, rows / size))
        if len(self.sizes) == 1:
            return high
        row_s = (self._medians[of] - self._medians[beside]) / (size - self.sizes[beside])
        return min(high, max(low, 1.0 + (rows - size) * row_s / self._medians[of]))


class Service:
    """How the predictor of a record runs a batch: in which parts, and how long each takes.

    Args:
        record: The tuning run.

    Attributes:
        recommendation: Its answer.
        flights: How many batches are in flight at most.
        processors: How many the machine has, and how many of them a call wants, where calls run
            there; None on a GPU, or where that is not known.
        row_bytes: Bytes of a row, as far as the record tells.
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
        self.processors = _processors(record, chosen)
        inputs = record.model.inputs if record.model else ()
        self.row_bytes = sum(row_bytes(each.shape, each.dtype) for each in inputs)
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

    def stretch(self, calls: int) -> float:
        """How many times as long a thread of Python computes beside so many calls in flight.

        The kernel shares the processors out evenly among the threads that want one.
        """
        if self.processors is None:
            return 1.0
        return max(1.0, (self._threads(calls) + 1) / self.processors[0])

    def slower(self, calls: int, python_share: float) -> float:
        """How many times as long so many calls take beside Python, which computes so often."""
        if self.processors is None:
            return 1.0
        alone = max(1.0, self._threads(calls) / self.processors[0])
        return 1 + python_share * (self.stretch(calls) / alone - 1)

    def _threads(self, calls: int) -> float:
        """How many threads want a processor for so many calls in flight.

        Calls that leave their threads to the engine share its pool.
        """
        threads = self.processors[1] if self.processors else 0
        return threads * (calls if self.recommendation.threads else min(calls, 1))

    def times(self, flights: int) -> Times:
        """Times of a call that starts with so many in flight, itself among them."""
        return self._times[flights - 1]

    def _parts(self, rows: int) -> tuple[int, ...]:
        """Rows of each part in which the predictor runs a batch."""
        return self._splitter.split(rows, self.recommendation.batch_size)


def _processors(record: TuningRecord, chosen: Recommendation) -> tuple[float, int] | None:
    machine = record.machine
    if machine is None or machine.device_kind != "cpu":
        return None
    there = min(machine.cpu_count, machine.cpu_quota or math.inf)
    return there, chosen.threads or max(1, math.ceil(there))


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
