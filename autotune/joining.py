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
    sizes = [each.size for each in parts]
    if max(sizes) <= LET_GO or not _is_plain(parts, sum(sizes)):
        return np.concatenate(parts)
    room = bytearray().join(each.data for each in parts)
    return np.frombuffer(room, parts[0].dtype).reshape(-1, *parts[0].shape[1:])


def padded(array: Array, rows: int) -> Array:
    """Repeat the last row of an array up to so many rows; as `joined`.

    Example:
        >>> padded(np.array([[1], [2]]), 4).tolist()
        [[1], [2], [2], [2]]
    """
    missing, last = rows - len(array), array[-1:]
    if array.size <= LET_GO or not _is_plain([array], array.size + missing * last.size):
        return np.concatenate([array, np.broadcast_to(last, (missing, *array.shape[1:]))])
    room = bytearray().join((array.data, last.tobytes() * missing))
    return np.frombuffer(room, array.dtype).reshape(-1, *array.shape[1:])


def copy_of(array: Array) -> Array:
    """Copy an array as `joined` does."""
    return array.copy() if array.size <= LET_GO else joined([array])


def _is_plain(parts: Sequence[Array], numbers: int) -> bool:
    """Whether arrays of so many numbers in all are bytes in a row, and not too many."""
    dtype = parts[0].dtype
    is_plain = dtype.kind in "biuf" and numbers * dtype.itemsize <= MOST_BYTES
    return is_plain and all(each.flags.c_contiguous for each in parts)
