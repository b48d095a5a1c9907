"""Joining the arrays of batches, kept as they come or copied to their place at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autotune import nesting
from autotune.errors import InvalidSample
from autotune.nesting import Joiner


@pytest.mark.parametrize("few_bytes", [0, 2**20])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "U3", "object"])
def test_batches_are_joined_in_order(
    monkeypatch: pytest.MonkeyPatch, few_bytes: int, dtype: str
) -> None:
    """Whatever they hold, and however much it is."""
    monkeypatch.setattr(nesting, "FEW_BYTES", few_bytes)
    whole = np.arange(14).reshape(7, 2).astype(dtype)
    joiner = Joiner(7, whole[:3])
    for start, end in ((0, 3), (3, 6), (6, 7)):
        joiner.put(whole[start:end])
    np.testing.assert_array_equal(joiner.whole(), whole)


def test_longer_text_of_a_later_batch_is_not_cut() -> None:
    """A fixed width is that of the first batch only."""
    parts: list[Any] = [np.array(["a"]), np.array(["abc"])]
    joiner = Joiner(2, parts[0])
    for part in parts:
        joiner.put(part)
    assert joiner.whole().tolist() == ["a", "abc"]


@pytest.mark.parametrize("few_bytes", [0, 2**20])
def test_rows_of_different_shapes_cannot_be_joined(
    monkeypatch: pytest.MonkeyPatch, few_bytes: int
) -> None:
    """NumPy would broadcast, or speak of axes."""
    monkeypatch.setattr(nesting, "FEW_BYTES", few_bytes)
    joiner = Joiner(4, np.zeros((2, 3)))
    joiner.put(np.zeros((2, 3)))

    def end() -> None:
        joiner.put(np.zeros((2, 1)))
        joiner.whole()

    with pytest.raises(InvalidSample, match="rows of different shapes"):
        end()


def test_few_bytes_are_not_copied_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many are: they must not be held twice."""
    part = np.zeros((2, 3))
    for few_bytes, kept in ((2**20, True), (0, False)):
        monkeypatch.setattr(nesting, "FEW_BYTES", few_bytes)
        joiner = Joiner(2, part)
        joiner.put(part)
        part[:] += 1
        assert (joiner.whole()[0, 0] == part[0, 0]) == kept
