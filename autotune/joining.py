"""Arrays copied into one without letting go of the interpreter's lock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autotune.nesting import Array

# Numbers in an array beyond which NumPy lets go of the interpreter's lock to copy it
# (NPY_BEGIN_THREADS_THRESHOLDED in its source).
LET_GO = 500
MOST_BYTES = 2**23  # more take milliseconds, which others may have meanwhile


def joined(parts: Sequence[Array]) -> Array:
    """Copy arrays of one kind into one, row after row; what `numpy.concatenate` gives.

    NumPy lets go of the interpreter's lock for each array of many numbers, and who takes it may
    keep it for 5 ms: beside busy threads that costs several times the copying.

    Args:
        parts: Arrays of one dtype and shape of a row; at least one.

    Example:
        >>> joined([np.zeros((1, 2)), np.ones((2, 2))]).tolist()
        [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
    """
    sizes, dtype = [each.size for each in parts], parts[0].dtype
    is_worth_it = max(sizes) > LET_GO and sum(sizes) * dtype.itemsize <= MOST_BYTES
    if is_worth_it and dtype.kind in "biuf" and all(each.flags.c_contiguous for each in parts):
        room = bytearray().join(each.data for each in parts)
        return np.frombuffer(room, dtype).reshape(-1, *parts[0].shape[1:])
    return np.concatenate(parts)


def copy_of(array: Array) -> Array:
    """Copy an array as `joined` does."""
    return array.copy() if array.size <= LET_GO else joined([array])
