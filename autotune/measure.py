"""Time one candidate in this process: warm-up, timed calls, peak memory, disturbance.

The clock runs from NumPy arrays in to NumPy arrays out, as production runs it: conversion and
copies are inside.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from autotune import engines, host
from autotune.allocator import Allocator
from autotune.device import Device
from autotune.disturbance import Meter
from autotune.engines import Engine
from autotune.errors import EngineUnavailable, is_out_of_memory, one_line
from autotune.guard import Guard
from autotune.nesting import Nested, flatten, head
from autotune.outcomes import Candidate, Failure, Measurement, Outcome, OutOfMemory
from autotune.timing import time_calls
from autotune.workload import Workload

if TYPE_CHECKING:
    import keras

MIN_CALLS = 3  # in a first look; later blocks add to it
MIN_CALLS_AGAIN = 2
WARM_UP_SHARE = 0.5  # of the seconds for timed calls
MAX_BATCHES = 4  # distinct batches in turn: enough that a batch is not just read from cache,
MAX_BATCH_BYTES = 256 * 2**20  # while rows kept ready do not push the model out of memory
PARITY_ROWS = 64
PARITY_BATCH = 8


class InProcessProbe:
    """A probe that measures in this process.

    Args:
        model: The model, built.
        workload: Rows that fit the model.
        allocator: Counts the memory of the device that runs the model.
        names: Engines to make ready.
        device: What runs the model; its memory is watched.
        threads: What the backend's threads of one call were set to; None for its default.
        siblings_bytes: What the tuner's other children hold by now.

    Attributes:
        guard: Says how much memory may be taken.
        unavailable: Engines that cannot run this model, with the reason.
    """

    def __init__(
        self,
        model: keras.Model,
        workload: Workload,
        allocator: Allocator,
        names: Sequence[str],
        device: Device,
        *,
        threads: int | None = None,
        siblings_bytes: int = 0,
    ) -> None:
        self._model = model
        self._threads = threads
        self._workload = workload
        self._allocator = allocator
        self._seen: set[Candidate] = set()
        self._engines: dict[str, Engine] = {}
        self._sessions: dict[tuple[str, int], Engine] = {}  # with threads of their own
        self._reference = engines.build(engines.REFERENCE, model, workload.take(1))
        self.unavailable: dict[str, str] = {}
        for name in names:
            if name == engines.REFERENCE:
                self._engines[name] = self._reference
                continue
            try:
                self._engines[name] = engines.build(name, model, workload.take(1))
            except EngineUnavailable as error:
                self.unavailable[name] = str(error)
        for engine in (self._reference, *self._engines.values()):
            self._call_first(engine)
        # Last, so that what all this takes is not counted as free.
        self.guard = Guard(device, allocator.peak_bytes(), siblings_bytes)
        self._meter = Meter(self.guard.throttled)

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines that are ready."""
        return tuple(name for name in self._engines if name != engines.BASELINE)

    def __call__(self, candidate: Candidate, seconds: float) -> Outcome:
        """Measure a candidate, with about `seconds` of timed calls."""
        began = time.perf_counter()
        with self.guard as guard:
            outcome = None if guard.alarm else self._try(candidate, seconds)
        if outcome is None or guard.alarm:  # whatever came of it, the candidate is not to blame
            outcome = Failure(candidate, kind="stopped", message=guard.alarm)
        elapsed_s = time.perf_counter() - began
        return msgspec.structs.replace(
            outcome, elapsed_s=elapsed_s, memory_limit_bytes=guard.limit_bytes
        )

    def _try(self, candidate: Candidate, seconds: float) -> Outcome:
        try:
            return self._measure(candidate, seconds)
        except Exception as error:
            return _classify(candidate, error)

    def _call_first(self, engine: Engine) -> None:
        for size in _first_sizes(engine):
            engine(self._workload.take(size))

    def _engine_of(self, candidate: Candidate) -> Engine:
        """Return what runs a candidate's batches, with its threads.

        Raises:
            EngineUnavailable: There is none; the message says why in one sentence.
        """
        name, threads = candidate.engine, candidate.threads
        engine = self._engines.get(name)
        if name == engines.REFERENCE:
            engine = self._reference  # also where it is only a baseline
        if engine is None:
            raise EngineUnavailable(self.unavailable.get(name, "It was not asked for."))
        if engines.threads_are_the_process(name):
            if threads != self._threads:
                raise EngineUnavailable(_fixed(name, self._threads))
            return engine
        if threads is None:
            return engine
        if (name, threads) not in self._sessions:
            session = engines.build(name, self._model, self._workload.take(1), threads=threads)
            self._call_first(session)
            self._sessions[name, threads] = session
        return self._sessions[name, threads]

    def _measure(self, candidate: Candidate, seconds: float) -> Outcome:
        try:
            engine = self._engine_of(candidate)
        except EngineUnavailable as error:
            return Failure(candidate, kind="mismatch", message=str(error))
        if candidate.concurrency > 1 and not engine.thread_safe:
            message = f"The {candidate.engine!r} engine gives wrong answers under threads here."
            return Failure(candidate, kind="mismatch", message=message)
        batches = _batches(self._workload, candidate.batch_size)
        self._allocator.reset()
        host.reset_peak_resident()
        idle = self._allocator.peak_bytes(), host.peak_resident_bytes()  # peaks of no call yet
        began = time.perf_counter()
        outputs = engine(batches[0])
        first_call_s = time.perf_counter() - began
        peaks = self._allocator.peak_bytes(), host.peak_resident_bytes()
        again = candidate in self._seen
        if candidate.engine != engines.REFERENCE and not again:
            found = self._difference(batches[0], outputs)
            if found:
                message = f"At {candidate.batch_size} rows {found}."
                return Failure(candidate, kind="mismatch", message=message)
        del outputs
        timings = time_calls(
            engine,
            batches,
            seconds,
            concurrency=candidate.concurrency,
            fewest=MIN_CALLS_AGAIN if again else MIN_CALLS,
            meter=self._meter,
            guard=self.guard,
            last_call_s=first_call_s,
            # Again, the first call has filled the caches.
            warm_up_s=None if again else seconds * WARM_UP_SHARE,
        )
        self._seen.add(candidate)
        return Measurement(
            candidate,
            timings.times_s,
            span_s=timings.span_s,
            first_call_s=first_call_s,
            disturbed=timings.disturbed,
            warnings=tuple(f"Disturbed: {why}." for why in timings.reasons),
            device_peak_bytes=_highest(peaks[0], self._allocator.peak_bytes()),
            host_peak_bytes=_highest(peaks[1], host.peak_resident_bytes()),
            device_idle_bytes=idle[0],
            host_idle_bytes=idle[1],
            device_waste_bytes=self._allocator.waste_bytes,
        )

    def _difference(self, batch: Nested, outputs: Nested) -> str | None:
        """Compare the first rows with the reference's, run in batches that surely fit."""
        for start in range(0, PARITY_ROWS, PARITY_BATCH):
            rows = head(batch, PARITY_BATCH, start)
            leaves, _ = flatten(rows)
            if len(leaves[0]) == 0:
                break
            got = head(outputs, PARITY_BATCH, start)
            found = engines.difference(got, self._reference(rows))
            if found:
                return found
        return None


