"""Keras's other backends: the same road, with the engine that all of them have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autotune.demo import FOLDER

BACKENDS = [
    pytest.param(name, marks=pytest.mark.needs(package))
    for name, package in (("jax", "jax"), ("torch", "torch"))
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_is_tuned_and_predicts_on_another_backend(backend: str, tmp_path: Path) -> None:
    """On JAX and torch the `keras` engine is tuned, and `compiled` says why it is not."""
    with np.load(FOLDER / "digits.npz") as digits:
        np.save(tmp_path / "rows.npy", digits["image"][:40].astype(np.float32))

    def autotune(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "autotune.cli", *arguments],
            env=os.environ | {"KERAS_BACKEND": backend},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    model = str(FOLDER / "digits.keras")
    quick = ("--budget", "2s", "--max-batch-size", "8", "--json")
    record = json.loads(autotune("tune", model, "--sample", "rows.npy", "--out", "tuned", *quick))
    assert record["model"]["backend"] == backend
    assert record["recommendation"]["engine"] == "keras"
    assert backend in record["unavailable"]["compiled"]
    autotune("predict", "tuned", "rows.npy", "--out", "y.npy")
    labels = np.load(FOLDER / "digits.npz")["label"][:40]
    assert np.mean(np.load(tmp_path / "y.npy").argmax(axis=1) == labels) > 0.9
