"""What callers hand to a predictor: whole inputs, and pieces of them that come one by one."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np

from autotune.dtypes import kind_of
from autotune.errors import InvalidSample
from autotune.foreign import is_frame, made_by, read_columns
from autotune.inputs import are_by_place, check_inputs
from autotune.nesting import Array, Nested, flatten, head, leaf_names
from autotune.tables import to_inputs
from autotune.workload import Spec, Table, as_array, count_rows


def to_arrays(x: Any, specs: Sequence[Spec]) -> tuple[Nested, int]:
    """Return rows as NumPy arrays, nested as the model takes them, and how many rows there are.

    Args:
        x: An array of shape `(rows, ...)` or a tensor of TensorFlow, JAX or PyTorch, on any
            device; a dict, list or tuple of these; a pandas DataFrame, a pyarrow Table or
            RecordBatch, or a `Table`, whose columns become the inputs as `to_inputs` arranges
            them. Nothing in the host's memory is copied, but for columns and text. A
            `numpy.memmap` is not read, unless it holds floats where the model wants integers:
            then they are searched for NaN.
        specs: The model's inputs; empty where it does not tell.

    Raises:
        InvalidSample: The rows do not fit the model: the message names the input, what came
            and what was expected.

    Example:
        >>> to_arrays({"x": np.zeros((3, 2), np.float32)}, [Spec("x", (2,), "float32")])[1]
        3
    """
    x = _arranged(x, specs)
    leaves, structure = flatten(x)
    names = leaf_names(x)
    labels = names
    if len(names) == len(specs) and (len(names) == 1 or are_by_place(names)):
        labels = [spec.name for spec in specs]
    wanted = {spec.name: spec for spec in specs}
    arrays = [
        _read(leaf, label, wanted.get(label)) for leaf, label in zip(leaves, labels, strict=True)
    ]
    rows = count_rows(arrays, labels)
    check_inputs(specs, names, arrays)
    return structure.unflatten(arrays), rows


def _arranged(x: Any, specs: Sequence[Spec]) -> Nested:
    """Turn tables into the model's inputs, and mappings of any class into dicts."""
    if isinstance(x, np.ndarray):
        return x
    if is_frame(x):
        x = Table(read_columns(x))
    if isinstance(x, Table):
        if not specs:
            raise InvalidSample("The model does not name its inputs. Give arrays, not a table.")
        return to_inputs(x, specs)
    return dict(x) if isinstance(x, Mapping) else x


def _read(leaf: Any, label: str, spec: Spec | None) -> Array:
    try:
        return as_array(leaf, label)
    except InvalidSample as error:
        if spec is None:
            raise
        raise InvalidSample(f"{error} The model wants {spec}.") from error


def is_source(x: Any) -> bool:
    """Tell whether `x` gives its rows piece by piece: an iterator, a dataset or a data loader.

    Example:
        >>> is_source(np.zeros(3)), is_source([np.zeros(3)]), is_source(iter([np.zeros(3)]))
        (False, False, True)
    """
    if isinstance(x, (np.ndarray, Mapping, list, tuple, Set)):
        return False
    if isinstance(x, Iterator) or made_by(x, "keras", "PyDataset"):
        return True
    # tf.data.Dataset, torch's DataLoader, Grain's datasets; arrays and tensors have an index.
    kind = type(x)
    return hasattr(kind, "__iter__") and not (
        hasattr(kind, "__getitem__") or hasattr(kind, "__array__")
    )


def pieces(source: Iterable[Any], *, endless: bool = False) -> Iterator[Any]:
    """Return the pieces of a source in order, each to be read by `to_arrays`; none is taken yet.

    A piece holds rows, not one row: the elements of a `tf.data.Dataset` are its batches. As in
    `model.predict`, a tuple is `(x,)`, `(x, y)` or `(x, y, weights)`, of which x is taken; from a
    `PyDataset` or a `DataLoader`, a list is the same. Inputs in a tuple stand in one more:
    `((a, b),)`.

    Args:
        source: An iterable of pieces.
        endless: Take a source that is known to have no end.

    Raises:
        InvalidSample: It has no end, or it is no source; here, not with the first piece.

    Example:
        >>> list(pieces([(np.zeros(2), np.ones(2)), np.zeros(1)]))
        [array([0., 0.]), array([0.])]
    """
    if isinstance(source, (Mapping, str, bytes)) or is_frame(source) or not _is_iterable(source):
        raise InvalidSample(
            f"Expected pieces of rows, one after the other, but got one {type(source).__name__}."
        )
    if not endless and _has_no_end(source):
        raise InvalidSample(
            f"This {type(source).__name__} has no end, so its answers would not either. "
            "Give a part of it, such as dataset.take(n), or stream it."
        )
    lists_too = made_by(source, "keras", "PyDataset") or made_by(source, "torch", "DataLoader")
    with_targets = (tuple, list) if lists_too else (tuple,)
    return map(functools.partial(_without_targets, with_targets=with_targets), source)


