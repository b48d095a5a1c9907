"""How long a batch takes to serve: the record's own call times, and what Python adds to them.

A queue is simulated with these times in place of the model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from autotune.calltimes import Times, times_by_lane
from autotune.dtypes import row_bytes
from autotune.errors import InvalidRecord
from autotune.judging import lane_of
from autotune.outcomes import Measurement
from autotune.records import Recommendation, TuningRecord
from autotune.runner import ready_sizes
from autotune.served import Served
from autotune.signature import is_worth_programs
from autotune.splitting import HAND_OVER_S, Splitter
from autotune.standstills import Standstills

FLOAT_BYTES = 4  # of an exported weight


class Overhead(Struct, frozen=True, kw_only=True):
    """Seconds that a `MicroBatcher` takes beside the model's calls.

    All but `wake_s` are spent with the interpreter's lock, by one thread at a time: see
    `interpreter`.

    Attributes:
        let_in_s: For each request, until it waits in the queue; on its caller's thread.
        answer_s: For each request, to take it into a batch and to hand its answer out.
        batch_s: For each batch.
        wake_s: Before whatever a thread does that slept, be it for want of work or of the lock.
        cold_s: For a batch besides `batch_s`, where its thread slept for want of work, and no other
            batch is in flight: nothing that it needs is in the processor's caches any more.
        byte_s: For each byte of the rows of a batch, where it holds several requests: to join
            them.
    """

    let_in_s: float
    answer_s: float
    batch_s: float
    wake_s: float
    cold_s: float = 0.0
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
            Overhead(let_in_s=0.5, answer_s=1.5, batch_s=5.0, wake_s=7.0, cold_s=0.0, byte_s=0.0)
        """
        share = request_s / self.request_s
        let_in_s, answer_s = share * self.let_in_s, share * self.answer_s
        return replace(self, let_in_s=let_in_s, answer_s=answer_s, byte_s=0.0)


# By `python -m tests.benchmarks.plan_overhead` on two cores of an x86 server, Python 3.11, in a
# flood of requests to a small model: in the middle of six runs between 5.2, 5.2, 7.7, 16 and 6.8,
# 8.1, 12, 56 microseconds; a batch takes another 8 in the predictor (`python -m
# tests.benchmarks.predictor`). A byte took 0.15 to 0.27 ns. A batch after a pause took 123 to 196
# microseconds more, whatever the net (five nets, twice; the medians were 142 and 179).
MEASURED = Overhead(
    let_in_s=6.5e-6, answer_s=6.0e-6, batch_s=19e-6, wake_s=22e-6, cold_s=160e-6, byte_s=0.21e-9
)
NOTHING = Overhead(let_in_s=0.0, answer_s=0.0, batch_s=0.0, wake_s=0.0)


