"""What the four programs share: a small model, 1,000 rows, and a clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def make_model() -> keras.Model:
    """10 numbers in, one out, 128 units between."""
    return keras.Sequential(
        [
            keras.Input((10,), name="x"),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(1),
        ]
    )


def make_rows() -> np.ndarray[Any, Any]:
    """1,000 rows of 10 numbers between 0 and 1."""
    return np.random.default_rng(0).random((1000, 10), dtype=np.float32)


def seconds_of(predict: Callable[[], Any], rounds: int = 20) -> float:
    """Median seconds of a call; two calls before that do not count."""
    predict()
    predict()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        predict()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
