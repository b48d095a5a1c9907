"""What to maximise, and under which limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, get_args

from autotune.errors import InvalidInput

Objective = Literal["throughput", "makespan", "latency"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What to maximise, and under which limits.

    Attributes:
        objective: "throughput" is the most rows per second, "makespan" the least seconds for
            `rows` rows with the first call and the short last batch counted, "latency" the
            smallest latency of a batch at `quantile`.
        rows: How many rows there are in all; needed for "makespan".
        latency_budget_s: Longest time a batch may take, in seconds, at `quantile`.
        quantile: Which quantile of the batch times is held against `latency_budget_s`.
        memory_budget_bytes: Most memory that may be used, in bytes; None takes what is free
            when tuning begins, less a reserve.
        min_batch_size: Smallest batch size to consider.
        max_batch_size: Largest batch size to consider; None stops where speed or memory does.
        tolerance: The recommendation is the smallest batch size that is not worse than the
            best by more than this share.

    Raises:
        InvalidInput: A value is outside its range; the message names it.

    Example:
        >>> Goal(latency_budget_s=0.02).quantile
        0.95
        >>> Goal(latency_budget_s=-0.02)
        Traceback (most recent call last):
        autotune.errors.InvalidInput: latency_budget_s must be a positive time in seconds,
        but got -0.02.
    """

    objective: Objective = "throughput"
    rows: int | None = None
    latency_budget_s: float | None = None
    quantile: float = 0.95
    memory_budget_bytes: int | None = None
    min_batch_size: int = 1
    max_batch_size: int | None = None
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            known = ", ".join(get_args(Objective))
            raise InvalidInput(f"objective must be one of {known}, but got {self.objective!r}.")
        for name in ("rows", "memory_budget_bytes", "max_batch_size", "min_batch_size"):
            count = _checked_count(name, getattr(self, name), optional=name != "min_batch_size")
            object.__setattr__(self, name, count)
        if self.objective == "makespan" and self.rows is None:
            raise InvalidInput("objective 'makespan' needs rows, the number of rows in all.")
        if self.latency_budget_s is not None and not _is_positive(self.latency_budget_s):
            raise InvalidInput(
                "latency_budget_s must be a positive time in seconds, "
                f"but got {self.latency_budget_s!r}."
            )
        _check_share("quantile", self.quantile, lowest_allowed=False)
        _check_share("tolerance", self.tolerance, lowest_allowed=True)
        for name in ("latency_budget_s", "quantile", "tolerance"):
            if getattr(self, name) is not None:  # also from NumPy's numbers, which no JSON takes
                object.__setattr__(self, name, float(getattr(self, name)))
        if self.max_batch_size is not None and self.max_batch_size < self.min_batch_size:
            raise InvalidInput(
                f"max_batch_size ({self.max_batch_size}) must not be less than "
                f"min_batch_size ({self.min_batch_size})."
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and value > 0


def _checked_count(name: str, value: Any, *, optional: bool) -> int | None:
    """A plain int, also from NumPy's integers."""
    if optional and value is None:
        return None
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise InvalidInput(f"{name} must be a whole number of at least 1, but got {value!r}.")
    return int(value)


def _check_share(name: str, value: Any, *, lowest_allowed: bool) -> None:
    inside = _is_number(value) and (0 <= value < 1 if lowest_allowed else 0 < value < 1)
    if not inside:
        raise InvalidInput(f"{name} must lie between 0 and 1, but got {value!r}.")


MOST_ROWS_PER_SECOND = Goal()