class Service:
    """How the predictor of a record runs a batch: in which parts, and how long each takes.

    Args:
        record: The tuning run.

    Attributes:
        recommendation: Its answer.
        is_rehearsed: Whether it tells what calls take in a service.
        flights: How many batches are in flight at most.
        hand_over_s: Until the parts of a batch are with the predictor's threads and back.
        processors: How many the machine has, and how many of them a call wants, where calls run
            there; None on a GPU, or where that is not known.
        padded: Sizes that batches are padded to; none where they are run as they are.
        row_bytes: Bytes of a row, as far as the record tells.
        standstills: Of the machine while it was tuned; the times of calls are without them.
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
        self.hand_over_s = HAND_OVER_S if self.flights > 1 else 0.0
        self.processors = _processors(record, chosen)
        inputs = record.model.inputs if record.model else ()
        self.row_bytes = sum(row_bytes(each.shape, each.dtype) for each in inputs)
        padded = self.padded = _padded_sizes(record, chosen.batch_size)
        self._splitter = Splitter(chosen.candidate, record.outcomes, any_size=not padded)
        lanes = times_by_lane(record.outcomes)
        self.standstills = Standstills.seen_in(_felt(record, self.processors))
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
        own = [each for each in record.rehearsals if each.candidate == chosen.candidate]
        self._served = Served(own, self._times, ready_sizes(chosen.batch_size), padded)
        self.is_rehearsed = bool(self._served.at(1.0))
        self.limits = sorted(size for size in lanes[way] if size <= chosen.batch_size)
        self.parts = functools.cache(self._parts)

    def stretch(self, calls: int) -> float:
        """How many times as long a thread of Python computes beside so many calls in flight.

        The kernel shares the processors out evenly among the threads that want one.
        """
        if self.processors is None:
            return 1.0
        return max(1.0, (self._threads(calls) + 1) / self.processors[0])

    def takes_all(self, calls: int) -> bool:
        """Whether so many calls in flight leave no processor free."""
        return self.processors is not None and self._threads(calls) >= self.processors[0]

    def slower(self, calls: int, python_share: float) -> float:
        """How many times as long so many calls take beside Python, which computes so often."""
        if self.processors is None:
            return 1.0
        return 1 + python_share * (self.stretch(calls) / self._share_out(calls) - 1)

    def crowded(self, calls: int) -> float:
        """How many times as long so many calls take as the most that anybody measured at once."""
        return self._share_out(calls) / self._share_out(min(calls, self.flights))

    def _threads(self, calls: int) -> float:
        """How many threads want a processor for so many calls in flight.

        Calls that leave their threads to the engine share its pool.
        """
        threads = self.processors[1] if self.processors else 0
        return threads * (calls if self.recommendation.threads else min(calls, 1))

    def times(self, flights: int) -> Times:
        """Times of a call in the search, that starts with so many in flight, itself among them."""
        return self._times[flights - 1]

    def served(self, rows_per_s: float) -> list[Times]:
        """Times of calls while so many rows come a second, of one in flight, of two, and so on.

        Python's share of the processors is in them. There are none without a rehearsal.
        """
        return self._served.at(rows_per_s)

    @property
    def smallest(self) -> int:
        """Fewest rows of which it is known what they take."""
        return min(times.sizes[0] for times in (self._times[-1], *self.served(1.0)))

    def _share_out(self, calls: int) -> float:
        """How many times as long so many calls take as where there are processors for all."""
        return max(1.0, self._threads(calls) / self.processors[0]) if self.processors else 1.0

    def _parts(self, rows: int) -> tuple[int, ...]:
        """Rows of each part in which the predictor runs a batch."""
        return self._splitter.split(rows, self.recommendation.batch_size)


def _processors(record: TuningRecord, chosen: Recommendation) -> tuple[float, int] | None:
    machine = record.machine
    if machine is None or machine.device_kind != "cpu":
        return None
    there = min(machine.cpu_count, machine.cpu_quota or math.inf)
    return there, chosen.threads or max(1, math.ceil(there))


def _felt(record: TuningRecord, processors: tuple[float, int] | None) -> Iterator[Measurement]:
    """Measurements that tell of standstills: of calls that left no processor free."""
    there = processors[0] if processors else None
    for each in record.outcomes:
        if isinstance(each, Measurement) and each.candidate.fills(there):
            yield each


def _padded_sizes(record: TuningRecord, tuned: int) -> list[int]:
    """Sizes that the predictor pads batches to; none where the engine runs them as they are.

    A program for each size is compiled by XLA, whoever asks for it, and by OpenVINO for light
    models: see `compiles_per_shape` of the engines, which are not at hand here.
    """
    engine, model = record.recommendation and record.recommendation.engine, record.model
    by_xla = model is not None and (
        model.backend == "jax" or (model.backend == "tensorflow" and model.jit_compile)
    )
    by_openvino = model is not None and is_worth_programs(
        FLOAT_BYTES * model.parameters, [each.shape for each in model.inputs]
    )
    pads = {"xla": True, "openvino": by_openvino, "keras": by_xla, "compiled": by_xla}
    if not pads.get(engine or "", False):
        return []
    return ready_sizes(tuned)