def _fixed(name: str, threads: int | None) -> str:
    here = f"{threads} threads" if threads else "the threads that the backend chose"
    return f"The {name!r} engine has {here} for one call, and in this process that is fixed."
def _first_sizes(engine: engines.Engine) -> Sequence[int]:
    """Sizes to run before anything is measured.

    Graphs with a free batch axis come with the second size (docs/how-it-measures.md). Where each
    size is a program, one will do: that of the batches which outputs are compared in.
    """
    return (PARITY_BATCH,) if engine.compiles_per_shape else (7, 5)


def _classify(candidate: Candidate, error: Exception) -> Outcome:
    if is_out_of_memory(error):
        if isinstance(error, MemoryError):
            return OutOfMemory(candidate, where="host", message=one_line(error))
        return OutOfMemory(candidate, message=one_line(error))
    return Failure(candidate, kind="model_error", message=one_line(error))


def _batches(workload: Workload, size: int) -> list[Nested]:
    """A few batches of distinct rows, made before the clock runs."""
    first = workload.take(size)
    leaves, _ = flatten(first)
    batch_bytes = max(1, sum(leaf.nbytes for leaf in leaves))
    count = max(1, min(MAX_BATCHES, MAX_BATCH_BYTES // batch_bytes))
    return [first, *(workload.take(size, start=size * n) for n in range(1, count))]


def _highest(*values: int | None) -> int | None:
    return max((value for value in values if value is not None), default=None)
