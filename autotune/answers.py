"""One request to a batcher: its rows, and how its caller gets the answer."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from autotune.dtypes import kind_of
from autotune.errors import InvalidModel, InvalidSample
from autotune.futures import LightFuture
from autotune.joining import copy_of, joined
from autotune.nesting import Array, Nested, flatten, leaf_names
from autotune.workload import as_array, count_rows

_log = logging.getLogger("autotune")


class Rows:
    """The rows of one request, taken apart.

    Attributes:
        leaves: Arrays of shape `(rows, ...)`.
        count: How many rows; at least 1.
        kind: Nesting, dtypes and shapes of one row: rows of one kind can share a batch.

    Raises:
        InvalidSample: They are no arrays, disagree on the number of rows, or have none.
    """

    __slots__ = ("count", "kind", "leaves")

    def __init__(self, rows: Nested) -> None:
        self.kind: tuple[Any, ...]
        if type(rows) is np.ndarray and rows.ndim and rows.dtype.kind in "fiub":
            self.leaves, self.count = [rows], len(rows)  # the usual case, without its nesting
            self.kind = (None, rows.dtype, rows.shape[1:])
        else:
            leaves, structure = flatten(rows)
            names = leaf_names(rows)
            self.leaves = [as_array(leaf, name) for leaf, name in zip(leaves, names, strict=True)]
            self.count = count_rows(self.leaves, names)
            alone = None if structure.is_leaf() else structure
            self.kind = (alone, *((kind_of(a.dtype), a.shape[1:]) for a in self.leaves))
        if self.count == 0:
            raise InvalidSample("The request has no rows; give at least one.")


class Request:
    """Rows of one caller, and where their outputs go.

    Attributes:
        leaves: The rows, as arrays; none once the request is settled, so that an answer that is
            kept does not keep them.
        count: How many rows they are.
        kind: What a row looks like.
        arrived: When the request came, in seconds of `time.monotonic`.
        deadline: When it must have left the queue; infinite where its caller has time.
        waiting: Whether it waits in the queue: neither taken, nor cancelled, nor too late. Only
            who holds the queue's lock changes it, so that just one of the three comes true.
    """

    def __init__(self, rows: Rows, arrived: float, timeout_s: float | None) -> None:
        self.leaves: Sequence[Array] = rows.leaves
        self.count = rows.count
        self.kind = rows.kind
        self.arrived = arrived
        self.deadline = math.inf if timeout_s is None else arrived + timeout_s
        self.waiting = False


class Answer(Request, LightFuture[Nested]):
    """The future of a request from a thread.

    Args:
        rows: The rows.
        arrived: When they came.
        timeout_s: How long they may wait.
        withdraw: Takes a request out of the queue; tells whether it still waited there.
    """

    def __init__(
        self,
        rows: Rows,
        arrived: float,
        timeout_s: float | None,
        withdraw: Callable[[Request], bool],
    ) -> None:
        LightFuture.__init__(self)
        Request.__init__(self, rows, arrived, timeout_s)
        self._withdraw = withdraw

    def cancel(self) -> bool:
        """Cancel the request if it still waits; its place in the queue is free at once."""
        if not self._withdraw(self):
            return self.cancelled()
        super().cancel()
        return self.set_running_or_notify_cancel() or self.cancelled()

    def running(self) -> bool:
        """Tell whether it is in a batch that is in flight."""
        return not self.waiting and not self.done()


class LoopAnswer(Request):
    """A request from an event loop: all of a batch are settled with one call into their loop."""

    def __init__(self, rows: Rows, arrived: float, timeout_s: float | None) -> None:
        super().__init__(rows, arrived, timeout_s)
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Nested] = self.loop.create_future()


def nest(kind: tuple[Any, ...], leaves: list[Array]) -> Nested:
    """Put arrays into the nesting of a kind of rows."""
    return leaves[0] if kind[0] is None else kind[0].unflatten(leaves)


def join(batch: Sequence[Rows | Request]) -> Nested:
    """Join the rows of requests of one kind, in their order."""
    parts = zip(*(request.leaves for request in batch), strict=True)
    leaves = [part[0] if len(part) == 1 else joined(part) for part in parts]
    return nest(batch[0].kind, leaves)


def share_out(outputs: Nested, batch: Sequence[Rows | Request]) -> list[Nested]:
    """Cut a batch's outputs into those of each request.

    They are copied: a caller who keeps one row must neither keep the batch nor reach the others'.
    """
    ends = list(accumulate(request.count for request in batch))
    spans = list(pairwise([0, *ends]))
    if isinstance(outputs, np.ndarray):  # the usual case, without the cost of a nesting
        leaves, structure = [outputs], None
    else:
        leaves, structure = flatten(outputs)
    if any(len(leaf) != ends[-1] for leaf in leaves):
        raise InvalidModel(f"{ends[-1]} rows went in, but not as many came out.")
    parts = [[copy_of(leaf[start:end]) for start, end in spans] for leaf in leaves]
    if structure is None:
        return parts[0]
    return [structure.unflatten(part) for part in zip(*parts, strict=True)]


def settle(requests: Iterable[Request], outcomes: Iterable[Nested | BaseException]) -> None:
    """Give each request its outputs, or the error that stands in their place."""
    of_loops: dict[asyncio.AbstractEventLoop, list[tuple[LoopAnswer, Any]]] = {}
    for request, outcome in zip(requests, outcomes, strict=True):
        if isinstance(request, Answer):
            _settle_answer(request, outcome)
        elif isinstance(request, LoopAnswer):
            of_loops.setdefault(request.loop, []).append((request, outcome))
    for loop, pairs in of_loops.items():
        with suppress(RuntimeError):  # a loop that was closed: nobody waits there any more
            loop.call_soon_threadsafe(_settle_in_loop, pairs)
        for request, _ in pairs:
            request.leaves = ()


def _settle_answer(answer: Answer, outcome: Nested | BaseException) -> None:
    try:
        if isinstance(outcome, BaseException):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
    except BaseException:  # from a callback of the caller's, and no other request's business
        if not answer.done():
            raise
        _log.exception("A callback of a request's future failed.")
    answer.leaves = ()


def _settle_in_loop(pairs: Iterable[tuple[LoopAnswer, Any]]) -> None:
    for answer, outcome in pairs:
        future = answer.future
        if future.done():  # cancelled while it was in flight
            continue
        if isinstance(outcome, StopIteration):  # which asyncio refuses
            outcome = RuntimeError(f"The model raised {outcome!r}.")
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
