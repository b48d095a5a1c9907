"""Several batches in flight, on threads of their own: in any order, or with results in order."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

TURN_S = 0.02  # after so long a thread serves whoever waits for it, if anybody does


def spread(
    pool: Executor, call: Callable[[_In], object], batches: Iterable[_In], concurrency: int
) -> None:
    """Call a function on each batch, several at once, and return when all calls have ended.

    Each thread takes its next batch itself: nobody waits for the caller, who sleeps.

    Args:
        pool: Runs the calls, on `concurrency` threads; it may serve others at the same time.
        call: What to call.
        batches: What to call it on; the next is taken by one thread at a time.
        concurrency: How many calls run at once.

    Raises:
        BaseException: What the first call raised that failed; none is begun after it.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> found = []
        >>> with ThreadPoolExecutor(2) as pool:
        ...     spread(pool, found.append, [3, 1, 2], 2)
        >>> sorted(found)
        [1, 2, 3]
    """
    _Spread(pool, call, batches, concurrency).run()


class _Spread(Generic[_In]):
    def __init__(
        self,
        pool: Executor,
        call: Callable[[_In], object],
        batches: Iterable[_In],
        concurrency: int,
    ) -> None:
        self._pool = pool
        self._call = call
        self._batches = iter(batches)
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def run(self) -> None:
        ends: list[threading.Event] = []
        try:
            for _ in range(self._concurrency):
                end = threading.Event()
                self._pool.submit(self._fly, end)
                ends.append(end)
            for end in ends:
                end.wait()
        finally:  # after Ctrl-C, or where the pool is closed, the calls that run must end
            self._batches = iter(())
            for end in ends:
                end.wait()
        if self._error is not None:
            raise self._error

    def _fly(self, end: threading.Event) -> None:
        """Call on one batch after the other, for a turn; the rest in the next turn."""
        until = time.monotonic() + TURN_S
        try:
            while time.monotonic() < until:
                with self._lock:
                    taken = list(itertools.islice(self._batches, 1))
                if not taken:
                    break
                self._call(taken[0])
            else:
                self._pool.submit(self._fly, end)
                return
        except BaseException as error:
            with self._lock:
                self._batches = iter(())
                self._error = self._error or error
        end.set()


def fly(
    pool: Executor, call: Callable[[_In], _Out], batches: Iterable[_In], concurrency: int
) -> Iterator[_Out]:
    """Call a function on each batch, several at once, and give the results in order.

    One batch more than there are in flight waits its turn, so that no thread waits for the
    caller; no more than that are taken from `batches` ahead of the results.

    Args:
        pool: Runs the calls, on `concurrency` threads.
        call: What to call.
        batches: What to call it on.
        concurrency: How many calls run at once.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as pool:
        ...     list(fly(pool, abs, [-3, -1, 2], 2))
        [3, 1, 2]
    """
    flying: deque[Future[_Out]] = deque()
    try:
        for batch in batches:
            flying.append(pool.submit(call, batch))
            if len(flying) > concurrency:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
    finally:
        for future in flying:  # after an error, or a caller who wants no more
            future.cancel()
