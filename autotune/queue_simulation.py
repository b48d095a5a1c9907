"""A `MicroBatcher` without rows or threads: when its batches start and end.

It decides as `dispatching.Dispatcher` and `queueing.Queue` do, with the same names for the same
things: change them together.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from heapq import heapreplace

from autotune.scheduling import Schedule
from autotune.service import Service


class Batcher:
    """Runs requests that come at given times in batches.

    Args:
        arrivals_s: When each came, rising.
        rows: Rows of each.
        schedule: When a batch starts.
        service: How long it takes.
        slower: How many times as long a call takes.
        request_s: What each request adds to that.
        batch_s: What each batch adds.
        wake_s: What is added where the thread slept before.
        draws: Which quantile of the call's time each call takes, in turn.

    Attributes:
        counts: Requests in each batch.
        starts_s: When each started.
        ends_s: When its requests had their answers.
    """

    def __init__(
        self,
        arrivals_s: Sequence[float],
        rows: int,
        schedule: Schedule,
        service: Service,
        slower: float,
        request_s: float,
        batch_s: float,
        wake_s: float,
        draws: Sequence[int],
    ) -> None:
        self._arrivals, self._rows = arrivals_s, rows
        self._schedule, self._service = schedule, service
        self._request_s, self._batch_s, self._wake_s = request_s, batch_s, wake_s
        self._draws, self._slower = draws, slower
        self._workers = service.flights
        self._came = self._taken = self._calls = self._crowd = 0
        self._enough = 1
        self._full = math.ceil(schedule.batch_size / rows)  # requests
        # When each worker is or was free, and the rows that it had; the first free comes first.
        self._flying = [(0.0, 0)] * self._workers
        self._pool = [0.0] * self._workers  # when each of the predictor's threads is free
        self.counts: list[int] = []
        self.starts_s: list[float] = []
        self.ends_s: list[float] = []

    def run(self) -> None:
        """Answer all requests."""
        now = 0.0
        while self._taken < len(self._arrivals):
            free = self._flying[0][0]
            now = self._next_start(max(now, free))
            if now > free:
                now += self._wake_s
            self._let_in(now)
            self._load(now)

    def _next_start(self, free: float) -> float:
        """When the next batch starts, with a worker who is free from then on."""
        arrivals, taken = self._arrivals, self._taken
        oldest_done = arrivals[taken] + self._schedule.max_wait_s
        if self._schedule.follows_crowd:
            return self._wait_for_company(free, oldest_done)
        last = taken + self._full - 1
        filled = arrivals[last] if last < len(arrivals) else math.inf
        return max(free, min(oldest_done, filled))

    def _wait_for_company(self, free: float, oldest_done: float) -> float:
        """The same, where what is enough grows with who comes."""
        arrivals, now = self._arrivals, free
        self._let_in(now)
        while (self._came - self._taken) * self._rows < self._enough and now < oldest_done:
            if self._came == len(arrivals) or arrivals[self._came] > oldest_done:
                return oldest_done
            now = max(now, arrivals[self._came])
            self._admit()
        return now

    def _let_in(self, now: float) -> None:
        """Let in who has come by now."""
        if not self._schedule.follows_crowd:
            self._came = bisect_right(self._arrivals, now, self._came)
            return
        while self._came < len(self._arrivals) and self._arrivals[self._came] <= now:
            self._admit()

    def _admit(self) -> None:
        now = self._arrivals[self._came]
        self._came += 1
        waiting = (self._came - self._taken) * self._rows
        here = waiting + self._flying_rows(now)
        if here > self._crowd:
            self._see_crowd(here)

    def _see_crowd(self, here: int) -> None:
        self._crowd = here
        self._enough = min(self._schedule.enough_rows, math.ceil(here / self._workers))

    def _flying_rows(self, now: float) -> int:
        here = 0
        for end, rows in self._flying:  # a generator would take twice as long, a million times
            if end > now:
                here += rows
        return here

    def _load(self, now: float) -> None:
        """Take a batch out of the line, but leave the other workers their share, and run it."""
        waiting = self._came - self._taken
        room = self._schedule.batch_size
        if self._schedule.follows_crowd:  # else a worker's share is a full batch at least
            here = waiting * self._rows + self._flying_rows(now)
            if waiting * self._rows < self._enough:  # waited in vain
                self._see_crowd(here)
            room = min(room, max(self._enough, math.ceil(here / self._workers)))
        count = max(1, min(waiting, room // self._rows))
        rows = count * self._rows
        end = self._run(now, rows) + count * self._request_s + self._batch_s
        heapreplace(self._flying, (end, rows))
        self._taken += count
        self.counts.append(count)
        self.starts_s.append(now)
        self.ends_s.append(end)

    def _run(self, now: float, rows: int) -> float:
        """When the model's calls for a batch end, whole or in the parts that the predictor makes.

        Parts go to the predictor's own threads, as many as there are batches in flight.
        """
        parts = self._service.parts(rows)
        if len(parts) == 1:
            flights = 1
            for end, _ in self._flying:
                flights += end > now
            return now + self._call_s(flights, rows)
        end = now
        for part in parts:
            done = max(now, self._pool[0]) + self._call_s(self._workers, part)
            heapreplace(self._pool, done)
            end = max(end, done)
        return end

    def _call_s(self, flights: int, rows: int) -> float:
        draw = self._draws[self._calls % len(self._draws)]
        self._calls += 1
        return self._slower * self._service.times(flights).seconds(rows, draw)
