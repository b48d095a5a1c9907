"""Values of other packages, read as NumPy arrays: tensors, and the columns of tables.

Classes are told by their names, as Keras does it, so that no framework is imported: whoever
hands over a tensor has imported what made it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.errors import InvalidSample, one_line

# What is no dense array, and what makes it one.
_DENSE = (
    ("tensorflow", "RaggedTensor", "x.to_tensor()"),
    ("tensorflow", "SparseTensor", "tf.sparse.to_dense(x)"),
    ("jax", "JAXSparse", "x.todense()"),
    ("scipy", "_spbase", "x.toarray()"),
)


def made_by(value: Any, package: str, *names: str) -> bool:
    """Tell whether a value's class, or one that it inherits from, is such a class of a package.

    Example:
        >>> made_by(np.zeros(2), "numpy", "ndarray")
        True
        >>> made_by(np.zeros(2), "torch", "Tensor")
        False
    """
    lineage = _lineage(type(value).__mro__)
    return any((package, name) in lineage for name in names)


@functools.lru_cache(maxsize=256)  # this is asked several times of each request
def _lineage(bases: tuple[type, ...]) -> frozenset[tuple[str, str]]:
    return frozenset((base.__module__.partition(".")[0], base.__name__) for base in bases)


def read_array(value: Any, where: str) -> NDArray[Any]:
    """Read a tensor of any framework, or anything else that NumPy reads, as an array.

    What lies in the host's memory is not copied, a mapped file neither; the array may be
    read-only.

    Args:
        value: The tensor, of shape `(rows, ...)`.
        where: What messages call it.

    Raises:
        InvalidSample: It is sparse or ragged, or no array at all.
    """
    if isinstance(value, np.ndarray):
        return np.asarray(value)  # a plain view: np.memmap slows every slice down
    is_torch = made_by(value, "torch", "Tensor")
    dense = _how_to_make_dense(value, is_torch)
    if dense:
        raise InvalidSample(
            f"{where} is a {type(value).__name__} that is not dense; the model wants an array. "
            f"Give {dense}."
        )
    try:
        array = _read_torch(value) if is_torch else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidSample(f"{where} cannot be read as an array: {one_line(error)}") from error
    if array.dtype.kind == "O" and array.ndim == 0:  # how NumPy takes what it does not know
        raise InvalidSample(f"{where} is a {type(value).__name__}, not an array.")
    return array


def _how_to_make_dense(value: Any, is_torch: bool) -> str:
    if is_torch:
        if value.is_nested:
            return "torch.nested.to_padded_tensor(x, 0)"
        return "" if str(value.layout) == "torch.strided" else "x.to_dense()"
    return next((how for package, name, how in _DENSE if made_by(value, package, name)), "")


def _read_torch(tensor: Any) -> NDArray[Any]:
    """Read a PyTorch tensor, wherever it lies; NumPy reads neither gradients nor bfloat16."""
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        import ml_dtypes
        import torch

        return np.asarray(tensor.view(torch.int16)).view(ml_dtypes.bfloat16)
    return np.asarray(tensor)


def is_frame(value: Any) -> bool:
    """Tell whether a value is a pandas DataFrame, or a pyarrow Table or RecordBatch."""
    return made_by(value, "pandas", "DataFrame") or made_by(
        value, "pyarrow", "Table", "RecordBatch"
    )


def read_columns(frame: Any) -> dict[str, NDArray[Any]]:
    """Read the columns of a DataFrame, Table or RecordBatch, by name.

    Returns:
        Arrays of shape `(rows,)`, or `(rows, length)` where each cell is a list. Empty cells
        are NaN.

    Raises:
        InvalidSample: Two columns of one name, or lists of unequal length.
    """
    if made_by(frame, "pandas", "DataFrame"):
        named = [(str(label), _read_series(series)) for label, series in frame.items()]
    else:
        named = [
            (name, _read_arrow(column))
            for name, column in zip(frame.schema.names, frame.columns, strict=True)
        ]
    columns: dict[str, NDArray[Any]] = {}
    for name, values in named:
        if name in columns:
            raise InvalidSample(f"The table has the column {name!r} twice.")
        columns[name] = _stacked(values, name)
    return columns


def _read_series(series: Any) -> NDArray[Any]:
    values = series.to_numpy()
    # pandas has an empty cell of its own, which NumPy takes for an object.
    return np.asarray(series.to_numpy(na_value=np.nan) if values.dtype.kind == "O" else values)


def _read_arrow(column: Any) -> NDArray[Any]:
    values = np.asarray(column.to_numpy(zero_copy_only=False))
    if values.dtype.kind == "O" and column.null_count:
        values = values.copy()  # Arrow's arrays are read-only
        values[[value is None for value in values]] = np.nan
    return values


def _stacked(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Make lists in the cells of a column a further axis."""
    if values.dtype.kind != "O" or not any(isinstance(cell, (list, np.ndarray)) for cell in values):
        return values
    try:
        return np.stack([np.asarray(list(cell)) for cell in values])
    except (TypeError, ValueError) as error:
        raise InvalidSample(
            f"Column {name!r} holds lists of unequal length: pad them to one."
        ) from error
