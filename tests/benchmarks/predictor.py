"""The tuned predictor against `model.predict` and against a loop written by hand.

    python tests/benchmarks/predictor.py

Prints ratios of calls made in turn in one run, with their spread: on a shared machine only such
ratios can be compared. Nothing else should run meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from autotune import Candidate, Goal, Measurement, TunedPredictor, TuningRecord, engines, tune
from autotune.outcomes import Block
from autotune.recommend import recommend
from autotune.standing import Standing

ROUNDS = 60
layers = keras.layers


def mlp() -> keras.Model:
    """The model of examples/seed."""
    return keras.Sequential(
        [keras.Input((10,)), layers.Dense(128, activation="relu"), layers.Dense(1)], name="mlp"
    )


def cnn() -> keras.Model:
    """Two convolutions on 28x28 images."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ],
        name="cnn",
    )


def gru() -> keras.Model:
    """A recurrent net over 20 steps."""
    return keras.Sequential([keras.Input((20, 8)), layers.GRU(32), layers.Dense(1)], name="gru")


def autoencoder() -> keras.Model:
    """Outputs as large as the inputs: here the joining of batches weighs most."""
    return keras.Sequential(
        [keras.Input((256,)), layers.Dense(16, activation="relu"), layers.Dense(256)],
        name="autoencoder",
    )


def rows_for(model: keras.Model, count: int) -> Any:
    """Random rows."""
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def ratios(slow: Callable[[], Any], fast: Callable[[], Any], rounds: int = ROUNDS) -> Any:
    """Seconds of `slow` over seconds of `fast`, round after round, in changing order."""
    found = []
    for turn in range(rounds + 2):
        took = {}
        for way in (slow, fast) if turn % 2 else (fast, slow):
            start = time.perf_counter()
            way()
            took[way] = time.perf_counter() - start
        found.append(took[slow] / took[fast])
    return np.array(found[2:])


def told(values: Any) -> str:
    """Median, and the range from the 5 % to the 95 % quantile."""
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return f"{middle:8.2f}  ({low:.2f} to {high:.2f})"


def following(model: keras.Model, candidate: Candidate) -> TunedPredictor:
    """A predictor for a given candidate."""
    measurement = Measurement(candidate, (1e-3,) * 3)
    standing = Standing(Goal(), None, [Block(measurement, 1)])
    record = TuningRecord(goal=Goal(), outcomes=(measurement,), recommendation=recommend(standing))
    return TunedPredictor(record, lambda: model, model.save)


def by_hand(engine: engines.Engine, rows: Any, size: int) -> Callable[[], Any]:
    """The loop that people write."""
    if len(rows) <= size:
        return lambda: engine(rows)
    starts = range(0, len(rows), size)
    return lambda: np.concatenate([engine(rows[start : start + size]) for start in starts])


def main() -> None:
    """Print both tables."""
    model, rows = mlp(), rows_for(mlp(), 1_000)
    predictor = tune(model, rows, Goal("makespan", rows=1_000), budget_s=15)
    print("seed's MLP, 1,000 rows, times faster than model.predict(x)")
    found = ratios(lambda: model.predict(rows, verbose=0), lambda: predictor.predict(rows))
    print(f"  tuned: {predictor.recommendation.candidate}  {told(found)}\n")
    print("tuned predictor against a loop by hand, same engine and batch size (1 is equal)")
    for model in (mlp(), cnn(), gru(), autoencoder()):
        for name in engines.NAMES:
            for size, count in ((32, 1_000), (256, 10_000), (1_024, 1_000)):
                found = against_hand(model, Candidate(size, name), count)
                print(f"  {model.name:12}{name:9}{count:6} rows by {size:5}  {told(found)}")


def against_hand(model: keras.Model, candidate: Candidate, count: int) -> Any:
    """Seconds by hand over seconds of the predictor, for one candidate."""
    rows = rows_for(model, count)
    predictor = following(model, candidate)
    hand = by_hand(engines.build(candidate.engine, model, rows[:1]), rows, candidate.batch_size)
    return ratios(hand, lambda: predictor.predict(rows))


if __name__ == "__main__":
    main()
