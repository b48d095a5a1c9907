"""The axes of the charts: there is always something to read a value off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.needs("altair")

VALUES = st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=9)


@given(VALUES)
def test_a_logarithmic_axis_has_two_lines_or_more_and_holds_all_values(values: list[float]) -> None:
    """However near to each other they are."""
    from autotune.report.axes import decades

    found = decades([*values, None])
    low, high = found["scale"].domain
    lines = found["axis"].values
    assert len(lines) >= 2
    assert low <= min(lines) < max(lines) <= high
    assert low <= min(values) <= max(values) <= high
