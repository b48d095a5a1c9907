"""Dtypes: by Keras's names, how many bytes rows of them take, and whose rows may share an array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# Bytes of those that NumPy knows by another package only.
_OTHERS = {"bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
_ITEM_BYTES = _OTHERS | {"string": 32}  # of text it is a guess


def named(name: str) -> np.dtype[Any]:
    """Return the dtype that Keras calls so."""
    if name in _OTHERS:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
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
