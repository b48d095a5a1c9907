"""Time one candidate in this process: warm-up, timed calls, peak memory, disturbance.

The clock runs from NumPy arrays in to NumPy arrays out, as production runs it: conversion and
copies are inside.
"""

from __future__ import annotations

import logging
import math
import os
import statistics
import time
from collections.abc import Sequence

import msgspec

from autotune import host, mapped
from autotune.allocator import Allocator
from autotune.device import Device
from autotune.disturbance import Meter
from autotune.engines import REFERENCE, Engine
from autotune.errors import EngineUnavailable, is_out_of_memory, one_line
from autotune.footprint import Footprint
from autotune.guard import Guard
from autotune.lineup import PARITY_ROWS, LineUp
from autotune.nesting import Nested, copied, head, nbytes_of
from autotune.outcomes import Candidate, Failure, Measurement, Outcome, OutOfMemory, Rehearsal
from autotune.parity import Parity
from autotune.pulse import Pulse
from autotune.runner import ready_sizes
from autotune.schedule import Schedule
from autotune.service_calls import rehearse, warmed_up
from autotune.timing import Threads, Timings, time_calls
from autotune.units import format_bytes
from autotune.workload import Workload

_log = logging.getLogger("autotune")

MIN_CALLS = 3  # in a first look; later blocks add to it
MIN_CALLS_AGAIN = 2
WARM_UP_SHARE = 0.5  # of the seconds for timed calls
# Seconds of a call. The first after others' turns takes longer where calls are short: 1.3 to 1.6
# times as long below 5 ms, 1.03 to 1.3 times below 20 ms, above 0.99 to 1.03 times (medians of 500
# blocks of TensorFlow's, one in flight).
COLD_S = 0.02
MAX_BATCHES = 4  # distinct batches in turn: enough that a batch is not just read from cache,
MAX_BATCH_BYTES = 256 * 2**20  # while rows kept ready do not push the model out of memory
REQUESTS = 64  # distinct ones of a rehearsal


