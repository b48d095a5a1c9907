"""What engines are called, and when their outputs agree.

What each of them promises is in test_engine_conformance.py.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from autotune import engines
from autotune.errors import EngineUnavailable


def test_an_engine_that_does_not_exist_is_refused(mlp: Any, rows: np.ndarray[Any, Any]) -> None:
    """A name that is no engine is refused with the names that are."""
    with pytest.raises(EngineUnavailable, match="no engine 'warp'; there are: keras, comp"):
        engines.build("warp", mlp, rows[:1])


def test_outputs_that_agree_have_no_difference() -> None:
    """Equal outputs, NaN for NaN, and rounding in the last bits are no difference."""
    expected = {"a": np.array([1.0, np.nan], np.float32), "b": np.array([1, 2])}
    rounded = {"a": np.array([1.0 + 1e-6, np.nan], np.float32), "b": np.array([1, 2])}
    assert engines.difference(expected, expected) is None
    assert engines.difference(rounded, expected) is None


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ([np.ones(3, np.float32)], "nested as"),
        ({"a": np.ones(3, np.float64)}, r"output 'a' is float64\(3,\), not float32\(3,\)"),
        ({"a": np.ones((3, 1), np.float32)}, r"output 'a' is float32\(3, 1\)"),
        ({"a": np.full(3, 1.1, np.float32)}, "output 'a' differs from that of keras by 5000.0"),
        ({"a": np.array([1, 1, np.nan], np.float32)}, "differs from that of keras by inf"),
        ({"a": np.array([1, 1, np.inf], np.float32)}, "differs from that of keras by inf"),
    ],
)
def test_a_difference_is_told_in_words(got: Any, words: str) -> None:
    """Another nesting, dtype, shape or value is a difference, told in half a sentence."""
    assert re.search(words, engines.difference(got, {"a": np.ones(3, np.float32)}) or "")


def test_half_precision_may_differ_by_more() -> None:
    """What float16 cannot tell apart is tolerated in float16, and not in float32."""
    expected, got = np.array([1.0, 2.0]), np.array([1.005, 2.0])
    assert engines.difference(got.astype("float16"), expected.astype("float16")) is None
    assert engines.difference(got.astype("float32"), expected.astype("float32")) is not None


def test_whole_numbers_must_be_equal() -> None:
    """For whole numbers there is no tolerance."""
    found = engines.difference(np.array([10**9 + 1]), np.array([10**9]))
    assert found is not None
    assert found.startswith("the output differs")
