"""Time calls as a service makes them: a batcher runs requests that come one by one, at random.

A call of a search follows one of its own size at once, on processors that nobody else wants. Those
of a service do not: docs/plan.md has what that makes.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import optree

from autotune.answers import Answer, Rows
from autotune.dispatching import Dispatcher
from autotune.errors import Overloaded
from autotune.joining import padded
from autotune.nesting import Nested, cut, head, join, leaves_of
from autotune.outcomes import Candidate, Rehearsal
from autotune.pulse import Pulse
from autotune.schedule import Schedule
from autotune.timing import Timing, within

MOST_CALLS = 1_000  # of one rehearsal: every one is kept in the record
SETTLE_SHARE = 0.1  # of the seconds come before: threads begin, a queue forms


def rehearse(
    candidate: Candidate,
    call: Callable[[Nested], Nested],
    requests: Sequence[Nested],
    seconds: float,
    *,
    schedule: Schedule,
    rows_per_s: float,
    padded_to: Sequence[int] = (),
    is_over: Callable[[], bool],
    pulse: Pulse | None = None,
) -> Rehearsal | None:
    """Serve requests, and time the calls that it takes.

    Args:
        candidate: What the calls run, and how many of them are in flight at most.
        call: What to time.
        requests: What comes, in turn: one row each.
        seconds: How long, about.
        schedule: When a batch starts.
        rows_per_s: How many rows come a second, at random; who finds the queue full is sent away.
        padded_to: Sizes that batches are padded to, rising; none where they are run as they are.
        is_over: Whether it must end; its calls tell nothing then.
        pulse: Tells when processors were held up; None where they are not to be watched.

    Returns:
        The calls; None where there is none, or it had to end.

    Raises:
        Exception: What a call raised, when none is in flight any more.
    """
    begin_s = time.perf_counter() + SETTLE_SHARE * seconds
    calls = _Calls(call, padded_to, begin_s)
    in_turn = partial(calls.run_in_turn, schedule.batch_size)
    with pulse or contextlib.nullcontext():
        dispatcher = Dispatcher(calls.run, in_turn, candidate.concurrency, schedule)
        try:
            _send(
                dispatcher,
                requests,
                rows_per_s,
                until_s=begin_s + seconds,
                is_over=lambda: bool(calls.error) or len(calls.made) >= MOST_CALLS or is_over(),
            )
        finally:
            dispatcher.close(drain=False)
    if calls.error:
        raise calls.error
    if is_over():
        return None
    return _told(candidate, rows_per_s, calls.made, begin_s, pulse)


def warmed_up(
    call: Callable[[Nested], object],
    take: Callable[[int], Nested],
    sizes: Sequence[int],
    seconds: float,
) -> list[int]:
    """Call once for each size, the largest first; return those there was time for, rising.

    An engine may compile a program for each, which takes a while.

    Args:
        call: What is to be timed.
        take: Gives so many rows.
        sizes: Which, rising.
        seconds: Once they are over, no other one is begun.
    """
    deadline, ready = time.perf_counter() + seconds, list[int]()
    for rows in reversed(sizes):
        call(take(rows))
        ready.insert(0, rows)
        if time.perf_counter() > deadline:
            break
    return ready


class _Calls:
    """Calls that a batcher makes, and what became of them.

    Args:
        call: Makes one.
        padded_to: Sizes that batches are padded to.
        since_s: Which that ended before are not kept.

    Attributes:
        made: Rows and time of each.
        error: What the first one raised that failed.
    """

    def __init__(
        self, call: Callable[[Nested], Nested], padded_to: Sequence[int], since_s: float
    ) -> None:
        self.made: list[tuple[int, Timing]] = []
        self.error: BaseException | None = None
        self._call, self._padded_to, self._since_s = call, padded_to, since_s

    def run(self, batch: Nested) -> Nested:
        """Run a batch whole, padded if need be."""
        if self.error:  # the batcher tries again in halves, which tells nothing new
            raise self.error
        rows = len(leaves_of(batch)[0])
        size = next((size for size in self._padded_to if size >= rows), rows)
        if size > rows:
            batch = optree.tree_map(lambda array: padded(array, size), batch)
        start = time.perf_counter()
        try:
            outputs = self._call(batch)
        except BaseException as error:
            self.error = error
            raise
        end = time.perf_counter()
        if end >= self._since_s:
            self.made.append((size, (start, end)))
        return outputs if size == rows else head(outputs, rows)

    def run_in_turn(self, size: int, rows: Nested) -> Nested:
        """Run rows in batches of so many, one after the other."""
        count = len(leaves_of(rows)[0])
        return join(map(self.run, cut(rows, count, size)), count)


def _send(
    dispatcher: Dispatcher,
    requests: Sequence[Nested],
    rows_per_s: float,
    *,
    until_s: float,
    is_over: Callable[[], bool],
) -> None:
    """Send requests of a row each, at random, whether or not those before were answered."""
    turns = itertools.cycle([Rows(each) for each in requests])
    due = time.perf_counter()
    while due < until_s and not is_over():
        wait_s = due - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        with contextlib.suppress(Overloaded):
            dispatcher.admit(Answer(next(turns), time.monotonic(), None, dispatcher.withdraw))
        due += random.expovariate(rows_per_s)


def _told(
    candidate: Candidate,
    rows_per_s: float,
    made: list[tuple[int, Timing]],
    begin_s: float,
    pulse: Pulse | None,
) -> Rehearsal | None:
    """What the calls tell that began from some time on."""
    made.sort(key=lambda each: each[1])
    starts_s, ends_s = np.array([timing for _, timing in made]).reshape(-1, 2).T
    before = np.searchsorted(np.sort(ends_s), starts_s, side="right")
    flights = np.arange(1, len(made) + 1) - before  # of those that began, so many had ended
    told = [number for number, start_s in enumerate(starts_s) if start_s >= begin_s][:MOST_CALLS]
    if not told:
        return None
    timings = [made[number][1] for number in told]
    times_s = tuple(round(end - start, 9) for start, end in timings)
    lost_s = within(pulse.lost_s(timings), times_s) if pulse else ()
    return Rehearsal(
        candidate=candidate,
        rows_per_s=rows_per_s,
        rows=tuple(made[number][0] for number in told),
        flights=tuple(int(flights[number]) for number in told),
        times_s=times_s,
        lost_s=lost_s if any(lost_s) else (),
    )
