"""Keras's other backends: the same road, each in a child of its own."""

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
UNDECIDED = 3
HOME = Path(__file__).parent.parent

_TUNED_AND_SHARED = """
import keras, numpy as np, autotune
from tests.batchers import together

dense = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1)]
model = keras.Sequential([keras.Input((10,), name="x"), *dense])
rows = np.random.default_rng(0).standard_normal((40, 10)).astype(np.float32)
expected = model.predict_on_batch(rows)

goal = autotune.Goal(max_batch_size=16)
found = autotune.tune(model, rows, goal, engines=("compiled",), concurrency=(2,), budget_s=2)
assert found.record.unavailable == {}, found.record.unavailable
chosen = found.recommendation
assert (chosen.engine, chosen.concurrency) == ("compiled", 2), chosen
failed = [o for o in found.record.outcomes if isinstance(o, autotune.Failure)]
assert not failed, failed
found.save("tuned")
predictor = autotune.load("tuned")

def ask(seed):
    for count in range(1 + seed, 41):
        got = predictor.predict(rows[:count])
        np.testing.assert_allclose(got, expected[:count], rtol=1e-5, atol=1e-6)

together(ask, range(4))
"""


def run(backend: str, *command: str, cwd: Path, codes: tuple[int, ...] = (0,)) -> str:
    """Run Python in a child whose Keras is on a backend, and return what it prints."""
    ours = {"KERAS_BACKEND": backend, "PYTHONPATH": str(HOME), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | ours,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", BACKENDS)
def test_engines_keep_their_promises_on_another_backend(backend: str) -> None:
    """What every engine promises holds on JAX and torch too."""
    suite = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_engine_conformance.py")
    assert "passed" in run(backend, *suite, cwd=HOME)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_is_tuned_and_predicts_on_another_backend(backend: str, tmp_path: Path) -> None:
    """On JAX and torch `keras` and `compiled` are tuned, and `xla` says why it is not."""
    with np.load(FOLDER / "digits.npz") as digits:
        np.save(tmp_path / "rows.npy", digits["image"][:40].astype(np.float32))

    def autotune(*arguments: str) -> str:
        codes = (0, UNDECIDED)  # there is no time to tell two engines apart
        return run(backend, "-m", "autotune.cli", *arguments, cwd=tmp_path, codes=codes)

    model = str(FOLDER / "digits.keras")
    engines = ("--engine", "keras", "--engine", "compiled", "--engine", "xla")
    quick = ("--budget", "8s", "--max-batch-size", "8", "--json", *engines)
    record = json.loads(autotune("tune", model, "--sample", "rows.npy", "--out", "tuned", *quick))
    assert record["model"]["backend"] == backend
    assert record["recommendation"]["engine"] in ("keras", "compiled")
    tried = {o["candidate"]["engine"] for o in record["outcomes"] if o["outcome"] == "measured"}
    assert tried >= {"keras", "compiled"}
    assert list(record["unavailable"]) == ["xla"]
    autotune("predict", "tuned", "rows.npy", "--out", "y.npy")
    labels = np.load(FOLDER / "digits.npz")["label"][:40]
    assert np.mean(np.load(tmp_path / "y.npy").argmax(axis=1) == labels) > 0.9


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_flights_of_compiled_are_tuned_saved_loaded_and_shared(
    backend: str, tmp_path: Path
) -> None:
    """With `compiled`, two batches in flight are right on every backend, from four threads too."""
    run(backend, "-c", _TUNED_AND_SHARED, cwd=tmp_path)