def _is_iterable(source: Any) -> bool:
    return isinstance(source, Iterable) or hasattr(type(source), "__getitem__")


def _has_no_end(source: Any) -> bool:
    if made_by(source, "keras", "PyDataset"):
        return source.num_batches is None
    # -1 is tf.data.INFINITE_CARDINALITY; a length that is not known is -2.
    return made_by(source, "tensorflow", "DatasetV2") and int(source.cardinality()) == -1


def _without_targets(piece: Any, with_targets: tuple[type[Sequence[Any]], ...]) -> Any:
    if not isinstance(piece, with_targets):
        return piece
    if not 1 <= len(piece) <= 3:
        raise InvalidSample(
            f"A piece is a {type(piece).__name__} of {len(piece)}; expected rows, or a tuple "
            "(x,), (x, y) or (x, y, weights)."
        )
    return piece[0]


def rebatch(parts: Iterable[Nested], batch_size: int) -> Iterator[Nested]:
    """Join and cut pieces into batches of one size; the last one is shorter.

    A batch that lies within a piece is a view of it; the rows of others are copied once. No more
    than one batch and one piece are held. Rows of another shape or dtype than those before
    cannot be joined to them: there, too, a batch is shorter. Where pieces come but no row, one
    of them is given back, so that its shape is known.

    Args:
        parts: Pieces of any number of rows, as `to_arrays` returns them, nested alike.
        batch_size: Rows of a batch.

    Example:
        >>> [len(batch) for batch in rebatch([np.zeros(3), np.zeros(0), np.zeros(4)], 2)]
        [2, 2, 2, 1]
    """
    begun: _Batch | None = None
    empty: Nested = None
    any_rows = False
    for part in parts:
        rows, start = _rows_of(part), 0
        if rows == 0:
            empty = part
            continue
        any_rows = True
        if begun and not begun.takes(part):
            yield begun.so_far()
            begun = None
        if begun:
            start = begun.fill(part)
            if begun.is_full:
                yield begun.so_far()
                begun = None
        while rows - start >= batch_size:
            yield head(part, batch_size, start)
            start += batch_size
        if start < rows:
            begun = _Batch(part, batch_size)
            begun.fill(head(part, batch_size, start))
        del part  # before the next one is made
    if begun:
        yield begun.so_far()
    elif empty is not None and not any_rows:
        yield empty


def _rows_of(nested: Nested) -> int:
    return len(nested if isinstance(nested, np.ndarray) else flatten(nested)[0][0])


class _Batch:
    """A batch that pieces fill, one after the other."""

    def __init__(self, like: Nested, size: int) -> None:
        leaves, self._structure = flatten(like)
        self._kinds = [_kind_of(leaf) for leaf in leaves]
        self._arrays = [np.empty((size, *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
        self._size = size
        self._filled = 0

    @property
    def is_full(self) -> bool:
        return self._filled == self._size

    def takes(self, part: Nested) -> bool:
        """Tell whether rows can stand in one array with those before."""
        leaves, structure = flatten(part)
        return structure == self._structure and [*map(_kind_of, leaves)] == self._kinds

    def fill(self, part: Nested) -> int:
        """Copy rows as far as there is room, and return how many."""
        leaves = flatten(part)[0]
        count = min(self._size - self._filled, len(leaves[0]))
        end = self._filled + count
        for index, leaf in enumerate(leaves):
            if leaf.dtype.itemsize > self._arrays[index].dtype.itemsize:  # longer text
                self._arrays[index] = self._arrays[index].astype(leaf.dtype)
            self._arrays[index][self._filled : end] = leaf[:count]
        self._filled = end
        return count

    def so_far(self) -> Nested:
        """Return the rows that have come."""
        return self._structure.unflatten([array[: self._filled] for array in self._arrays])


def _kind_of(array: Array) -> tuple[Any, ...]:
    return kind_of(array.dtype), array.shape[1:]
