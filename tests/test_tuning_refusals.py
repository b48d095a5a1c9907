"""Models, rows and limits that `tune` refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autotune
from autotune import Goal, NoFeasibleBatchSize
from autotune.errors import EngineUnavailable, InvalidInput, InvalidSample

Rows = np.ndarray[Any, Any]


def tune(model: Any, sample: Any, goal: Goal | None = None, **more: Any) -> None:
    """Tune with a small budget."""
    autotune.tune(model, sample, goal or Goal(max_batch_size=16), budget_s=1, **more)


def stateful(keras: Any) -> Any:
    """A recurrent layer that carries state."""
    x = keras.Input(batch_shape=(50, 10))
    steps = keras.layers.Reshape((5, 2))(x)
    return keras.Model(x, keras.layers.LSTM(3, stateful=True, name="memory")(steps))


def fixed(keras: Any) -> Any:
    """An input of eight rows."""
    x = keras.Input(batch_shape=(8, 10), name="eight")
    return keras.Model(x, keras.layers.Dense(1)(x))


def scalar(keras: Any) -> Any:
    """One number for the whole batch."""
    x = keras.Input((10,))
    return keras.Model(x, {"each": keras.layers.Dense(1)(x), "total": keras.ops.mean(x)})


def mixing(keras: Any) -> Any:
    """Statistics of the batch."""

    class Mixing(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm = keras.layers.BatchNormalization()

        def call(self, x: Any) -> Any:
            return self.norm(x, training=True)

    return Mixing()


@pytest.mark.parametrize("isolation", ["process", "none"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (stateful, r"Layer 'memory' \(LSTM\) is stateful"),
        (fixed, "Input 'eight' has a fixed batch size of 8"),
        (scalar, r"Output 'total' has shape \(\)"),
        (mixing, "The answer for a row depends on the other rows"),
    ],
)
def test_a_model_that_cannot_be_cut_into_batches_is_refused(
    keras: Any, rows: Rows, make: Callable[[Any], Any], message: str, isolation: str
) -> None:
    """A model whose answers would change is refused, and what is at fault is named."""
    with pytest.raises(autotune.InvalidModel, match=message):
        tune(make(keras), rows, isolation=isolation)


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_rows_that_do_not_fit_are_refused(
    mlp: Any, isolation: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows of another shape are refused, without a word on where they would be measured."""
    with (
        caplog.at_level(logging.WARNING, "autotune"),
        pytest.raises(InvalidSample, match=r"'x' has shape \(rows, 9\) float32"),
    ):
        tune(mlp, np.ones((5, 9), np.float32), isolation=isolation)
    assert caplog.messages == []


def test_where_nothing_fits_the_record_comes_with_the_error(mlp: Any, rows: Rows) -> None:
    """A latency that no size meets is an error that carries what was measured."""
    with pytest.raises(NoFeasibleBatchSize, match="No batch size meets") as caught:
        tune(mlp, rows, Goal(latency_budget_s=1e-9, max_batch_size=16), isolation="none")
    record = caught.value.record
    assert record is not None
    assert record.recommendation is None
    assert record.outcomes
    assert record.model is not None


def test_a_memory_budget_below_the_process_itself_is_refused(mlp: Any, rows: Rows) -> None:
    """A budget that the loaded model alone exceeds fits no batch size."""
    with pytest.raises(NoFeasibleBatchSize, match="No batch size fits"):
        tune(mlp, rows, Goal(memory_budget_bytes=2**20, max_batch_size=16), isolation="none")


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ({"engines": ["warp"]}, EngineUnavailable),
        ({"engines": "keras"}, InvalidInput),
        ({"isolation": "thread"}, InvalidInput),
    ],
)
def test_a_wrong_choice_is_refused_with_what_there_is(
    mlp: Any, rows: Rows, argument: dict[str, Any], error: type[Exception]
) -> None:
    """An engine or isolation that does not exist is refused, and the message shows it."""
    (given,) = argument.values()
    shown = given if isinstance(given, str) else given[0]
    with pytest.raises(error, match=repr(shown)):
        tune(mlp, rows, **argument)
