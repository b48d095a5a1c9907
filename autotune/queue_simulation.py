"""A `MicroBatcher` without rows or threads: when its batches start and end.

It decides as `dispatching.Dispatcher` and `queueing.Queue` do of rows of one kind, with the same
names for the same things: change them together.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_right
from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace
from itertools import groupby

from autotune.calltimes import Times
from autotune.interpreter import Interpreter
from autotune.schedule import Schedule
from autotune.service import Overhead, Service

MOST_STEPS = 16  # of a thread, for the parts of a request that is larger than a batch


class Batcher:
    """Runs requests that come at given times in batches.

    Args:
        arrivals_s: When each comes, rising.
        rows: Rows of a request.
        schedule: When a batch starts.
        service: How long it takes.
        overhead: What Python adds, for each request.
        draws: Which quantile of the call's time each call takes, in turn.
        room: How many may wait; the next comes only when one was taken.
        together: How many requests each of these stands for.
        served: Times of calls by how many are in flight; () for those of the search.

    Attributes:
        counts: Requests in each batch, in the order that they start.
        starts_s: When each starts.
        ends_s: When its requests have their answers.
        calls_s: Seconds of the model's calls for all of them.
    """

    def __init__(
        self,
        arrivals_s: Sequence[float],
        rows: int,
        schedule: Schedule,
        service: Service,
        overhead: Overhead,
        draws: Sequence[int],
        room: float = math.inf,
        together: int = 1,
        served: Sequence[Times] = (),
    ) -> None:
        overhead = overhead.times(together)
        self._requests, self._rows, self._together = len(arrivals_s), together * rows, together
        self._schedule, self._service, self._overhead = schedule, service, overhead
        self._join_s = self._rows * service.row_bytes * overhead.byte_s
        self._draws, self._served = draws, served
        self._workers = service.flights
        self._came = self._taken = self._calls = self._crowd = self._flying_rows = 0
        self._now = 0.0
        self._enough = 1 if schedule.follows_crowd else schedule.batch_size
        self._steps = functools.cache(self._in_steps)
        self._interpreter = Interpreter(arrivals_s, overhead.let_in_s, overhead.wake_s, room)
        self._idle = [0.0] * self._workers  # since when each worker without a batch has none
        # When calls end, the number of their batch, and how many of them are in flight at once.
        self._flying: list[tuple[float, int, int]] = []
        self._pool = [0.0] * self._workers  # when each of the predictor's threads is free
        self.counts: list[int] = []
        self.starts_s: list[float] = []
        self.ends_s: list[float] = []
        self.calls_s = 0.0

    def run(self) -> None:
        """Answer all requests."""
        while self._taken < self._requests:
            landing_s = self._flying[0][0] if self._flying else math.inf
            start_s = self._next_start(landing_s) if self._idle else math.inf
            if start_s < landing_s:
                self._load(start_s)
            else:
                self._land()
        while self._flying:
            self._land()

    def _next_start(self, before: float) -> float:
        """When the next batch starts; infinite where the calls of another one end before."""
        interpreter, now = self._interpreter, max(self._now, self._idle[0])
        interpreter.let_in(now)
        self._notice(now)
        while now < before:
            waiting, oldest_done = self._came - self._taken, math.inf
            if waiting * self._rows >= self._enough:
                return now
            if waiting:
                entered_s = interpreter.entered_s[self._taken]
                oldest_done = max(now, entered_s + self._schedule.max_wait_s)
            until = min(oldest_done, before)
            filled = self._taken + math.ceil(self._enough / self._rows)
            interpreter.let_in(until, filled if waiting else self._came + 1)
            came = len(interpreter.entered_s)
            if came == self._came or interpreter.entered_s[came - 1] > until:  # too late for that
                return oldest_done if oldest_done < before else math.inf
            now = max(now, interpreter.entered_s[came - 1])
            self._notice(now)
        return math.inf

    def _notice(self, now: float) -> None:
        """See who is in the queue by now."""
        self._now = now
        self._came = bisect_right(self._interpreter.entered_s, now, self._came)
        here = (self._came - self._taken) * self._rows + self._flying_rows
        if here > self._crowd:
            self._see_crowd(here)

    def _see_crowd(self, here: int) -> None:
        self._crowd = here
        if self._schedule.follows_crowd:
            self._enough = min(self._schedule.enough_rows, math.ceil(here / self._workers))

    def _load(self, now: float) -> None:
        """Take a batch out of the line, but leave the other workers their share, and run it.

        Or several: as many as leave each worker as many of those who are there, and as many again
        to wait; but no idle worker is left without his share of those who wait.
        """
        idle = sum(since <= now for since in self._idle)
        slept = now > heappop(self._idle)
        if slept:
            now = self._interpreter.woken(now)
        cold_s = self._overhead.cold_s if slept and not self._flying else 0.0
        now = self._interpreter.compute(now, self._overhead.batch_s + cold_s)
        self._notice(now)
        waiting = (self._came - self._taken) * self._rows
        here = waiting + self._flying_rows
        if waiting < self._enough:  # waited in vain
            self._see_crowd(here)
        least_share = max(self._enough, self._schedule.least_share)
        share = max(least_share, math.ceil(here / self._workers))
        size = self._schedule.batch_size
        several = min(here // (self._workers + 1), math.ceil(waiting / idle)) // size
        full = min(several, self._schedule.batches) if self._rows <= size else 0
        room = max(min(size, share), full * size)
        count = max(1, min(waiting, room) // self._rows)
        self._interpreter.take(now, count)
        self._taken += count
        self._flying_rows += count * self._rows
        if count * self._together > 1:
            now = self._interpreter.go_on(now, count * self._join_s)
        is_load = count * self._rows > max(size, self._rows)
        run = self._run_in_turn if is_load else self._run
        end_s, calls = run(now, count * self._rows)
        heappush(self._flying, (end_s, len(self.counts), calls))
        self._share_processors()
        self.counts.append(count)
        self.starts_s.append(now)
        self.ends_s.append(math.nan)

    def _land(self) -> None:
        """Hand out the answers of the batch whose calls end first."""
        now, number, _ = heappop(self._flying)
        self._interpreter.let_in(now)
        self._share_processors()
        self._notice(max(self._now, now))
        count = self.counts[number]
        self._flying_rows -= count * self._rows
        self.calls_s += now - self.starts_s[number]
        # What calls took in a service ends when their thread has the lock again.
        answer = self._interpreter.hold if self._served else self._interpreter.compute
        self.ends_s[number] = answer(now, count * self._overhead.answer_s)
        heappush(self._idle, self.ends_s[number])

    def _share_processors(self) -> None:
        """Slow Python down by the calls in flight, and have it wait where they take them all."""
        calls = self._in_flight()
        self._interpreter.stretch = self._service.stretch(calls)
        taken = self._service.takes_all(calls)
        self._interpreter.ends_s = [end_s for end_s, _, _ in self._flying] if taken else ()

    def _in_flight(self) -> int:
        """How many calls are in flight; of a batch in parts there are several."""
        return sum(calls for _, _, calls in self._flying)

    def _run(self, now: float, rows: int) -> tuple[float, int]:
        """When the model's calls for a batch end, whole or in the parts that the predictor makes.

        And how many of them are in flight at once.

        Parts go to the predictor's own threads, as many as there are batches in flight. What fits
        into a batch is not parted beside others.
        """
        is_one = bool(self._flying) and rows <= self._service.recommendation.batch_size
        steps = ((rows, 1),) if is_one else self._steps(rows)
        if steps == ((rows, 1),):
            return now + self._call_s(self._in_flight() + 1, rows), 1
        end = now = now + self._service.hand_over_s
        for part, calls in steps:
            done = max(now, self._pool[0]) + self._call_s(self._workers, part, calls)
            heapreplace(self._pool, done)
            end = max(end, done)
        return end, min(self._workers, sum(calls for _, calls in steps))

    def _run_in_turn(self, now: float, rows: int) -> tuple[float, int]:
        """When the model's calls for several batches end, which one thread makes one by one."""
        flights = self._in_flight() + 1
        size = self._service.recommendation.batch_size
        parts = [size] * (rows // size) + [rows % size] * (rows % size > 0)
        return now + sum(self._call_s(flights, part) for part in parts), 1

    def _in_steps(self, rows: int) -> tuple[tuple[int, int], ...]:
        """The parts of a batch, equal ones in steps of several calls: `MOST_STEPS` a thread."""
        parts = self._service.parts(rows)
        together = max(1, len(parts) // (MOST_STEPS * self._workers))
        steps: list[tuple[int, int]] = []
        for part, alike in groupby(parts):
            whole, rest = divmod(len(list(alike)), together)
            steps += [(part, together)] * whole + [(part, rest)] * bool(rest)
        return tuple(steps)

    def _call_s(self, flights: int, rows: int, calls: int = 1) -> float:
        """Seconds of calls one after another: their sum has the mean and the variance of calls."""
        draw = self._draws[self._calls % len(self._draws)]
        self._calls += 1
        known = min(flights, self._workers)
        times = self._served[known - 1] if self._served else self._service.times(known)
        one_s = self._service.crowded(flights) * times.seconds(rows, draw)
        if calls > 1:
            mean_s = self._service.crowded(flights) * times.mean(rows)
            one_s = max(0.0, calls * mean_s + math.sqrt(calls) * (one_s - mean_s))
        if self._served:
            return one_s
        python_share = min(1.0, self._interpreter.busy_s / self._now) if self._now else 0.0
        return self._service.slower(flights, python_share) * one_s
