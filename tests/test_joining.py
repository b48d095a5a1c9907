"""Arrays are joined as NumPy does it, but nobody gets the interpreter's lock meanwhile."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from autotune.joining import LET_GO, MOST_BYTES, copy_of, joined, padded

WIDE = LET_GO + 1


@pytest.mark.parametrize(
    "parts",
    [
        [np.arange(6.0).reshape(2, 3), np.ones((1, 3))],
        [np.random.default_rng(0).normal(size=(2, WIDE)), np.zeros((1, WIDE))],
        [np.arange(WIDE * 2, dtype=np.uint8).reshape(2, WIDE)],
        [np.ones((1, 2, WIDE), bool), np.zeros((3, 2, WIDE), bool)],
        [np.ones((WIDE, 4)).T, np.zeros((1, WIDE))],
        [np.ones((4, WIDE), ml_dtypes.bfloat16), np.zeros((1, WIDE), ml_dtypes.bfloat16)],
        [np.array([["a"] * WIDE]), np.array([["b"] * WIDE])],
        [np.zeros((1, MOST_BYTES // 8)), np.ones((1, MOST_BYTES // 8))],
    ],
    ids=["few", "wide", "bytes", "nested", "not in order", "bfloat16", "text", "large"],
)
def test_arrays_are_joined_as_numpy_does(parts: list[Any]) -> None:
    """Whatever their dtype, shape and order in memory; and the array can be written to."""
    found, expected = joined(parts), np.concatenate(parts)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)
    assert found.flags.writeable
    assert not any(np.shares_memory(found, part) for part in parts)


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(6.0).reshape(2, 3),
        np.random.default_rng(0).normal(size=(2, WIDE)),
        np.arange(WIDE * 4, dtype=np.int16).reshape(2, 2, WIDE),
        np.ones((WIDE, 4)).T,
        np.ones((4, WIDE), ml_dtypes.bfloat16),
        np.array([["a"] * WIDE]),
        np.random.default_rng(0).normal(size=(2, MOST_BYTES // 32)),
    ],
    ids=["few", "wide", "nested", "not in order", "bfloat16", "text", "large"],
)
@pytest.mark.parametrize("more", [1, 3])
def test_the_last_row_is_repeated(rows: Any, more: int) -> None:
    """As often as there are rows missing."""
    found = padded(rows, len(rows) + more)
    expected = np.concatenate([rows, np.repeat(rows[-1:], more, axis=0)])
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)
    assert found.flags.writeable
    assert not np.shares_memory(found, rows)


@pytest.mark.parametrize("numbers", [1, WIDE])
def test_a_copy_is_a_copy(numbers: int) -> None:
    """Who writes to it changes nothing else."""
    rows = np.zeros((4, numbers))
    copy = copy_of(rows[1:2])
    copy += 1
    assert rows.sum() == 0
    assert copy.shape == (1, numbers)


def test_nobody_gets_the_lock_meanwhile() -> None:
    """A thread that wants it waits, until whoever joins has gone on for the switch interval."""
    usual_s = sys.getswitchinterval()
    parts, others, over = [np.ones((1, 100 * WIDE))] * 4, [0], threading.Event()

    def count() -> None:
        while not over.is_set():
            others[0] += 1
            time.sleep(0)  # let go, so that the other thread need not wait for the interval

    def times_let_go(join: Any) -> int:
        times = 0
        for _ in range(200):
            before = others[0]
            join(parts)
            times += others[0] > before
        return times

    thread = threading.Thread(target=count)
    sys.setswitchinterval(3600.0)
    thread.start()
    try:
        kept, let_go = times_let_go(joined), times_let_go(np.concatenate)
    finally:
        sys.setswitchinterval(usual_s)
        over.set()
        thread.join()
    assert kept == 0
    assert let_go > 0
