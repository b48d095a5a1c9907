"""The goal: what may be asked for, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import InvalidInput
from autotune.goal import Goal
from autotune.outcomes import Candidate, Measurement

COUNTS = ["rows", "memory_budget_bytes", "min_batch_size", "max_batch_size"]


def test_the_plain_goal_is_the_most_rows_per_second() -> None:
    """Without arguments the goal is throughput, from one row on, without a limit."""
    goal = Goal()
    assert (goal.objective, goal.min_batch_size) == ("throughput", 1)
    assert (goal.latency_budget_s, goal.memory_budget_bytes, goal.max_batch_size) == (None,) * 3


def test_a_goal_does_not_change() -> None:
    """A goal is a value: to change it, make another."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Goal().rows = 5  # type: ignore[misc]


def test_an_unknown_objective_is_refused_with_the_known_ones() -> None:
    """The message names the objectives there are and the one received."""
    objective: Any = "speed"
    with pytest.raises(InvalidInput, match="one of throughput, makespan, latency, but got 'speed'"):
        Goal(objective)


def test_makespan_needs_the_number_of_rows() -> None:
    """The time for all rows cannot be known without their number."""
    with pytest.raises(InvalidInput, match="'makespan' needs rows"):
        Goal("makespan")
    assert Goal("makespan", rows=10).rows == 10


@pytest.mark.parametrize("name", COUNTS)
@given(value=st.integers(max_value=0) | st.floats() | st.booleans() | st.text())
def test_counts_are_whole_and_positive(name: str, value: Any) -> None:
    """What is counted is a whole number of at least 1; the message says which one is not."""
    with pytest.raises(InvalidInput, match=f"{name} must be a whole number of at least 1"):
        Goal(**{name: value})


@pytest.mark.parametrize("name", COUNTS)
@given(value=st.integers(1, 2**62))
def test_any_positive_count_is_taken(name: str, value: int) -> None:
    """There is no largest count."""
    fields: dict[str, Any] = {name: value}
    assert getattr(Goal(**fields), name) == value


def test_the_smallest_batch_size_is_never_left_open() -> None:
    """None stands for no limit, and min_batch_size always is one."""
    nothing: Any = None
    with pytest.raises(InvalidInput, match="min_batch_size must be"):
        Goal(min_batch_size=nothing)


@pytest.mark.parametrize("seconds", [0, -0.02, math.inf, math.nan, True, "20ms"])
def test_the_latency_budget_is_a_positive_time(seconds: Any) -> None:
    """A latency budget is seconds above zero; the message has the value received."""
    with pytest.raises(InvalidInput, match=r"latency_budget_s must be a positive.*but got"):
        Goal(latency_budget_s=seconds)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, math.nan, None, "95%"])
def test_the_quantile_lies_between_0_and_1(share: Any) -> None:
    """A quantile of 0 or 1 is an extreme, which no number of calls can tell."""
    with pytest.raises(InvalidInput, match="quantile must lie between 0 and 1"):
        Goal(quantile=share)


@pytest.mark.parametrize("share", [1, -0.1, math.nan, None, True])
def test_the_tolerance_is_less_than_1(share: Any) -> None:
    """A tolerance is a share below 1."""
    with pytest.raises(InvalidInput, match="tolerance must lie between 0 and 1"):
        Goal(tolerance=share)


def test_no_tolerance_is_allowed() -> None:
    """A tolerance of 0 asks for the very best."""
    assert Goal(tolerance=0).tolerance == 0


def test_the_largest_batch_size_is_not_below_the_smallest() -> None:
    """Limits that leave no batch size are refused with both numbers."""
    with pytest.raises(
        InvalidInput, match=r"max_batch_size \(8\) must not be less than min_batch_size \(16\)"
    ):
        Goal(min_batch_size=16, max_batch_size=8)
    assert Goal(min_batch_size=8, max_batch_size=8).max_batch_size == 8


def test_numbers_may_be_numpys() -> None:
    """They are told as plain ones: no JSON takes NumPy's."""
    goal = Goal(
        latency_budget_s=np.float64(0.02), quantile=np.float64(0.9), tolerance=np.float64(0.05)
    )
    assert {type(goal.latency_budget_s), type(goal.quantile), type(goal.tolerance)} == {float}
    times = Measurement(Candidate(8), tuple(np.array([0.01, 0.02])))
    assert msgspec.json.decode(msgspec.json.encode(times), type=Measurement) == times
