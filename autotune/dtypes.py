"""Dtypes: by Keras's names, and which of them rows in one array may have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# A guess, and what NumPy does not know.
_ITEM_BYTES = {"string": 32, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}


def named(name: str) -> np.dtype[Any]:
    """Return the dtype that Keras calls so; NumPy knows "bfloat16" by another package only."""
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    return np.dtype(name)


def kind_of(dtype: np.dtype[Any]) -> Any:
    """Return what tells arrays apart whose rows cannot be joined: text of any length can.

    Example:
        >>> kind_of(np.dtype("<U3")) == kind_of(np.dtype("<U8"))
        True
        >>> kind_of(np.dtype("f4")) == kind_of(np.dtype("f8"))
        False
    """
    return dtype.kind if dtype.kind in "SU" else dtype


def row_bytes(shape: Sequence[int | None], dtype: str) -> int:
    """Bytes of a row of an input; an axis of free length is taken for one.

    Example:
        >>> row_bytes((28, 28, 1), "float32")
        3136
    """
    item = _ITEM_BYTES.get(dtype) or np.dtype(dtype).itemsize
    return item * math.prod(axis or 1 for axis in shape)
