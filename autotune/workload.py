"""Rows that stand for production input: what they look like, and taking a batch of them.

A sample is an array, or a dict, list or tuple of arrays, whose first axis is the row. Batches
are made by taking distinct rows in turn, because a row that is repeated makes caches and
branch predictors look better than production ever will.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autotune.errors import InvalidSample
from autotune.foreign import read_array
from autotune.nesting import Array, Nested, describe, flatten, leaf_names, revive


class Table(dict[str, Array]):
    """Columns of a text or parquet file, by name: not yet arranged as a model's inputs."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One input of a model, or one array of a sample, without its rows.

    Attributes:
        name: Where it stands: the model's name for it, or the path in the sample ("" if alone).
        shape: Shape of one row; None for an axis of free length.
        dtype: NumPy's name of its dtype.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        axes = ", ".join("any" if n is None else str(n) for n in ("rows", *self.shape))
        return f"({axes}) {self.dtype}"


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Stands in for a sample: rows are drawn from the model's input spec.

    Attributes:
        rows: How many rows to draw.
        shapes: Shapes of one row by input name, where the model leaves an axis free.
    """

    rows: int = 1024
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


class Workload:
    """Rows that stand for production input.

    Args:
        sample: An array of shape `(rows, ...)`, or a dict, list or tuple of such arrays with
            the same number of rows. Anything NumPy can read as an array will do.

    Raises:
        InvalidSample: No rows, unequal numbers of rows, or a dtype that no model takes.

    Example:
        >>> workload = Workload({"a": np.arange(3), "b": np.zeros((3, 2))})
        >>> workload.rows
        3
        >>> workload.take(4)["a"]
        array([0, 1, 2, 0])
    """

    def __init__(self, sample: Nested) -> None:
        self.is_table = isinstance(sample, Table)
        if self.is_table:
            sample = dict(sample)  # for optree, a dict of another class is a leaf
        leaves, self._structure = flatten(sample)
        names = leaf_names(sample)
        self.arrays = [as_array(leaf, name) for leaf, name in zip(leaves, names, strict=True)]
        self.rows = count_rows(self.arrays, names)
        if self.rows == 0:
            raise InvalidSample("The sample has no rows; give at least one.")
        self.specs = [
            Spec(name, array.shape[1:], array.dtype.name)
            for name, array in zip(names, self.arrays, strict=True)
        ]

    def take(self, count: int, start: int = 0) -> Nested:
        """Return `count` rows from row `start` on, beginning again at row 0 after the last.

        No row comes twice while there are others, and rows that lie together are not copied.
        """
        start %= self.rows
        if start + count <= self.rows:
            return self._rebuild([array[start : start + count] for array in self.arrays])
        turn = np.arange(start, start + count) % self.rows
        return self._rebuild([array[turn] for array in self.arrays])

    def pick(self, indices: Sequence[int]) -> Nested:
        """Return the rows at `indices`, in that order."""
        return self._rebuild([array[np.asarray(indices)] for array in self.arrays])

    def _rebuild(self, arrays: list[Array]) -> Nested:
        return self._structure.unflatten(arrays)

    def at_most(self, limit_bytes: int) -> Workload:
        """Return the first rows, as many as `limit_bytes` hold; at least one."""
        row_bytes = max(1, sum(array.nbytes for array in self.arrays) // self.rows)
        count = max(1, min(self.rows, limit_bytes // row_bytes))
        part = self.take(count)
        return Workload(Table(part) if self.is_table else part)

    def save(self, folder: Path) -> None:
        """Write the rows to `folder`, for `open_saved` to map into memory."""
        for index, array in enumerate(self.arrays):
            plain = array.view(np.uint16) if array.dtype.name == "bfloat16" else array
            np.save(folder / f"{index}.npy", np.ascontiguousarray(plain), allow_pickle=False)
        layout = describe(self._rebuild([*range(len(self.arrays))]))
        dtypes = [array.dtype.name for array in self.arrays]
        header = {"table": self.is_table, "layout": layout, "dtypes": dtypes}
        (folder / "layout.json").write_text(json.dumps(header))

    @classmethod
    def open_saved(cls, folder: Path) -> Workload:
        """Open what `save` wrote, mapped into memory: only rows that are used are read."""

        def load(index: int) -> Array:
            mapped = np.load(folder / f"{index}.npy", mmap_mode="r", allow_pickle=False)
            array = np.asarray(mapped)  # a plain view: np.memmap slows every slice down
            if header["dtypes"][index] == "bfloat16":  # .npy has no name for it
                import ml_dtypes

                return array.view(ml_dtypes.bfloat16)
            return array

        header = json.loads((folder / "layout.json").read_text())
        sample = revive(header["layout"], load)
        return cls(Table(sample) if header["table"] else sample)


def as_array(leaf: Any, name: str) -> Array:
    """Read one array or tensor of a sample, and refuse what no model can take.

    Raises:
        InvalidSample: A scalar, Python objects, complex numbers, or a tensor that is not dense.
    """
    where = f"Input {name!r}" if name else "The sample"
    if isinstance(leaf, (bool, int, float, complex, str, bytes)) or leaf is None:
        raise InvalidSample(
            f"{where} is a Python {type(leaf).__name__}, not an array. Give rows as a NumPy array: "
            "np.asarray(rows)."
        )
    array = read_array(leaf, where)
    if array.dtype.kind == "T" or _holds_only(array, str):
        array = array.astype(np.str_)
    elif _holds_only(array, bytes):
        array = array.astype(np.bytes_)
    if array.dtype.kind in "OcmMV" and array.dtype.name != "bfloat16":
        raise InvalidSample(
            f"{where} has dtype {array.dtype.name}, which no model takes. "
            "Give real numbers, such as float32 (rows.astype('float32'))."
        )
    if array.ndim == 0:
        raise InvalidSample(f"{where} is a single number; expected an array of shape (rows, ...).")
    return array


def _holds_only(array: Array, kind: type) -> bool:
    return array.dtype.kind == "O" and all(isinstance(item, kind) for item in array.flat)


def count_rows(arrays: Sequence[Array], names: Sequence[str]) -> int:
    """Return how many rows all `arrays` have.

    Raises:
        InvalidSample: There is no array, or they disagree.
    """
    if not arrays:
        raise InvalidSample("The sample holds no array.")
    counts = [len(array) for array in arrays]
    if len(set(counts)) > 1:
        each = ", ".join(
            f"{name or '?'}={count}" for name, count in zip(names, counts, strict=True)
        )
        raise InvalidSample(f"Inputs disagree on the number of rows: {each}.")
    return counts[0]
