"""The threads that run waiting requests in batches, and when a batch starts."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable

from autotune.answers import Request, join, settle, share_out
from autotune.errors import BatcherClosed, DeadlineExceeded, Overloaded
from autotune.gauges import ROW_BOUNDS, WAIT_BOUNDS_S, Figures, Tally
from autotune.nesting import Nested
from autotune.queueing import Line, Queue
from autotune.schedule import Schedule

_log = logging.getLogger("autotune")


class Dispatcher:
    """Lets requests in, and runs them in batches on threads of its own.

    `MicroBatcher` says when a batch starts. The crowd is the most rows that were waiting and in
    flight at once since a wait was last in vain.

    One lock guards all of it; futures are settled outside, because their callbacks are not ours.

    Args:
        predict: Runs any number of rows.
        predict_in_turn: The same, in batches one after the other on the thread that calls it.
        workers: How many batches are in flight at once.
        schedule: When a batch starts.
    """

    def __init__(
        self,
        predict: Callable[[Nested], Nested],
        predict_in_turn: Callable[[Nested], Nested],
        workers: int,
        schedule: Schedule,
    ) -> None:
        self._predict = predict
        self._predict_in_turn = predict_in_turn
        self._workers = workers
        self._schedule = schedule
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._deadlines = threading.Condition(self._lock)
        self._queue = Queue()
        self._closed = False
        self._idle = 0
        self._flying_rows = 0
        self._crowd = 0
        self._enough = schedule.enough_rows if schedule.follows_crowd else schedule.batch_size
        self._everybody = 1.0 if schedule.follows_crowd else math.inf  # rows of all kinds
        self._process = os.getpid()
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._batch_rows, self._wait_s = Tally(ROW_BOUNDS), Tally(WAIT_BOUNDS_S)
        self._keeper: threading.Thread | None = None
        self._threads = [_start(self._serve, f"autotune-batcher-{n}") for n in range(workers)]

    def figures(self) -> Figures:
        """Tell what was done so far."""
        with self._lock:
            return Figures(
                queue_rows=self._queue.rows,
                flying_rows=self._flying_rows,
                batch_rows=self._batch_rows.snapshot(),
                wait_s=self._wait_s.snapshot(),
                **self._counts,
            )

    def check_process(self) -> None:
        """See that this is the process that the threads are in.

        Raises:
            BatcherClosed: It is a fork of that, in which a request would wait for ever.
        """
        if os.getpid() != self._process:
            raise BatcherClosed(
                "The batcher was made in another process, and its threads are not in this one: "
                "make one after the fork."
            )

    def admit(self, request: Request) -> None:
        """Put a request in the queue.

        Raises:
            Overloaded: The queue is full.
            BatcherClosed: It takes no more.
        """
        queue = self._queue
        with self._lock:
            if self._closed:
                raise BatcherClosed("The batcher is closed and takes no more requests.")
            if queue.rows and queue.rows + request.count > self._schedule.max_queue_rows:
                self._counts["shed"] += 1
                raise Overloaded(
                    f"The queue is full: {queue.rows} rows wait, {request.count} came, and "
                    f"max_queue_rows is {self._schedule.max_queue_rows}. Send less, or later."
                )
            if request.deadline < math.inf and self._keeper is None:
                self._keeper = _start(self._expire, "autotune-batcher-deadlines")
            in_line = queue.add(request)
            self._counts["requests"] += 1
            self._counts["rows"] += request.count
            if queue.rows + self._flying_rows > self._crowd:
                self._see_crowd()
            # Woken for the first to time its wait, and for the last: not for each.
            is_enough = in_line >= self._enough or queue.rows >= self._everybody
            if self._idle and (in_line == request.count or is_enough):
                self._work.notify()
            if request.deadline <= queue.next_deadline < math.inf:
                self._deadlines.notify()

    def withdraw(self, request: Request) -> bool:
        """Take a cancelled request out of the queue; tell whether it still waited there."""
        with self._lock:
            waited = self._queue.remove(request)
            self._counts["cancelled"] += waited
        if waited:
            request.leaves = ()
        return waited

    def close(self, drain: bool) -> None:
        """Take no more requests, answer those that wait or fail them, and end the threads."""
        with self._lock:
            self._closed = True
            left = [] if drain else list(self._queue)
            for request in left:
                self._queue.remove(request)
            self._counts["abandoned"] += len(left)
            self._work.notify_all()
        settle(
            left, [BatcherClosed("The batcher was closed before the request ran.") for _ in left]
        )
        threads = [*self._threads, *([self._keeper] if self._keeper else [])]
        if threading.current_thread() not in threads:  # where a callback closes: it has to go on
            for thread in threads:
                thread.join()

    def _see_crowd(self) -> None:
        self._crowd = self._queue.rows + self._flying_rows
        if self._schedule.follows_crowd:
            self._everybody = math.ceil(self._crowd / self._workers)

    def _serve(self) -> None:
        """Run batches until the batcher is closed; what one thread of it does."""
        batch: list[Request] = []
        while True:
            try:
                while self._take(batch):
                    self._run(batch)
                    batch.clear()
                return
            except BaseException as error:  # no error of a model, such as SystemExit
                _log.exception("A thread of the batcher was disturbed, and goes on.")
                left = [request for request in batch if request.leaves]
                batch.clear()
                self._finish(left, "failed", [error] * len(left))

    def _take(self, batch: list[Request]) -> bool:
        """Wait for requests that may start, and put them in `batch`; false at the end of all.

        What leaves the queue is in that list at once, so that whatever hits the thread then, no
        request is lost.
        """
        with self._lock:
            self._idle += 1
            try:
                while self._queue.rows or not self._closed:
                    now = time.monotonic()
                    before = math.inf if self._closed else now - self._schedule.max_wait_s
                    line = self._queue.ready(self._enough, self._everybody, before)
                    if line is None:
                        self._work.wait(_seconds_until(self._queue.oldest_arrival() - before))
                    else:
                        self._load(batch, line, now)
                        if batch:
                            return True
                self._deadlines.notify()
                return False
            finally:
                self._idle -= 1

    def _load(self, batch: list[Request], line: Line, now: float) -> None:
        """Take a batch out of a line, but leave the other workers their share of all rows.

        Or several: as many as leave each worker as many of those who are there, and as many again
        to wait; but no idle worker is left without his share of those who wait.
        """
        is_there = line.rows >= self._enough or self._queue.rows >= self._everybody
        if not is_there and not self._queue.is_released(line):  # waited in vain
            self._see_crowd()
        here = self._queue.rows + self._flying_rows
        least_share = max(min(self._enough, self._everybody), self._schedule.least_share)
        share = max(least_share, math.ceil(here / self._workers))
        size = self._schedule.batch_size
        of_waiting = math.ceil(self._queue.rows / self._idle)  # of which this worker is one
        full = min(min(here // (self._workers + 1), of_waiting) // size, self._schedule.batches)
        self._queue.take(batch, line, max(min(size, int(share)), full * size), size, now)
        rows = sum(request.count for request in batch)
        self._flying_rows += rows
        if batch:
            self._counts["batches"] += 1
            self._batch_rows.add(rows)
        for request in batch:
            self._wait_s.add(now - request.arrived)
        if self._queue.rows and self._idle > 1:
            self._work.notify()

    def _run(self, batch: list[Request]) -> None:
        """Answer a batch; where it fails, its halves, so that an error finds its cause.

        Of several batches that were taken at once, each is run again by itself.
        """
        several = _in_batches(batch, self._schedule.batch_size)
        predict = self._predict if len(several) == 1 else self._predict_in_turn
        try:
            outputs = share_out(predict(join(batch)), batch)
        except Exception as error:
            if len(batch) == 1:
                self._finish(batch, "failed", [error])
                return
        else:
            self._finish(batch, "answered", outputs)
            return
        middle = len(batch) // 2
        for part in several if len(several) > 1 else (batch[:middle], batch[middle:]):
            self._run(part)

    def _finish(
        self, batch: list[Request], what: str, outcomes: list[Nested | BaseException]
    ) -> None:
        with self._lock:
            self._flying_rows -= sum(request.count for request in batch)
            self._counts[what] += len(batch)
        settle(batch, outcomes)

    def _expire(self) -> None:
        """Fail requests whose time is over, also while all workers are busy; a thread's work."""
        while True:
            with self._lock:
                now = time.monotonic()
                late = self._queue.expire(now)
                self._counts["expired"] += len(late)
                if not late:
                    if self._closed and not self._queue.rows:
                        return
                    self._deadlines.wait(_seconds_until(self._queue.next_deadline - now))
            settle(late, map(_too_late, late))


_COUNTED = (
    "requests",
    "rows",
    "batches",
    "answered",
    "failed",
    "shed",
    "expired",
    "cancelled",
    "abandoned",
)


def _in_batches(requests: list[Request], size: int) -> list[list[Request]]:
    """Cut requests into batches of so many rows at most; one with more rows is one."""
    batches: list[list[Request]] = []
    room = 0
    for request in requests:
        if request.count > room or not batches:
            batches.append([])
            room = size
        batches[-1].append(request)
        room -= request.count
    return batches


def _start(work: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


def _seconds_until(seconds: float) -> float | None:
    """As the timeout of a condition: None for ever."""
    return None if seconds == math.inf else min(max(seconds, 0.0), threading.TIMEOUT_MAX)


def _too_late(request: Request) -> DeadlineExceeded:
    waited = request.deadline - request.arrived
    return DeadlineExceeded(f"The request was still in the queue after its {waited:.3g} s.")
