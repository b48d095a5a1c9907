"""Time calls of one engine in this process, several in flight, and see what disturbs them."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from autotune.disturbance import Meter
from autotune.flights import spread
from autotune.guard import Guard
from autotune.nesting import Nested

MAX_CALLS = 1_000  # more tell nothing new, and every one is kept in the record
MAX_WARM_UP_CALLS = 20
STEADY_CALLS = 3
STEADY_SPREAD = 0.10  # warm enough when the last calls lie this close together
SLICE_S = 0.1  # disturbance is judged in slices: shorter ones cannot be

Call = Callable[[Nested], Nested]
Timing = tuple[float, float]  # when a call began and ended
Tell = Callable[[Timing], object]
Run = Callable[[Iterable[Nested], Tell], None]


@dataclass(frozen=True, slots=True)
class Timings:
    """Calls that were timed.

    Attributes:
        times_s: Seconds of each call.
        span_s: Seconds of all together; None where they ran one after another.
        disturbed: How many of them other work on the machine disturbed.
        reasons: What disturbed them.
    """

    times_s: tuple[float, ...]
    span_s: float | None
    disturbed: int
    reasons: tuple[str, ...]


def time_calls(
    call: Call,
    batches: Sequence[Nested],
    seconds: float,
    *,
    concurrency: int,
    fewest: int,
    meter: Meter,
    guard: Guard,
    last_call_s: float = 0.0,
    warm_up_s: float | None = None,
) -> Timings:
    """Time calls on batches in turn.

    Args:
        call: What to time.
        batches: What to call it on.
        seconds: How long, about.
        concurrency: Calls in flight.
        fewest: Calls of each flight that are made however long they take; but only one is
            where the call before took longer than `seconds`.
        meter: Tells what else happened on the machine.
        guard: Ends the calls early where memory runs short; one is always made.
        last_call_s: Seconds of the call before.
        warm_up_s: Seconds for calls before, until they take about the same time; None for no
            such calls.
    """
    calls: list[Timing] = []
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(_running(call, concurrency))
        if warm_up_s is not None:
            last_call_s = _warm_up(run, batches, warm_up_s, concurrency)
        turns = _until(seconds, concurrency, batches, fewest, guard)
        if last_call_s > seconds:
            turns = itertools.islice(itertools.cycle(batches), concurrency)
        guard.settle()
        stack.enter_context(_no_garbage_collection())
        slices = _Slices(meter)

        def note(timing: Timing) -> None:
            calls.append(timing)
            slices.count(timing[1])

        try:
            run(turns, note)
        finally:
            guard.rest()
        slices.close(calls[-1][1])
    starts, ends = zip(*calls, strict=True)
    return Timings(
        times_s=tuple(round(end - start, 9) for start, end in calls),  # the clock ticks nanoseconds
        span_s=max(ends) - min(starts) if concurrency > 1 else None,
        disturbed=slices.disturbed,
        reasons=slices.reasons,
    )


@contextlib.contextmanager
def _running(call: Call, concurrency: int) -> Iterator[Run]:
    """Give what calls on batches, as many at once, and tells of each call, one at a time."""
    lock = threading.Lock()

    def timed(tell: Tell, batch: Nested) -> None:
        start = time.perf_counter()
        call(batch)
        end = time.perf_counter()
        with lock:
            tell((start, end))

    def in_turn(batches: Iterable[Nested], tell: Tell) -> None:
        for batch in batches:
            timed(tell, batch)

    if concurrency == 1:
        yield in_turn
        return
    with ThreadPoolExecutor(concurrency) as pool:
        yield lambda batches, tell: spread(
            pool, functools.partial(timed, tell), batches, concurrency
        )


def _warm_up(run: Run, batches: Sequence[Nested], seconds: float, concurrency: int) -> float:
    """Call on every thread until the last calls took about the same time; return the last's."""
    deadline = time.perf_counter() + seconds
    times: list[float] = []

    def turns() -> Iterator[Nested]:
        most = itertools.islice(itertools.cycle(batches), MAX_WARM_UP_CALLS * concurrency)
        for count, batch in enumerate(most):
            last = times[-STEADY_CALLS:]
            steady = len(last) == STEADY_CALLS and max(last) <= (1 + STEADY_SPREAD) * min(last)
            if count >= concurrency and (steady or time.perf_counter() > deadline):
                break
            yield batch

    run(turns(), lambda timing: times.append(timing[1] - timing[0]))
    return times[-1]


class _Slices:
    """Cuts the timed calls into slices of time, and counts the calls of those disturbed."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        meter.read()  # what came before is not of interest
        self._began = time.perf_counter()
        self._calls = 0
        self.disturbed = 0
        self.reasons: tuple[str, ...] = ()

    def count(self, end: float) -> None:
        """Note a call that ended at a time of the clock."""
        self._calls += 1
        if end - self._began >= SLICE_S:
            self.close(end)

    def close(self, end: float) -> None:
        """End the current slice."""
        if self._calls and (found := self._meter.read()).is_disturbed:
            self.disturbed += self._calls
            self.reasons = tuple(dict.fromkeys((*self.reasons, *found.reasons)))
        self._began, self._calls = end, 0


def _until(
    seconds: float, concurrency: int, batches: Sequence[Nested], fewest: int, guard: Guard
) -> Iterator[Nested]:
    """Batches in turn until the time is over, but no fewer and no more than the limits."""
    deadline = time.perf_counter() + seconds
    turns = itertools.islice(itertools.cycle(batches), MAX_CALLS * concurrency)
    for count, batch in enumerate(turns):
        enough = count >= fewest * concurrency and time.perf_counter() >= deadline
        if enough or (count and guard.is_alarmed()):
            break
        yield batch


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
