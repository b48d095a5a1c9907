"""How long a call takes by its rows: between the sizes that were measured, and beyond."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.calltimes import LEVELS, Times

curves = st.dictionaries(
    st.integers(1, 1_000),
    st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=20),
    min_size=1,
    max_size=8,
)


@given(curves, st.integers(1, 2_000))
def test_times_are_plausible_for_any_curve_and_rows(
    measured: dict[int, list[float]], rows: int
) -> None:
    """Times rise from quantile to quantile and lie within those of the nearest sizes.

    Beyond the measured sizes they lie between those of the last one and its share by rows.
    """
    known = Times(measured)
    times = [known.seconds(rows, draw) for draw in range(0, LEVELS, 64)]
    assert all(a <= b * (1 + 1e-9) for a, b in itertools.pairwise(times))
    below = max((size for size in measured if size <= rows), default=min(measured))
    above = min((size for size in measured if size >= rows), default=max(measured))
    ends = [*measured[below], *measured[above]]
    beyond = rows / below if rows > max(measured) or rows < min(measured) else 1.0
    slack = 1 + 1e-9
    assert min(ends) * min(1.0, beyond) / slack <= times[0]
    assert times[-1] <= max(ends) * max(1.0, beyond) * slack


def test_the_times_of_a_size_are_those_that_were_measured() -> None:
    """At a measured size mean and quantiles are those of its calls."""
    calls = np.random.default_rng(0).exponential(0.01, 10_000)
    times = Times({8: calls.tolist()})
    assert times.mean(8) == pytest.approx(calls.mean(), rel=0.01)
    assert times.seconds(8, LEVELS // 2) == pytest.approx(np.median(calls), rel=0.01)


def test_a_wrong_size_does_not_take_what_every_call_takes_from_one_of_few_rows() -> None:
    """A call of 8 rows and one of 16 that seem to be in proportion; the larger ones tell more."""
    calls_s = {8: [0.77], 16: [1.54], 32: [2.33], 64: [4.33], 512: [47.0]}
    assert 0.3 < Times(calls_s).seconds(1, 0) < 0.4
    assert Times({8: [0.77], 16: [1.54]}).seconds(1, 0) == pytest.approx(0.77 / 8)