class InProcessProbe:
    """A probe that measures in this process.

    Args:
        lineup: The engines.
        workload: Rows that fit the model.
        allocator: Counts the memory of the device that runs the model.
        device: What runs the model; its memory is watched.
        siblings_bytes: What the tuner's other children hold by now.

    Attributes:
        guard: Says how much memory may be taken.
    """

    def __init__(
        self,
        lineup: LineUp,
        workload: Workload,
        allocator: Allocator,
        device: Device,
        *,
        siblings_bytes: int = 0,
    ) -> None:
        self._lineup = lineup
        self._workload = workload
        self._allocator = allocator
        self._threads = Threads()
        self._call_s: dict[Candidate, float] = {}  # of those seen before, when last timed
        # After the engines, so that what they take is not counted as free.
        self.guard = Guard(device, allocator.peak_bytes(), siblings_bytes)
        self._sessions_bytes = lineup.sessions_bytes  # of those that are in what is not free
        self._meter = Meter(self.guard.throttled)
        on_cpu = device.kind == "cpu"
        self._pulse = Pulse() if on_cpu else None
        self._processors = _processors() if on_cpu else None

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines that are ready."""
        return self._lineup.names

    @property
    def unavailable(self) -> dict[str, str]:
        """Engines that cannot run this model, with the reason."""
        return self._lineup.unavailable

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

    def rehearse(
        self, candidate: Candidate, schedule: Schedule, rows_per_s: float, seconds: float
    ) -> Rehearsal | None:
        """Serve requests, and time the calls; see `rehearsals.RehearsingProbe`."""
        try:
            with self.guard as guard:
                if guard.alarm:
                    return None
                engine = self._engine_of(candidate)
                sizes = warmed_up(
                    engine, self._workload.take, ready_sizes(candidate.batch_size), seconds
                )
                requests = [self._workload.take(1, start=row) for row in range(REQUESTS)]
                mapped.read_in(requests)
                return rehearse(
                    candidate,
                    engine,
                    requests,
                    seconds,
                    schedule=schedule,
                    rows_per_s=rows_per_s,
                    padded_to=sizes if engine.compiles_per_shape else (),
                    is_over=guard.is_alarmed,
                    pulse=self._pulse if candidate.fills(self._processors) else None,
                )
        except Exception as error:  # the answer stands without
            _log.debug("Calls as of a service: %s", one_line(error))
            return None

    def _try(self, candidate: Candidate, seconds: float) -> Outcome:
        try:
            return self._measure(candidate, self._engine_of(candidate), seconds)
        except EngineUnavailable as error:
            return Failure(candidate, kind="mismatch", message=str(error))
        except Exception as error:
            return _classify(candidate, error)

    def _engine_of(self, candidate: Candidate) -> Engine:
        """Return what runs a candidate's batches; a session is opened only where it will fit."""
        needed, left = self._lineup.opening_bytes(candidate), self.guard.left_bytes
        if left is not None and needed > left:
            raise EngineUnavailable(
                f"Another session of the {candidate.engine!r} engine may take "
                f"{format_bytes(needed)} before its first batch; {format_bytes(left)} are left."
            )
        engine = self._lineup.engine_of(candidate)
        opened_bytes = self._lineup.sessions_bytes - self._sessions_bytes
        self.guard.sessions_bytes = opened_bytes + self._lineup.kept_besides(candidate)
        return engine

    def _measure(self, candidate: Candidate, engine: Engine, seconds: float) -> Outcome:
        batches = _batches(self._workload, candidate.batch_size)
        footprint = Footprint(self._allocator, self._lineup.growth_of(candidate))
        parity = Parity()
        if candidate in self._call_s:
            with footprint:
                if not self._is_warm(candidate):
                    engine(batches[0])
                timings = self._time(candidate, engine, batches, seconds)
            first_call_s = timings.times_s[0]
        else:
            with footprint:
                first_call_s, outputs = _first_call(engine, batches[0])
                footprint.mark()
                outputs = copied(head(outputs, PARITY_ROWS))  # a session may own what it gave
                footprint.held_bytes = nbytes_of(outputs)
            if candidate.engine != REFERENCE:  # charged to nobody: the reference takes memory, too
                parity = self._lineup.parity(candidate, batches[0], outputs)
            if parity.complaint:
                message = f"At {candidate.batch_size} rows {parity.complaint}."
                return Failure(candidate, kind="mismatch", message=message)
            del outputs
            with footprint:
                timings = self._time(candidate, engine, batches, seconds)
        self._call_s[candidate] = statistics.median(timings.times_s)
        return Measurement(
            candidate,
            timings.times_s,
            span_s=timings.span_s,
            lost_s=timings.lost_s,
            first_call_s=first_call_s,
            disturbed=timings.disturbed,
            warnings=tuple(f"Disturbed: {why}." for why in timings.reasons),
            device_peak_bytes=footprint.device_peak_bytes,
            host_peak_bytes=footprint.host_peak_bytes,
            device_idle_bytes=footprint.device_idle_bytes,
            host_idle_bytes=footprint.host_idle_bytes,
            device_left_bytes=footprint.device_left_bytes,
            device_waste_bytes=self._allocator.waste_bytes,
            largest_error=parity.largest_error,
            changed_classes=parity.changed_classes,
        )

    def _time(
        self,
        candidate: Candidate,
        engine: Engine,
        batches: Sequence[Nested],
        seconds: float,
    ) -> Timings:
        return time_calls(
            engine,
            batches,
            seconds,
            threads=self._threads,
            concurrency=candidate.concurrency,
            fewest=MIN_CALLS_AGAIN if candidate in self._call_s else MIN_CALLS,
            at_once=self._at_once(candidate),
            meter=self._meter,
            guard=self.guard,
            call_s=self._call_s.get(candidate),
            warm_up_s=self._warm_up_s(candidate, seconds),
            # Else a processor is left to feel the pulse on that no call runs on.
            pulse=self._pulse if candidate.fills(self._processors) else None,
        )

    def _at_once(self, candidate: Candidate) -> float | None:
        """How many calls there are processors for, where each has its number of threads."""
        if self._processors is None or candidate.threads is None:
            return None
        return self._processors / candidate.threads

    def _is_warm(self, candidate: Candidate) -> bool:
        """Whether calls of a candidate that was seen before need none before them.

        A session has let go of its memory since; in flight, one call on each thread follows.
        """
        if self._lineup.growth_of(candidate):
            return candidate.concurrency > 1
        return self._call_s[candidate] >= COLD_S

    def _warm_up_s(self, candidate: Candidate, seconds: float) -> float | None:
        """Seconds for calls that are not timed, after the first."""
        if candidate not in self._call_s:
            return seconds * WARM_UP_SHARE
        if candidate.concurrency > 1 and self._lineup.growth_of(candidate):
            return 0.0
        return None


def _processors() -> float:
    """How many this process may keep busy."""
    cpus = host.some_cpus()
    return min(len(cpus) if cpus else os.cpu_count() or 1, host.cpu_quota() or math.inf)


def _first_call(engine: Engine, batch: Nested) -> tuple[float, Nested]:
    """Return the seconds of the first call at a size, and its outputs."""
    began = time.perf_counter()
    outputs = engine(batch)
    return time.perf_counter() - began, outputs


def _classify(candidate: Candidate, error: Exception) -> Outcome:
    if is_out_of_memory(error):
        if isinstance(error, MemoryError):
            return OutOfMemory(candidate, where="host", message=one_line(error))
        return OutOfMemory(candidate, message=one_line(error))
    return Failure(candidate, kind="model_error", message=one_line(error))


def _batches(workload: Workload, size: int) -> list[Nested]:
    """A few batches of distinct rows, made before the clock runs."""
    first = workload.take(size)
    batch_bytes = max(1, nbytes_of(first))
    count = max(1, min(MAX_BATCHES, MAX_BATCH_BYTES // batch_bytes))
    batches = [first, *(workload.take(size, start=size * n) for n in range(1, count))]
    mapped.read_in(batches)
    return batches
