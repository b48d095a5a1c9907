"""Several batches in flight: the one way in which they are measured and in which they are run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


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
