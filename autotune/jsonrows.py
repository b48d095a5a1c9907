"""Rows that come as JSON, and outputs that go as JSON: what a service does at its door."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from autotune.errors import InvalidSample
from autotune.inputs import are_by_place, check_inputs
from autotune.nesting import Array, Nested, flatten
from autotune.records import Input, TuningRecord
from autotune.workload import Spec

_EXPECTED = 'Expected {"rows": [row, ...]}, or {"rows": {input: [row, ...], ...}}.'


def decode(body: bytes, record: TuningRecord) -> Nested:
    """Read a request.

    Args:
        body: `{"rows": [row, ...]}`; where the model has several inputs, `{"rows": {name: [row,
            ...], ...}}`.
        record: The tuning run of the model that the rows are for.

    Returns:
        Arrays of shape `(rows, ...)`, nested as `predict` takes them.

    Raises:
        InvalidSample: It is no such JSON, or the rows do not fit the model.
    """
    try:
        asked = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSample(f"The request is not JSON: {error}. {_EXPECTED}") from error
    if not isinstance(asked, dict) or "rows" not in asked:
        raise InvalidSample(f'The request has no "rows". {_EXPECTED}')
    return arrays_of(asked["rows"], record.model.inputs if record.model else ())


def arrays_of(rows: Any, inputs: Sequence[Input]) -> Nested:
    """Make arrays of rows, and see that they fit.

    Args:
        rows: A list or an array; where there are several inputs, a dict of such by name.
        inputs: The model's inputs.

    Returns:
        Arrays of shape `(rows, ...)` in the inputs' dtypes, nested as `predict` takes them.

    Raises:
        InvalidSample: They do not; the message names the input.

    Example:
        >>> arrays_of([[1, 2], [3, 4.5]], [Input("x", (2,), "float32")])
        array([[1. , 2. ],
               [3. , 4.5]], dtype=float32)
    """
    names = [each.name for each in inputs]
    if len(inputs) == 1:
        arrays = [_array(rows, inputs[0])]
    else:
        if not isinstance(rows, dict) or set(rows) != set(names):
            raise InvalidSample(f'"rows" must hold one list for each input: {", ".join(names)}.')
        arrays = [_array(rows[each.name], each) for each in inputs]
    if len({len(array) for array in arrays}) > 1:
        counts = ", ".join(f"{n}={len(a)}" for n, a in zip(names, arrays, strict=True))
        raise InvalidSample(f"Inputs disagree on the number of rows: {counts}.")
    check_inputs([Spec(each.name, each.shape, each.dtype) for each in inputs], names, arrays)
    if len(inputs) == 1:
        return arrays[0]
    return arrays if are_by_place(names) else dict(zip(names, arrays, strict=True))


def _array(rows: Any, wanted: Input) -> Array:
    """Read one input; numbers keep their value, or are refused."""
    try:
        array = np.asarray(rows)
    except ValueError as error:
        raise InvalidSample(f"Input {wanted.name!r} has rows of different shapes.") from error
    if array.ndim == 0 or not len(array):
        raise InvalidSample(f"Input {wanted.name!r} needs a list of at least one row.")
    if wanted.dtype == "string":
        return array  # `check_inputs` refuses what is no text
    dtype = np.dtype("float32" if wanted.dtype == "bfloat16" else wanted.dtype)
    if not keeps_value(array, dtype):
        got = "other things than numbers" if array.dtype.kind in "OUS" else array.dtype.name
        raise InvalidSample(f"Input {wanted.name!r} wants {dtype.name}, but got {got}.")
    with np.errstate(over="ignore"):  # 1e300 is infinite as a float32, as for Keras
        return array.astype(dtype, copy=False)


def keeps_value(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether numbers mean the same in a dtype: no fraction is cut, no integer wraps around."""
    if dtype.kind in "iu" and array.dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return array.size == 0 or bool(limits.min <= array.min() and array.max() <= limits.max)
    return array.dtype.kind in ("iuf" if dtype.kind == "f" else dtype.kind)


def encode(outputs: Nested) -> bytes:
    """Write outputs as `{"outputs": ...}`, nested as they are; NaN and infinity become null.

    Example:
        >>> encode({"score": np.array([[0.5], [np.nan]])})
        b'{"outputs":{"score":[[0.5],[null]]}}'
    """
    leaves, structure = flatten(outputs)
    return msgspec.json.encode({"outputs": structure.unflatten([_plain(leaf) for leaf in leaves])})


def _plain(leaf: Array) -> list[Any]:
    plain: list[Any] = (leaf.astype(np.float32) if leaf.dtype.name == "bfloat16" else leaf).tolist()
    return plain
