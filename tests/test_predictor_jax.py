"""On JAX, where each size is a program and a call lends the weights out: in a child of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_BEGIN = """
import jax, keras, numpy as np
from autotune import Candidate, TunedPredictor
from tests.batchers import record_of, together

compiled = []
def listen(event, seconds, **_):
    if "backend_compile" in event:
        compiled.append(event)
jax.monitoring.register_event_duration_secs_listener(listen)

dense = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1)]
model = keras.Sequential([keras.Input((10,), name="x"), *dense])
rows = np.random.default_rng(0).standard_normal((40, 10)).astype(np.float32)

def predictor_of(concurrency, engine="keras"):
    record = record_of(Candidate(16, engine, concurrency=concurrency))
    return TunedPredictor(record, lambda: model, model.save)
"""


def run(code: str) -> None:
    """Run code in a child whose Keras is on JAX."""
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.needs("jax")
def test_nothing_is_compiled_in_production() -> None:
    """After the first row all sizes are ready: 1 to 40 rows compile nothing, and are right."""
    run(
        """
for concurrency, engine in ((1, "keras"), (2, "keras"), (1, "compiled"), (2, "compiled")):
    predictor = predictor_of(concurrency, engine)
    predictor.predict(rows[:1])
    assert compiled
    compiled.clear()
    answers = [predictor.predict(rows[:count]) for count in range(1, 41)]
    answers += predictor.stream(rows[:count] for count in range(1, 41))
    answers.append(predictor.predict(iter([rows[:7], rows[7:40]])))
    assert compiled == [], compiled
    assert predictor.stats.padded_rows > 0
    for count, got in zip([*range(1, 41)] * 2 + [40], answers, strict=True):
        expected = model.predict_on_batch(rows[:count])
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert predictor.predict(rows[:0]).shape == (0, 1)
"""
    )


@pytest.mark.needs("jax")
def test_threads_never_share_the_weights() -> None:
    """A call lends the model's weights out: rows of two kinds from four threads wait their turn."""
    run(
        """
expected = model.predict_on_batch(rows)
predictor = predictor_of(2)
def ask(seed):
    kind = [np.float32, np.float16][seed % 2]
    for count in range(1, 41):
        got = predictor.predict(rows[:count].astype(kind))
        np.testing.assert_allclose(got, expected[:count], rtol=1e-2, atol=1e-2)
together(ask, range(4))
"""
    )
