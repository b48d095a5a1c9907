"""Joining the arrays of batches, kept as they come or copied to their place at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autotune.errors import InvalidSample
from autotune.nesting import FEW_BYTES, are_few, concatenate, join

BOTH = pytest.mark.parametrize("joined", [concatenate, join])


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "U3", "object"])
def test_batches_are_joined_in_order(joined: Callable[..., Any], dtype: str) -> None:
    """Whatever they hold."""
    whole = np.arange(14).reshape(7, 2).astype(dtype)
    np.testing.assert_array_equal(joined([whole[:3], whole[3:6], whole[6:]], 7), whole)


@BOTH
def test_longer_text_of_a_later_batch_is_not_cut(joined: Callable[..., Any]) -> None:
    """A fixed width is that of the first batch only."""
    assert joined([np.array(["a"]), np.array(["abc"])], 2).tolist() == ["a", "abc"]


@BOTH
def test_rows_of_different_shapes_cannot_be_joined(joined: Callable[..., Any]) -> None:
    """NumPy would broadcast, or speak of axes."""
    with pytest.raises(InvalidSample, match="rows of different shapes"):
        joined([np.zeros((2, 3)), np.zeros((2, 1))], 4)


def test_few_bytes_may_be_held_twice() -> None:
    """Not many, and not what is nested or has no bytes to count."""
    outputs = np.zeros(FEW_BYTES + 1, np.uint8)
    assert are_few(outputs[:-1])
    assert not are_few(outputs)
    assert not are_few([outputs[:1]])
    assert not are_few(np.array(["a"], object))
