"""The whole story: model and sample in, tuned predictor out."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import autotune
from autotune import Goal, NoFeasibleBatchSize, TunedPredictor
from autotune.errors import EngineUnavailable, InvalidInput, InvalidSample
from autotune.models import fingerprint
from autotune.records import Failure, Progress
from tests.trouble import trouble

# Keras 3.15 saves weights by np.array(variable), which NumPy 2 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Rows = np.ndarray[Any, Any]

SMALL = Goal(max_batch_size=16)
IN_PROCESS = "Measuring in this process"

TWICE = """
    import keras

    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    def make():
        return keras.Sequential([keras.Input((10,)), Twice(), keras.layers.Dense(1)])
"""


def tune(model: Any, sample: Any, goal: Goal = SMALL, **more: Any) -> TunedPredictor:
    """Tune with a small budget."""
    return autotune.tune(model, sample, goal, budget_s=1, **more)


def assert_predicts_as(predictor: TunedPredictor, model: Any, rows: Rows) -> None:
    """See that the predictor's outputs are those of `model.predict`, for any number of rows."""
    for count in (1, 7, len(rows)):
        expected = model.predict(rows[:count], verbose=0)
        np.testing.assert_allclose(predictor.predict(rows[:count]), expected, rtol=1e-5, atol=1e-6)


def test_a_model_in_memory_is_tuned_in_a_child(mlp: Any, rows: Rows, tmp_path: Path) -> None:
    """A model in memory is measured elsewhere, predicts as before, and can be saved and loaded."""
    predictor = tune(mlp, rows)
    record = predictor.record
    assert 1 <= predictor.recommendation.batch_size <= 16
    assert record.warnings == ()
    assert record.model is not None
    assert (record.model.source, record.model.sha256) == ("object", fingerprint(mlp))
    assert (record.sample_rows, record.unavailable) == (50, {})
    assert_predicts_as(predictor, mlp, rows)
    predictor.save(tmp_path / "tuned")
    loaded = autotune.load(tmp_path / "tuned")
    assert loaded.recommendation == predictor.recommendation
    assert_predicts_as(loaded, mlp, rows)


TUNE_A_FILE = """
import sys
import numpy as np
import autotune
rows = np.ones((20, 10), np.float32)
predictor = autotune.tune(sys.argv[1], rows, autotune.Goal(max_batch_size=16), budget_s=1)
predictor.save(sys.argv[2])
slow = {"keras", "tensorflow"} & set(sys.modules)
sys.exit(f"imported {slow}" if slow else 0)
"""


def test_a_file_is_tuned_and_saved_without_a_framework(
    mlp: Any, save: Callable[..., Path], rows: Rows, tmp_path: Path
) -> None:
    """For a file the tuner itself imports no backend: the child does."""
    path, tuned = save(mlp), tmp_path / "tuned"
    command = [sys.executable, "-c", TUNE_A_FILE, str(path), str(tuned)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    loaded = autotune.load(tuned)
    assert loaded.record.model is not None
    assert loaded.record.model.source == str(path)
    assert_predicts_as(loaded, mlp, rows)


def test_a_factory_is_tuned_and_saved(write_module: Any, rows: Rows, tmp_path: Path) -> None:
    """A factory's model is made and saved in the child, and the saved one is loaded again."""
    predictor = tune(f"{write_module('own_factory', TWICE)}:make", rows)
    assert predictor.record.model is not None
    assert predictor.record.model.source == "own_factory:make"
    predictor.save(tmp_path / "tuned")
    loaded = autotune.load(tmp_path / "tuned", imports=["own_factory"])
    assert fingerprint(loaded.model) == predictor.record.model.sha256
    assert_predicts_as(loaded, loaded.model, rows)


def test_without_isolation_there_is_no_child(mlp: Any, rows: Rows) -> None:
    """With isolation="none" every probe runs in this process, and each is told before and after."""
    events: list[Progress] = []

    def note(event: Progress) -> None:
        events.append(event)
        assert psutil.Process().children() == []

    predictor = tune(mlp, rows, isolation="none", on_event=note)
    assert [event.outcome is None for event in events[:4]] == [True, False, True, False]
    assert tuple(e.outcome for e in events if e.outcome) == predictor.record.outcomes
    assert_predicts_as(predictor, mlp, rows)


def test_a_class_of_an_importable_module_travels(write_module: Any, rows: Rows) -> None:
    """A model with a class of one's own is measured in the child if a module defines the class."""
    name = write_module("own_classes", TWICE)
    model = __import__(name).make()
    predictor = tune(model, rows)
    assert predictor.record.warnings == ()
    assert_predicts_as(predictor, model, rows)


def test_a_model_that_cannot_travel_is_measured_here_with_a_warning(keras: Any, rows: Rows) -> None:
    """A Lambda layer is not sent: the model is measured in this process, and the record says so."""
    double = keras.layers.Lambda(lambda x: 2 * x, output_shape=(10,), name="double")
    model = keras.Sequential([keras.Input((10,)), double, keras.layers.Dense(1)])
    predictor = tune(model, rows)
    (warning,) = predictor.record.warnings
    assert warning.startswith(IN_PROCESS)
    assert "Lambda" in warning
    assert_predicts_as(predictor, model, rows)


def test_drawn_rows_are_a_warning(mlp: Any, save: Callable[..., Path]) -> None:
    """Where no sample was given, the record says that the rows were drawn."""
    predictor = tune(save(mlp), autotune.Synthetic(32), isolation="none")
    (warning,) = predictor.record.warnings
    assert warning.startswith("The rows were drawn at random")
    assert predictor.record.sample_rows == 32


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


def test_a_size_that_kills_the_child_is_not_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A size at which the process dies is a crash in the record, and a smaller one is found."""
    trouble(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.syspath_prepend(str(tmp_path))
    predictor = tune("trouble_module:make", np.ones((20, 10), np.float32), concurrency=[1])
    crashes = [o for o in predictor.record.outcomes if isinstance(o, Failure)]
    assert {(crash.kind, crash.candidate.batch_size) for crash in crashes} == {("crash", 16)}
    assert predictor.recommendation.batch_size < 16


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
    assert os.getpid() == psutil.Process().pid
