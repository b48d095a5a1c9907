"""Tune a model, and score a dataset with it on Ray Data: here on this machine.

    pip install 'keras-autotune[ray]'
    python examples/ray/score.py

On a cluster, replace `ray.init(...)` by `ray.init("auto")`, and the rows made here by
`ray.data.read_parquet(...)`. Machines that do not share the tuned folder get it sent.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import numpy as np
import ray

import autotune
from autotune import on_ray

ROWS = 20_000


def make_rows(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    ids = batch["id"]
    features = np.sin(ids[:, None] * np.arange(1, 11))
    return {"id": ids, "x": features.astype(np.float32)}


def main() -> None:
    layers = keras.layers
    model = keras.Sequential([keras.Input((10,), name="x"), layers.Dense(64), layers.Dense(1)])
    sample = make_rows({"id": np.arange(1_000)})["x"]
    with tempfile.TemporaryDirectory() as folder:
        tuned = Path(folder) / "tuned"
        autotune.tune(model, sample, budget_s=3).save(tuned)
        ray.init("local", num_cpus=2, include_dashboard=False)
        rows = ray.data.range(ROWS).map_batches(make_rows)
        scored = on_ray.score(rows, tuned, keep=["id"])
        predictions = scored.to_pandas().sort_values("id")
        ray.shutdown()
    print(predictions.head())
    print(f"{len(predictions)} rows, each with its prediction")


if __name__ == "__main__":
    main()
