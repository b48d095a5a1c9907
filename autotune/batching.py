"""Many small requests at once, run in batches of the tuned size."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Hashable
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Self

from autotune.answers import Answer, LoopAnswer, Rows, nest
from autotune.dispatching import Dispatcher
from autotune.errors import InvalidInput, InvalidSample
from autotune.gauges import Figures
from autotune.nesting import Nested
from autotune.scheduling import schedule_for

if TYPE_CHECKING:
    from autotune.predictor import TunedPredictor

_log = logging.getLogger("autotune")


class MicroBatcher:
    """Collects the requests of many callers into batches, and gives each caller his own outputs.

    As many batches are in flight as the record recommends, each on a thread of its own. A batch
    starts when a thread is free and

    * it is full, or
    * its oldest request has waited `max_wait_s`, or
    * with the default `max_wait_s`: its rows make it at least 0.9 times as fast as a full one, or
      everybody is there: as many rows of all kinds wait as the share of a thread was when most
      were waiting or in flight. A lone caller never waits for company, and sixty-four who come
      back together are served together. The peak is forgotten when a wait was in vain.

    Batches that take a few milliseconds are taken several at once from a crowd, and run one after
    the other before any of their answers is handed out: each time that callers are woken, they
    take processors from the calls of the other threads.

    Only rows of the same nesting, dtypes and shapes share a batch. A request with more rows than a
    batch runs alone. A batch that fails is run again in halves, so that of the callers of a
    batch only those see an error whose rows cause it, at the cost of some 2 log2(requests) calls;
    where the model fails whatever the rows, they are twice as many calls as there were requests.

    Args:
        predictor: Runs the batches.
        max_wait_s: Longest that a request waits for company while a thread is free, in seconds;
            None chooses by the measured latency curve and the latency budget of the record.
        max_queue_rows: Rows that may wait; more are turned away. None takes a second of work.
        max_batch_size: Most rows in a batch of several requests, if that is less than would be
            chosen; None chooses as for the wait.

    Raises:
        InvalidInput: An argument is out of range.
        AutotuneError: The predictor cannot be opened.

    Example:
        One for threads and one for an event loop, and what to do when it is too much, stand in
        docs/serving.md; the tests run them.
    """

    def __init__(
        self,
        predictor: TunedPredictor,
        *,
        max_wait_s: float | None = None,
        max_queue_rows: int | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        if max_wait_s is not None and not 0 <= max_wait_s < math.inf:
            raise InvalidInput(f"max_wait_s must be 0 or more seconds, but got {max_wait_s!r}.")
        limits = {"max_queue_rows": max_queue_rows, "max_batch_size": max_batch_size}
        for name, rows in limits.items():
            if rows is not None and rows < 1:
                raise InvalidInput(f"{name} must be at least 1, but got {rows!r}.")
        self._predictor = predictor
        predictor.open()  # where it cannot run as recommended, it goes by another recommendation
        self._schedule = schedule_for(
            predictor.recommendation, predictor.record, max_wait_s, max_queue_rows, max_batch_size
        )
        self._dispatcher = Dispatcher(
            predictor.predict,
            predictor.predict_in_turn,
            predictor.recommendation.concurrency,
            self._schedule,
        )
        self._known: set[Hashable] = set()
        self._learning = threading.Lock()

    def __repr__(self) -> str:
        return f"MicroBatcher({self._predictor!r}, max_wait_s={self.max_wait_s:.3g})"

    @property
    def max_wait_s(self) -> float:
        """Longest that a request waits for company while a thread is free, in seconds."""
        return self._schedule.max_wait_s

    @property
    def max_queue_rows(self) -> int:
        """Rows that may wait."""
        return self._schedule.max_queue_rows

    @property
    def batch_size(self) -> int:
        """Most rows in a batch of several requests: the tuned size, or less for the budget."""
        return self._schedule.batch_size

    @property
    def figures(self) -> Figures:
        """What was done so far."""
        return self._dispatcher.figures()

    def prometheus(self) -> str:
        """Return the figures in Prometheus's text format, version 0.0.4."""
        return self.figures.prometheus()

    def submit(self, rows: Nested, *, timeout_s: float | None = None) -> Future[Nested]:
        """Put rows in the queue; never blocks, but for the first rows of a new kind.

        Those are compared with the model, for which the predictor may have to trace it.

        Args:
            rows: An array of shape `(rows, ...)`, or nested arrays as the model takes them, with
                one row or more. They are not copied: leave them as they are until the answer.
            timeout_s: Longest that they may wait in the queue, in seconds; None for any time.

        Returns:
            A future of the outputs of just these rows, nested as `predict` gives them. It fails
            with `DeadlineExceeded` if the time is over first, with `BatcherClosed` if the batcher
            is closed without draining, and with the model's error. It can be cancelled until it is
            taken for a batch. Its callbacks run on a thread of the batcher: keep them short.

        Raises:
            InvalidSample: The rows have another nesting, dtype or shape than the model takes; what
                is wrong with their values comes with the future.
            Overloaded: The queue is full.
            BatcherClosed: The batcher is closed, or was made before this process was forked.
        """
        _check_timeout(timeout_s)
        self._dispatcher.check_process()
        parcel = Rows(rows)
        if parcel.kind not in self._known:
            self._learn(parcel)
        answer = Answer(parcel, time.monotonic(), timeout_s, self._dispatcher.withdraw)
        self._dispatcher.admit(answer)
        return answer

    async def abatch(self, rows: Nested, *, timeout_s: float | None = None) -> Nested:
        """Return the outputs of rows, from an event loop; as `submit`, with the same errors.

        A task that is cancelled while it waits takes its rows out of the queue.
        """
        _check_timeout(timeout_s)
        self._dispatcher.check_process()
        parcel = Rows(rows)
        if parcel.kind not in self._known:
            await asyncio.to_thread(self._learn, parcel)
        answer = LoopAnswer(parcel, time.monotonic(), timeout_s)
        self._dispatcher.admit(answer)
        try:
            return await answer.future
        except asyncio.CancelledError:
            self._dispatcher.withdraw(answer)
            raise

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests, answer those that wait, and end the threads; may be repeated.

        A callback of a future may close the batcher too; it does not wait for the end.

        Args:
            drain: Whether those that wait are answered; if not, they fail with `BatcherClosed`.
                Those in flight are answered in any case.
        """
        self._dispatcher.close(drain)

    async def aclose(self, *, drain: bool = True) -> None:
        """Close, without holding up the event loop meanwhile."""
        await asyncio.to_thread(self.close, drain=drain)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _learn(self, rows: Rows) -> None:
        """Let the predictor refuse rows of a kind that never came before, with none of them run."""
        with self._learning:
            if rows.kind not in self._known:
                try:
                    self._predictor.predict(nest(rows.kind, [leaf[:0] for leaf in rows.leaves]))
                except InvalidSample:
                    self._predictor.predict(nest(rows.kind, rows.leaves))  # which tells more
                    raise
                except Exception as error:  # for no rows a row of zeros is run: it may not be valid
                    _log.debug("The model does not run a row of zeros: %s", error)
                self._known.add(rows.kind)


def _check_timeout(timeout_s: float | None) -> None:
    if timeout_s is not None and not timeout_s < math.inf:
        raise InvalidInput(f"timeout_s must be a number of seconds, but got {timeout_s!r}.")
