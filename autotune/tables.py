"""Tables: columns by name, arranged as the inputs of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autotune.dtypes import named
from autotune.errors import InvalidSample
from autotune.nesting import Array, Nested
from autotune.workload import Spec, Table

EXACT = 2**53  # below it each whole number is a float64 of its own


def to_inputs(table: Table, inputs: Sequence[Spec]) -> Nested:
    """Arrange the columns of a table as the inputs of a model.

    Columns that bear the inputs' names become these inputs. Otherwise a model with one input
    takes all columns, in their order, as the values of a row.

    Raises:
        InvalidSample: Neither fits; the message says what the model wants.
    """
    if all(spec.name in table for spec in inputs):
        arranged = {spec.name: _fit(_values(table, spec.name), spec) for spec in inputs}
        return arranged if len(inputs) > 1 else next(iter(arranged.values()))
    if len(inputs) > 1:
        missing = ", ".join(repr(spec.name) for spec in inputs if spec.name not in table)
        raise InvalidSample(f"No column for input {missing} (columns: {_listed(table)}).")
    columns = [_values(table, name) for name in table]
    # One column is not copied: its cells may be images.
    return _fit(columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1), inputs[0])


def _values(table: Table, name: str) -> Array:
    """Return a column with the values of each cell in a row."""
    column = table[name]
    if column.dtype.kind in "cmM":
        raise InvalidSample(f"Column {name!r} has dtype {column.dtype}, which no model takes.")
    return column.reshape(len(column), int(np.prod(column.shape[1:], dtype=int)))


def _fit(values: Array, spec: Spec) -> Array:
    if not len(values):  # lists in the cells have no length where there is no cell
        dtype = np.str_ if spec.dtype == "string" else named(spec.dtype)
        return np.empty((0, *(1 if axis is None else axis for axis in spec.shape)), dtype)
    free = sum(axis is None for axis in spec.shape)
    fixed = int(np.prod([axis for axis in spec.shape if axis is not None], dtype=int))
    shape = [values.shape[1] // fixed if axis is None else axis for axis in spec.shape]
    fits = values.shape[1] % fixed == 0 if free == 1 else values.shape[1] == fixed
    if not fits or free > 1:
        raise InvalidSample(
            f"The table gives {values.shape[1]} values a row, "
            f"but the model's input {spec.name!r} is {spec}."
        )
    return _cast(values, spec).reshape(len(values), *shape)


def _cast(values: Array, spec: Spec) -> Array:
    if spec.dtype == "string":
        if values.dtype.kind == "O" and not all(isinstance(v, (str, bytes)) for v in values.flat):
            raise InvalidSample(
                f"The table has cells without text, but input {spec.name!r} is {spec}."
            )
        return _as_text(values, spec)
    dtype = named(spec.dtype)
    if values.dtype.name == "bfloat16":  # of which NumPy does not know that it holds numbers
        values = values.astype(np.float32)
    try:
        values = values.astype(float) if values.dtype.kind in "OSU" else values
    except (TypeError, ValueError) as error:
        raise InvalidSample(f"The table has text, but input {spec.name!r} is {spec}.") from error
    if dtype.kind in "iub" and values.dtype.kind == "f":
        if not np.all(np.isfinite(values)):
            raise InvalidSample(
                f"The table has empty or NaN cells, but input {spec.name!r} is {spec}."
            )
        # From there on it may be another number than the one that was written.
        if np.abs(values).max(initial=0).item() >= EXACT:
            raise InvalidSample(
                f"The table has numbers of 2**53 or more, which are not read exactly, but input "
                f"{spec.name!r} is {spec}. Give them as integers: in .npy, .npz or .parquet."
            )
    if dtype.kind in "iu" and not np.can_cast(values.dtype, dtype):
        _check_range(values, np.iinfo(dtype), spec)
    return values.astype(dtype, copy=False)


def _check_range(values: Array, limits: np.iinfo[np.integer[Any]], spec: Spec) -> None:
    """Refuse numbers that an integer of the input cannot hold: it would hold others."""
    if not values.size:
        return
    low, high = values.min().item(), values.max().item()  # Python compares them exactly
    if low < limits.min or high > limits.max:
        raise InvalidSample(
            f"The table has numbers from {low} to {high}, but input {spec.name!r} is {spec}: "
            f"that holds {limits.min} to {limits.max}."
        )


def _as_text(values: Array, spec: Spec) -> Array:
    if values.dtype.kind != "O":
        return values.astype(np.str_)
    try:
        texts = [v.decode() if isinstance(v, bytes) else v for v in values.flat]
    except UnicodeDecodeError as error:
        raise InvalidSample(
            f"The table has bytes that are no UTF-8, but input {spec.name!r} is {spec}."
        ) from error
    return np.array(texts, np.str_).reshape(values.shape)


def _listed(table: Table) -> str:
    names = [repr(name) for name in list(table)[:10]]
    return ", ".join(names) + (", ..." if len(table) > 10 else "")
