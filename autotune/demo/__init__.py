"""The demo: a small classifier of handwritten digits, tuned and compared on this machine.

`digits.keras` and `digits.npz` lie beside this file; examples/train_demo_model.py made them and
names the data's source and licence.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from autotune.goal import Goal
from autotune.records import Progress, TuningRecord
from autotune.tuning import tune

FOLDER = Path(__file__).parent
HELD_OUT = 360  # of the 1,797 digits, at the end: the model was not trained on them
ROUNDS = 7


class Timing(msgspec.Struct, frozen=True):
    """One way to predict all digits.

    Attributes:
        name: The call.
        seconds: Median of all rounds.
        slowest_s: Slowest round.
        accuracy: Share of the held-out digits that are told right.
    """

    name: str
    seconds: float
    slowest_s: float
    accuracy: float


class Comparison(msgspec.Struct, frozen=True):
    """What the demo found.

    Attributes:
        rows: How many digits each way predicted.
        timings: `model.predict(x)`, `predict_on_batch` at 32, the tuned predictor.
        record: The tuning run.
    """

    rows: int
    timings: tuple[Timing, ...]
    record: TuningRecord


def run(budget_s: float, on_event: Callable[[Progress], None] | None = None) -> Comparison:
    """Tune the model, then time the three ways of predicting in turn, round after round."""
    with np.load(FOLDER / "digits.npz") as digits:
        images, labels = digits["image"].astype(np.float32), digits["label"]
    goal = Goal("makespan", rows=len(images))  # the least time for just these digits
    predictor = tune(FOLDER / "digits.keras", images, goal, budget_s=budget_s, on_event=on_event)
    model = predictor.model
    ways: dict[str, Callable[[], Any]] = {
        "model.predict(x)": lambda: model.predict(images, verbose=0),
        "predict_on_batch, 32 rows": lambda: np.concatenate(
            [model.predict_on_batch(images[i : i + 32]) for i in range(0, len(images), 32)]
        ),
        "tuned predictor": lambda: predictor.predict(images),
    }
    accuracy = {name: _accuracy(way(), labels) for name, way in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    timings = tuple(
        Timing(name, statistics.median(took), max(took), accuracy[name])
        for name, took in times.items()
    )
    return Comparison(len(images), timings, predictor.record)


def _accuracy(outputs: Any, labels: Any) -> float:
    return float(np.mean(outputs[-HELD_OUT:].argmax(axis=1) == labels[-HELD_OUT:]))
