"""Time calls as a service makes them: sizes change from one to the next, and there are pauses.

A call of a search follows one of its own size at once, and finds all that it needs in the
processor's caches. Those of a service do not: docs/plan.md has what that makes.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, wait

from autotune.nesting import Nested
from autotune.outcomes import Candidate, Rehearsal
from autotune.pulse import Pulse
from autotune.timing import Timing, within

MOST_CALLS = 1_000  # of one rehearsal: every one is kept in the record
WARM_UP_SHARE = 0.5  # of the seconds, for the first calls of each size


def rehearse(
    candidate: Candidate,
    call: Callable[[Nested], object],
    batches: Mapping[int, Nested],
    seconds: float,
    *,
    callers: int,
    pool: Executor,
    is_over: Callable[[], bool],
    pulse: Pulse | None = None,
) -> Rehearsal | None:
    """Time calls that several threads make, each as long idle as busy.

    Args:
        candidate: What the calls run.
        call: What to time.
        batches: What to call it on, by their rows.
        seconds: How long, about; the first calls of each size come on top, and are not timed.
        callers: How many threads make calls.
        pool: Has so many threads.
        is_over: Whether it must end; its calls tell nothing then.
        pulse: Tells when processors were held up; None where they are not to be watched.

    Returns:
        The calls; None where there is none, or it had to end.

    Raises:
        Exception: What a call raised, when none is in flight any more.
    """
    sizes = _warm_up(call, batches, WARM_UP_SHARE * seconds, pool, callers)
    found: list[tuple[int, Timing]] = []
    deadline = time.perf_counter() + seconds
    lock, failed = threading.Lock(), threading.Event()

    def go_on() -> bool:
        is_late = time.perf_counter() >= deadline or failed.is_set()
        return not is_late and len(found) < MOST_CALLS and not is_over()

    def make_calls() -> None:
        turns, call_s = _shuffled(sizes), 0.0
        while go_on():
            rows = next(turns)
            time.sleep(random.expovariate(1.0) * call_s)
            start = time.perf_counter()
            try:
                call(batches[rows])
            except BaseException:
                failed.set()
                raise
            end = time.perf_counter()
            call_s = end - start
            with lock:
                found.append((rows, (start, end)))

    with pulse or contextlib.nullcontext():
        ends = [pool.submit(make_calls) for _ in range(callers)]
        wait(ends)
    for end in ends:
        end.result()
    if not found or is_over():
        return None
    rows, timings = zip(*found, strict=True)
    times_s = tuple(round(end - start, 9) for start, end in timings)
    lost_s = within(pulse.lost_s(timings), times_s) if pulse else ()
    return Rehearsal(
        candidate=candidate,
        callers=callers,
        rows=rows,
        times_s=times_s,
        lost_s=lost_s if any(lost_s) else (),
    )


def _shuffled(sizes: Sequence[int]) -> Iterator[int]:
    """Give all sizes in random order, and again: each comes as often as the others."""
    while True:
        yield from random.sample(sizes, len(sizes))


def _warm_up(
    call: Callable[[Nested], object],
    batches: Mapping[int, Nested],
    seconds: float,
    pool: Executor,
    callers: int,
) -> list[int]:
    """Call once for each size on each thread, the largest first; return those there was time for.

    An engine may compile a program for each, which takes a while.
    """
    deadline, sizes = time.perf_counter() + seconds, sorted(batches, reverse=True)
    for place, rows in enumerate(sizes):
        list(pool.map(call, [batches[rows]] * callers))
        if time.perf_counter() > deadline:
            return sizes[: place + 1]
    return sizes
