"""Dtypes: by Keras's names, and which of them rows in one array may have."""

from __future__ import annotations

from typing import Any

import numpy as np


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
