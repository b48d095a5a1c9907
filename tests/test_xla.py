"""Which models the `xla` engine leaves to others, and that it compiles for each size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autotune import Candidate, TunedPredictor
from autotune.engines.xla import build
from autotune.errors import EngineUnavailable
from tests.batchers import record_of

ROWS = np.ones((3, 2), np.float32)


def refused(model: Any, rows: np.ndarray[Any, Any] = ROWS) -> str:
    """The sentence in which a model is refused."""
    with pytest.raises(EngineUnavailable) as caught:
        build(model, rows[:1])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_xla_is_known_not_to_run_is_refused_by_name(keras: Any) -> None:
    """Text, and a layer that says that it does not support XLA, are refused at once."""

    class Own(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="own")
            self.supports_jit = False

        def call(self, x: Any) -> Any:
            return x

    text = keras.Input((1,), dtype="string")
    lookup = keras.Model(text, keras.layers.StringLookup(vocabulary=["a"])(text))
    assert "it takes text" in refused(lookup, np.array([["a"]]))
    numbers = keras.Input((2,))
    assert "'own' (Own) does not support XLA" in refused(keras.Model(numbers, Own()(numbers)))


def test_what_xla_turns_out_not_to_run_is_refused(keras: Any, tf: Any) -> None:
    """An operation that XLA has not is found when the engine is built."""

    class Host(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return tf.ensure_shape(tf.numpy_function(np.sin, [x], tf.float32), (None, 2))

    assert "cannot compile this model" in refused(Host())


def test_a_model_that_is_on_xla_already_is_refused(mlp: Any, rows: np.ndarray[Any, Any]) -> None:
    """Where `jit_compile` is set, `compiled` is XLA, and one of the two is enough."""
    mlp.jit_compile = True
    assert "'compiled' is XLA" in refused(mlp, rows)


def test_a_model_that_predicts_in_its_own_way_is_refused(keras: Any) -> None:
    """A class that overrides how Keras predicts is refused, and the message names the method."""

    class Own(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x

        def predict_step(self, data: Any) -> Any:
            return data

    assert "overrides predict_step()" in refused(Own())


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_predictor_pads_to_sizes_that_are_ready(
    mlp: Any, rows: np.ndarray[Any, Any], concurrency: int
) -> None:
    """A size is a program, so that a predictor runs few of them; each row has its own answer."""
    record = record_of(Candidate(16, "xla", concurrency=concurrency))
    predictor = TunedPredictor(record, lambda: mlp, mlp.save)
    for count in (1, 3, 16, 17, 50):
        wanted = mlp.predict_on_batch(rows[:count])
        np.testing.assert_allclose(predictor.predict(rows[:count]), wanted, rtol=1e-5, atol=1e-6)
    assert predictor.stats.padded_rows > 0
