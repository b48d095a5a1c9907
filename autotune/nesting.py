"""Arrays in dicts, lists and tuples, to any depth: take apart, cut into batches, join again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import optree

from autotune.errors import InvalidSample

Nested = Any


"""An array, or a dict, list or tuple of such, to any depth."""


Array = np.ndarray[Any, np.dtype[Any]]

FEW_BYTES = 2**20  # outputs that may be held twice


def flatten(nested: Nested) -> tuple[list[Any], optree.PyTreeSpec]:
    """Return the arrays of a nesting in their order, and the nesting without them."""
    leaves, structure = optree.tree_flatten(nested, none_is_leaf=True)
    return list(leaves), structure


def leaves_of(nested: Nested) -> list[Array]:
    """Return the arrays of a nesting in their order."""
    return [nested] if isinstance(nested, np.ndarray) else flatten(nested)[0]


def head(nested: Nested, count: int, start: int = 0) -> Nested:
    """Return up to `count` rows of every array of a nesting, from row `start` on."""
    if isinstance(nested, np.ndarray):  # the usual case, without the cost of a nesting
        return nested[start : start + count]
    return optree.tree_map(lambda leaf: leaf[start : start + count], nested)


def copied(nested: Nested) -> Nested:
    """Return arrays of their own: a view keeps all of what it looks at."""
    return optree.tree_map(np.copy, nested)


def nbytes_of(nested: Nested) -> int:
    """Bytes of all arrays of a nesting."""
    return sum(leaf.nbytes for leaf in leaves_of(nested))


def cut(nested: Nested, rows: int, size: int) -> Iterator[Nested]:
    """Cut rows into batches of `size`, the last one shorter; nothing is copied."""
    if isinstance(nested, np.ndarray):  # the usual case, without the cost of a nesting
        for start in range(0, rows, size):
            yield nested[start : start + size]
    else:
        for start in range(0, rows, size):
            yield head(nested, size, start)


def leaf_names(nested: Nested) -> list[str]:
    """Return a name for each array of a nesting: its keys and positions, joined by "/"."""
    paths = optree.tree_paths(nested, none_is_leaf=True)
    return ["/".join(str(key) for key in path) for path in paths]


def describe(nested: Nested) -> Any:
    """Turn a nesting of dicts, lists and tuples into plain JSON; its leaves must be JSON too."""
    if isinstance(nested, dict):
        return {"dict": {str(key): describe(value) for key, value in nested.items()}}
    if isinstance(nested, (list, tuple)):
        kind = "tuple" if isinstance(nested, tuple) else "list"
        return {kind: [describe(value) for value in nested]}
    return {"leaf": nested}


def revive(layout: Any, load: Callable[[Any], Any]) -> Nested:
    """Make the nesting again that `describe` wrote, with `load` called on each leaf."""
    ((kind, value),) = layout.items()
    if kind == "dict":
        return {key: revive(item, load) for key, item in value.items()}
    if kind in ("list", "tuple"):
        items = [revive(item, load) for item in value]
        return tuple(items) if kind == "tuple" else items
    return load(value)


def join(parts: Iterable[Nested], rows: int, out: Nested = None) -> Nested:
    """Join the outputs of batches into arrays that are made once.

    Args:
        parts: The outputs of each batch, in order; at least one.
        rows: How many rows they have in all.
        out: Arrays of so many rows to write them to; made if None.

    Raises:
        InvalidSample: Rows of one batch have another shape than those of the next, or than
            those of `out`.
    """
    rest = iter(parts)
    first = next(rest)
    if out is not None:
        check_out(out, first, rows)
    if isinstance(first, np.ndarray):  # the usual case, without the cost of a nesting
        room, start = room_for(rows, first) if out is None else out, 0
        for part in itertools.chain((first,), rest):
            start = fill(room, start, part)
        return room
    leaves, structure = flatten(first)
    rooms, start = [room_for(rows, leaf) for leaf in leaves] if out is None else flatten(out)[0], 0
    for part in itertools.chain((first,), rest):
        ends = [fill(*each) for each in zip(rooms, itertools.repeat(start), flatten(part)[0])]
        start = ends[0]
    return structure.unflatten(rooms)


def are_few(outputs: Nested) -> bool:
    """Whether outputs may be held twice: in batches as they come, and joined at the end.

    To join all in one go costs least, but many bytes are to be copied to their place at once.
    """
    plain = isinstance(outputs, np.ndarray) and outputs.dtype.kind in "biufc"
    return plain and outputs.nbytes <= FEW_BYTES


def concatenate(parts: Sequence[Array], rows: int) -> Nested:
    """Join the outputs of batches that are all there; as `join`."""
    try:
        return np.concatenate(parts)
    except ValueError:  # rows of different shapes: `join` says so
        return join(parts, rows)


def check_out(out: Nested, outputs: Nested, rows: int) -> None:
    """See that arrays given for the outputs can hold them.

    Args:
        out: The arrays.
        outputs: The outputs of one batch.
        rows: How many rows there will be in all.

    Raises:
        InvalidSample: Another nesting, number of rows, shape or kind of dtype; or read-only.
    """
    (rooms, kind), (leaves, structure) = flatten(out), flatten(outputs)
    if kind != structure:
        raise InvalidSample(f"The outputs are nested as {structure}, but out as {kind}.")
    for name, room, leaf in zip(leaf_names(outputs), rooms, leaves, strict=True):
        wanted = (rows, *leaf.shape[1:])
        fits = isinstance(room, np.ndarray) and room.shape == wanted
        if not fits or not np.can_cast(leaf.dtype, room.dtype, "same_kind"):
            got = f"{room.dtype}{room.shape}" if isinstance(room, np.ndarray) else type(room)
            where = f"Output {name!r}" if name else "The output"
            raise InvalidSample(f"{where} is {leaf.dtype}{wanted}, but out is {got}.")
        if not room.flags.writeable:
            raise InvalidSample("out is read-only. Open a numpy.memmap with mode='r+' or 'w+'.")


def room_for(rows: int, leaf: Array) -> Array:
    """Return an empty array for so many rows like those of one batch's outputs."""
    # Text of a fixed width would cut longer text of a later batch.
    dtype = np.dtype(object) if leaf.dtype.kind in "SU" else leaf.dtype
    return np.empty((rows, *leaf.shape[1:]), dtype)


def fill(room: Array, start: int, part: Array) -> int:
    """Copy a batch to its place and return where the next one begins."""
    if part.shape[1:] != room.shape[1:]:  # NumPy would broadcast
        raise InvalidSample(
            "Outputs of different batches have rows of different shapes: "
            f"{room.shape[1:]} and {part.shape[1:]}. Pad the input rows to one length."
        )
    end = start + len(part)
    room[start:end] = part
    return end
