"""Time one candidate in this process: warm-up, timed calls, peak memory.

The clock runs from NumPy arrays in to NumPy arrays out, as production runs it: conversion and
copies are inside.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from autotune import device, engines
from autotune.allocator import Allocator
from autotune.errors import EngineUnavailable, is_out_of_memory, one_line
from autotune.flights import fly
from autotune.nesting import Nested, flatten, head
from autotune.outcomes import Candidate, Failure, Measurement, Outcome, OutOfMemory
from autotune.workload import Workload

if TYPE_CHECKING:
    import keras

MIN_CALLS = 3  # fewer give no interval
MAX_CALLS = 1_000  # more tell nothing new, and every one is kept in the record
MAX_WARM_UP_CALLS = 20
STEADY_CALLS = 3
STEADY_SPREAD = 0.10  # warm enough when the last calls lie this close together
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

    Attributes:
        unavailable: Engines that cannot run this model, with the reason.
    """

    def __init__(
        self, model: keras.Model, workload: Workload, allocator: Allocator, names: Sequence[str]
    ) -> None:
        self._workload = workload
        self._allocator = allocator
        self._engines: dict[str, engines.Engine] = {}
        self._reference = engines.build(engines.REFERENCE, model, workload.take(1))
        self.unavailable: dict[str, str] = {}
        for name in names:
            try:
                self._engines[name] = engines.build(name, model, workload.take(1))
            except EngineUnavailable as error:
                self.unavailable[name] = str(error)
        for engine in (self._reference, *self._engines.values()):
            # Graphs with a free batch axis come with the second size (docs/how-it-measures.md).
            for size in (7, 5):
                engine(workload.take(size))

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines that are ready."""
        return tuple(self._engines)

    def __call__(self, candidate: Candidate, seconds: float) -> Outcome:
        """Measure a candidate, with about `seconds` of timed calls."""
        began = time.perf_counter()
        try:
            outcome = self._measure(candidate, seconds)
        except Exception as error:
            outcome = _classify(candidate, error)
        elapsed_s = time.perf_counter() - began
        return msgspec.structs.replace(outcome, elapsed_s=elapsed_s)

    def _measure(self, candidate: Candidate, seconds: float) -> Outcome:
        engine = self._engines.get(candidate.engine)
        if engine is None:
            reason = self.unavailable.get(candidate.engine, "It was not asked for.")
            return Failure(candidate, kind="mismatch", message=reason)
        if candidate.concurrency > 1 and not engine.thread_safe:
            message = f"The {candidate.engine!r} engine gives wrong answers under threads here."
            return Failure(candidate, kind="mismatch", message=message)
        batches = _batches(self._workload, candidate.batch_size)
        self._allocator.reset()
        device.reset_peak_resident()
        began = time.perf_counter()
        outputs = engine(batches[0])
        first_call_s = time.perf_counter() - began
        peaks = self._allocator.peak_bytes(), device.peak_resident_bytes()
        if candidate.engine != engines.REFERENCE:
            found = self._difference(batches[0], outputs)
            if found:
                message = f"At {candidate.batch_size} rows {found}."
                return Failure(candidate, kind="mismatch", message=message)
        del outputs
        _warm_up(engine, batches, seconds * WARM_UP_SHARE)
        with _no_garbage_collection():
            times_s, span_s = _time_calls(engine, batches, seconds, candidate.concurrency)
        return Measurement(
            candidate,
            times_s,
            span_s=span_s,
            first_call_s=first_call_s,
            device_peak_bytes=_highest(peaks[0], self._allocator.peak_bytes()),
            host_peak_bytes=_highest(peaks[1], device.peak_resident_bytes()),
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


def _warm_up(engine: engines.Engine, batches: Sequence[Nested], seconds: float) -> None:
    """Call until the last calls took about the same time."""
    began = time.perf_counter()
    times: list[float] = []
    for batch in itertools.islice(itertools.cycle(batches), MAX_WARM_UP_CALLS):
        start = time.perf_counter()
        engine(batch)
        now = time.perf_counter()
        times.append(now - start)
        last = times[-STEADY_CALLS:]
        steady = len(last) == STEADY_CALLS and max(last) <= (1 + STEADY_SPREAD) * min(last)
        if steady or now - began > seconds:
            break


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _time_calls(
    engine: engines.Engine, batches: Sequence[Nested], seconds: float, concurrency: int
) -> tuple[tuple[float, ...], float | None]:
    """Seconds of each call, and of all together where several were in flight."""

    def timed(batch: Nested) -> tuple[float, float]:
        start = time.perf_counter()
        engine(batch)
        return start, time.perf_counter()

    turns = _until(seconds, concurrency, batches)
    if concurrency == 1:
        return _durations([timed(batch) for batch in turns]), None
    with ThreadPoolExecutor(concurrency) as pool:
        calls = list(fly(pool, timed, turns, concurrency))
    span_s = max(end for _, end in calls) - calls[0][0]
    return _durations(calls), span_s


def _until(seconds: float, concurrency: int, batches: Sequence[Nested]) -> Iterator[Nested]:
    """Batches in turn until the time is over, but no fewer and no more than the limits."""
    deadline = time.perf_counter() + seconds
    turns = itertools.islice(itertools.cycle(batches), MAX_CALLS * concurrency)
    for count, batch in enumerate(turns):
        if count >= MIN_CALLS * concurrency and time.perf_counter() >= deadline:
            break
        yield batch


def _durations(calls: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    return tuple(round(end - start, 9) for start, end in calls)  # the clock ticks nanoseconds


def _highest(*values: int | None) -> int | None:
    return max((value for value in values if value is not None), default=None)
