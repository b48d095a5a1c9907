"""Which models the `compiled` engine leaves to `keras`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autotune import engines
from autotune.engines.compiled import build
from autotune.errors import EngineUnavailable

ROWS = np.ones((3, 2), np.float32)


@pytest.mark.parametrize("method", ["predict_step", "make_predict_function", "predict_on_batch"])
def test_a_model_that_predicts_in_its_own_way_is_refused(keras: Any, method: str) -> None:
    """A class that overrides how Keras predicts is refused, and the message names the method."""

    def call(self: Any, x: Any) -> Any:
        return x

    def own_way(self: Any, *given: Any) -> Any:
        return given

    own = type("Own", (keras.Model,), {"call": call, method: own_way})
    with pytest.raises(EngineUnavailable, match=rf"cannot run this model: it overrides {method}\("):
        build(own(), ROWS)


def test_a_model_that_cannot_be_traced_is_refused(keras: Any) -> None:
    """A model that decides by the values of its input in Python is refused in one line."""

    class Looks(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x if float(x[0, 0]) > 0 else -x

    with pytest.raises(EngineUnavailable, match="cannot trace this model") as caught:
        build(Looks(), ROWS)
    assert "\n" not in str(caught.value)


def test_one_graph_serves_every_size(keras: Any) -> None:
    """The model's Python code runs once, when the engine is built, and for no size again."""
    traces = []

    class Counts(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            traces.append(x.shape)
            return x

    engine = build(Counts(), ROWS[:1])
    built = len(traces)
    for size in (1, 2, 3):
        engine(ROWS[:size])
    assert len(traces) == built


def test_a_model_that_keras_compiles_with_xla_is_compiled_with_xla(
    mlp: Any, rows: np.ndarray[Any, Any]
) -> None:
    """Where `jit_compile` is set there is a program for each size, and its answer is keras's."""
    mlp.jit_compile = True
    engine = build(mlp, rows[:1])
    assert (engine.compiles_per_shape, engine.thread_safe) == (True, True)
    assert engines.build("keras", mlp, rows[:1]).compiles_per_shape
    assert engines.difference(engine(rows), mlp.predict_on_batch(rows)) is None


def test_xla_is_more_than_asked_for(keras: Any, tf: Any) -> None:
    """With `jit_compile` an operation that XLA has not cannot run: nothing falls back."""

    class Host(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return tf.ensure_shape(tf.numpy_function(np.sin, [x], tf.float32), (None, 2))

    model = Host()
    np.testing.assert_allclose(build(model, ROWS)(ROWS), np.sin(ROWS), rtol=1e-6)
    model.jit_compile = True
    with pytest.raises(tf.errors.InvalidArgumentError, match="PyFunc"):
        build(model, ROWS)(ROWS)
