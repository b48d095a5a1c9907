"""Time calls of one engine in this process, several in flight, and see what disturbs them."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from autotune.disturbance import Meter
from autotune.flights import spread
from autotune.guard import Guard
from autotune.nesting import Nested
from autotune.pulse import Pulse

MAX_CALLS = 1_000  # more tell nothing new, and every one is kept in the record
MAX_WARM_UP_CALLS = 20
STEADY_CALLS = 3
STEADY_SPREAD = 0.10  # warm enough when the last calls lie this close together
LONG = 5  # times the seconds: calls in flight that take longer are made once on each thread
MOST_LOST = 0.99  # of a call
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
        span_s: Seconds of all together, in a long row of such calls; None where they ran one
            after another.
        disturbed: How many of them other work on the machine disturbed.
        reasons: What disturbed them.
        lost_s: Seconds of each in which processors were held up; () where they were in none.
    """

    times_s: tuple[float, ...]
    span_s: float | None
    disturbed: int
    reasons: tuple[str, ...]
    lost_s: tuple[float, ...] = ()


def time_calls(
    call: Call,
    batches: Sequence[Nested],
    seconds: float,
    *,
    threads: Threads,
    concurrency: int,
    fewest: int,
    at_once: float | None,
    meter: Meter,
    guard: Guard,
    call_s: float | None = None,
    warm_up_s: float | None = None,
    pulse: Pulse | None = None,
) -> Timings:
    """Time calls on batches in turn.

    Args:
        call: What to time.
        batches: What to call it on.
        seconds: How long, about.
        threads: Make the calls that are in flight together.
        concurrency: Calls in flight.
        fewest: Calls of each flight that are made however long they take; but only one is
            where a call takes longer than `seconds`, or two with others in flight: of a single
            one each, too much is beginning and end.
        at_once: For how many calls there are processors; None where that is not known.
        meter: Tells what else happened on the machine.
        guard: Ends the calls early where memory runs short; one is always made.
        call_s: Seconds of a call; None for those of the last warm-up call.
        warm_up_s: Seconds for calls before, until they take about the same time; None for no
            such calls.
        pulse: Tells when processors were held up; None where the calls are made by others.
    """
    run = _runner(call, concurrency, threads)
    if warm_up_s is not None:
        warm_call_s = _warm_up(run, batches, warm_up_s, concurrency)
        call_s = warm_call_s if call_s is None else call_s
    turns = _until(seconds, concurrency, batches, fewest, guard)
    if call_s is not None and call_s > seconds:
        waves = 1 if concurrency == 1 or call_s > LONG * seconds else 2
        turns = itertools.islice(itertools.cycle(batches), waves * concurrency)
    guard.settle()
    calls: list[Timing] = []
    with _no_garbage_collection(), pulse or contextlib.nullcontext():
        slices = _Slices(meter)

        def note(timing: Timing) -> None:
            calls.append(timing)
            slices.count(timing[1])

        try:
            run(turns, note)
        finally:
            guard.rest()
        slices.close(calls[-1][1])
    lost_s = pulse.lost_s(calls) if pulse else (0.0,) * len(calls)
    times_s = tuple(round(end - start, 9) for start, end in calls)  # the clock ticks nanoseconds
    return Timings(
        times_s=times_s,
        span_s=span_s(calls, concurrency, at_once) if concurrency > 1 else None,
        disturbed=slices.disturbed,
        reasons=slices.reasons,
        lost_s=within(lost_s, times_s) if any(lost_s) else (),
    )


def within(lost_s: Sequence[float], times_s: Sequence[float]) -> tuple[float, ...]:
    """Return what calls lost, never all of one, whatever the pulse felt."""
    both = zip(lost_s, times_s, strict=True)
    return tuple(round(min(lost, MOST_LOST * time_s), 9) for lost, time_s in both)


def span_s(calls: Sequence[Timing], concurrency: int, at_once: float | None = None) -> float:
    """Seconds that calls in flight together take in a long row of them.

    At the end some threads have nothing left to do, which in a long row does not count. Where so
    many calls run at once as there are processors for, whatever waits meanwhile, a moment with
    fewer is a part of one with all: of two processors, half of one. Where that is not known, the
    truth lies between one at once, for which each moment is a whole one, and all.

    Args:
        calls: When each began and ended.
        concurrency: Calls in flight.
        at_once: For how many there are processors; None where that is not known.
    """
    if at_once is None:
        return math.sqrt(span_s(calls, concurrency, 1) * span_s(calls, concurrency, concurrency))
    at_once = max(1.0, min(at_once, concurrency))
    begin = sorted(start for start, _ in calls)[:concurrency][-1]
    end = sorted(stop for _, stop in calls)[-concurrency:][0]
    steps = sorted([(start, 1) for start, _ in calls] + [(end, -1) for _, end in calls])
    active, spent_s = 0, 0.0
    for (moment, change), (following, _) in itertools.pairwise(steps):
        active += change
        all_there = begin <= moment < end  # who makes no call then is about to
        share = 1.0 if all_there else min(active, at_once) / at_once
        spent_s += share * (following - moment)
    return spent_s


class Threads:
    """Threads for calls in flight, the same ones for as many in flight each time.

    Frameworks keep what they have prepared for a size by thread: one that is new to it is slower.
    """

    def __init__(self) -> None:
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def __call__(self, concurrency: int) -> ThreadPoolExecutor:
        """Return a pool of so many threads."""
        if concurrency not in self._pools:
            self._pools[concurrency] = ThreadPoolExecutor(concurrency)
        return self._pools[concurrency]


def _runner(call: Call, concurrency: int, threads: Threads) -> Run:
    """Return what calls on batches, as many at once, and tells of each call, one at a time."""
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

    def at_once(batches: Iterable[Nested], tell: Tell) -> None:
        spread(threads(concurrency), functools.partial(timed, tell), batches, concurrency)

    return in_turn if concurrency == 1 else at_once


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
