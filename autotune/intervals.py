"""Rows per second with an interval, from the speeds of blocks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from autotune.comparing import t_quantile
from autotune.judging import trimmed_mean

ENOUGH = 3  # blocks for an interval: of two, the scatter is a guess


@dataclass(frozen=True, slots=True)
class Speed:
    """Rows per second with a 95 % interval; no interval from less than three blocks."""

    rows_per_s: float
    low: float | None
    high: float | None


def speed_from(logs: Sequence[float], drift: float = 0.0) -> Speed:
    """Mean and 95 % interval from the logarithms of blocks' speeds, by Student's t.

    Args:
        logs: One for each block; blocks, because neighbouring calls are not independent.
        drift: Standard deviation, as a log ratio, of what the machine itself does over minutes.
    """
    centre = trimmed_mean(logs)
    if len(logs) < ENOUGH:
        return Speed(math.exp(centre), None, None)
    error = t_quantile(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    half = math.hypot(error, t_quantile(10**6) * drift)
    return Speed(math.exp(centre), math.exp(centre - half), math.exp(centre + half))
