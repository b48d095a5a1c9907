"""Gathering: the outputs of batches, in order, into arrays that are made once or were given."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from autotune import mapped
from autotune.errors import InvalidSample
from autotune.nesting import Nested, check_out, fill, flatten, join, leaves_of, room_for


class Done(NamedTuple):
    """A batch that was run.

    Attributes:
        outputs: Its outputs.
        rows: How many rows they are; 0 only where the whole input has none.
        of: Rows of the whole input that it is of.
    """

    outputs: Nested
    rows: int
    of: int


class Places:
    """The outputs of one input's batches, each put to its place, in any order.

    Args:
        rows: How many rows there will be in all.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._lock = threading.Lock()
        self._whole: Nested = None

    def put(self, start: int, outputs: Nested) -> None:
        """Copy a batch's outputs to where its rows begin; several threads may at once.

        Raises:
            InvalidSample: Its rows have another shape than those of another batch.
        """
        leaves, structure = flatten(outputs)
        with self._lock:
            if self._whole is None:
                self._whole = structure.unflatten([room_for(self._rows, leaf) for leaf in leaves])
        for room, leaf in zip(flatten(self._whole)[0], leaves, strict=True):
            fill(room, start, leaf)

    def whole(self) -> Nested:
        """Return the outputs; all must have been put."""
        return self._whole


def check_rows(out: Nested, rows: int) -> None:
    """See before anything runs that arrays for the outputs have as many rows as the input."""
    for room in [] if out is None else leaves_of(out):
        found = np.shape(room)[:1]
        if found != (rows,):
            raise InvalidSample(f"The input has {rows} rows, but out has shape {np.shape(room)}.")


def collect(done: Iterable[Done], rows: int, out: Nested = None) -> Nested:
    """Join the outputs of the batches of one input."""
    of_it = _up_to(done, rows)
    first = next(of_it)
    if first.rows == rows and out is None:
        return first.outputs
    outputs = (one.outputs for one in itertools.chain((first,), of_it))
    if out is None:
        return join(outputs, rows)
    join(_releasing(outputs, out), rows, out)
    return out


def collect_all(done: Iterator[Done], out: Nested) -> tuple[Nested, int]:
    """Join the outputs of all batches, and count their rows."""
    first = next(done, None)
    if first is None:
        raise InvalidSample("The source gave nothing, so the shape of its answer is not known.")
    every = itertools.chain((first,), done)
    if out is not None:
        room = next((len(leaf) for leaf in leaves_of(out) if np.ndim(leaf)), 0)
        check_out(out, first.outputs, room)
        return out, _fill_all(every, out, room)
    found = list(every)
    rows = sum(one.rows for one in found)
    return join((one.outputs for one in found), rows), rows


def _fill_all(done: Iterable[Done], out: Nested, room: int) -> int:
    rows = 0

    def outputs() -> Iterator[Nested]:
        nonlocal rows
        for one in done:
            rows += one.rows
            if rows > room:
                raise InvalidSample(f"The source gave more rows than the {room} of out.")
            yield one.outputs

    join(_releasing(outputs(), out), room, out)
    if rows < room:
        raise InvalidSample(f"The source gave {rows} rows, fewer than the {room} of out.")
    return rows


def _up_to(done: Iterable[Done], rows: int) -> Iterator[Done]:
    """Pass on batches until they are so many rows; take no more than these."""
    for one in done:
        yield one
        rows -= one.rows
        if rows == 0:
            return


def _releasing(outputs: Iterable[Nested], out: Nested) -> Iterator[Nested]:
    """Pass on outputs, and once they are written to mapped files, give that memory back."""
    start = 0
    for part in outputs:
        yield part
        stop = start + len(leaves_of(part)[0])
        for room in leaves_of(out):
            mapped.release(room[start:stop])
        start = stop
