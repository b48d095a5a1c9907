"""Which models the `compiled` engine leaves to `keras`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autotune.engines.compiled import CompiledEngine
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
        CompiledEngine(own(), ROWS)


def test_a_model_that_cannot_be_traced_is_refused(keras: Any) -> None:
    """A model that decides by the values of its input in Python is refused in one line."""

    class Looks(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x if float(x[0, 0]) > 0 else -x

    with pytest.raises(EngineUnavailable, match="cannot trace this model") as caught:
        CompiledEngine(Looks(), ROWS)
    assert "\n" not in str(caught.value)


def test_one_graph_serves_every_size(keras: Any) -> None:
    """The model's Python code runs once, when the engine is built, and for no size again."""
    traces = []

    class Counts(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            traces.append(x.shape)
            return x

    engine = CompiledEngine(Counts(), ROWS[:1])
    built = len(traces)
    for size in (1, 2, 3):
        engine(ROWS[:size])
    assert len(traces) == built


def test_xla_gives_the_same_answer(mlp: Any, rows: np.ndarray[Any, Any]) -> None:
    """A model that Keras compiles with XLA is compiled with XLA, and agrees."""
    plain = CompiledEngine(mlp, rows[:1])(rows)
    mlp.jit_compile = True
    engine = CompiledEngine(mlp, rows[:1])
    assert engine._function.function_def.attr["_XlaMustCompile"].b
    np.testing.assert_allclose(engine(rows), plain, rtol=1e-5, atol=1e-6)
