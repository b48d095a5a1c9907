"""The whole story: model and sample in, tuned predictor out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import autotune
from autotune import Goal, TunedPredictor
from autotune.engines import FORMATS
from autotune.errors import InvalidInput
from autotune.models import fingerprint
from autotune.outcomes import Failure
from autotune.records import Progress
from autotune.rehearsals import LOADS
from tests.trouble import trouble
from tests.tunings import own

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
    """Tune with a small budget; unless others are asked for, with engines that need no export."""
    more.setdefault("engines", ["keras", "compiled"])
    return autotune.tune(model, sample, goal, budget_s=1, **more)


def assert_predicts_as(predictor: TunedPredictor, model: Any, rows: Rows) -> None:
    """See that the predictor's outputs are those of `model.predict`, for any number of rows."""
    for count in (1, 7, len(rows)):
        expected = model.predict(rows[:count], verbose=0)
        np.testing.assert_allclose(predictor.predict(rows[:count]), expected, rtol=1e-5, atol=1e-6)


def test_a_model_in_memory_is_tuned_in_a_child(mlp: Any, rows: Rows, tmp_path: Path) -> None:
    """A model in memory is measured elsewhere, predicts as before, and can be saved and loaded."""
    predictor = tune(mlp, rows, engines=None)
    record = predictor.record
    assert 1 <= predictor.recommendation.batch_size <= 16
    assert own(record.warnings) == ()
    assert record.model is not None
    assert (record.model.source, record.model.sha256) == ("object", fingerprint(mlp))
    assert record.sample_rows == 50
    assert set(record.unavailable) <= set(FORMATS)  # where their packages are missing
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
    before = psutil.Process().children()  # such as the servers of other tests

    def note(event: Progress) -> None:
        events.append(event)
        assert set(psutil.Process().children()) <= set(before)

    predictor = tune(mlp, rows, isolation="none", on_event=note)
    probes = len(predictor.record.outcomes)  # on a busy machine the first may take all the time
    assert [event.outcome is None for event in events] == [True, False] * probes
    assert tuple(e.outcome for e in events if e.outcome) == predictor.record.outcomes
    assert_predicts_as(predictor, mlp, rows)


def test_the_answer_is_rehearsed(mlp: Any, rows: Rows, tmp_path: Path) -> None:
    """It serves requests at each rate; the record holds the calls, and keeps them in its file."""
    predictor = autotune.tune(
        mlp, rows, Goal(max_batch_size=4), engines=["keras"], concurrency=[1], budget_s=5.0
    )
    rehearsals = predictor.record.rehearsals
    assert len({each.rows_per_s for each in rehearsals}) == len(LOADS)
    for each in rehearsals:
        assert each.candidate == predictor.recommendation.candidate
        assert max(each.rows) <= predictor.recommendation.batch_size
        assert each.warm_s is not None
    predictor.record.save(tmp_path / "record.json")
    assert autotune.TuningRecord.load(tmp_path / "record.json") == predictor.record


def test_a_class_of_an_importable_module_travels(write_module: Any, rows: Rows) -> None:
    """A model with a class of one's own is measured in the child if a module defines the class."""
    name = write_module("own_classes", TWICE)
    model = __import__(name).make()
    predictor = tune(model, rows)
    assert own(predictor.record.warnings) == ()
    assert_predicts_as(predictor, model, rows)


def test_a_model_that_cannot_travel_is_measured_here_with_a_warning(keras: Any, rows: Rows) -> None:
    """A Lambda layer is not sent: the model is measured in this process, and the record says so."""
    double = keras.layers.Lambda(lambda x: 2 * x, output_shape=(10,), name="double")
    model = keras.Sequential([keras.Input((10,)), double, keras.layers.Dense(1)])
    predictor = tune(model, rows)
    (warning,) = own(predictor.record.warnings)
    assert warning.startswith(IN_PROCESS)
    assert "Lambda" in warning
    assert ". To have it measured in a process of its own" in warning
    assert_predicts_as(predictor, model, rows)


def test_drawn_rows_are_a_warning(mlp: Any, save: Callable[..., Path]) -> None:
    """Where no sample was given, the record says that the rows were drawn."""
    predictor = tune(save(mlp), autotune.Synthetic(32), isolation="none")
    (warning,) = own(predictor.record.warnings)
    assert warning.startswith("The rows were drawn at random")
    assert predictor.record.sample_rows == 32


def test_a_model_that_does_not_survive_the_way_is_measured_here(
    write_module: Any, rows: Rows
) -> None:
    """A model that gives other answers after saving and loading is not measured elsewhere."""
    module = __import__(write_module("own_classes", TWICE))
    model = module.make()
    model.layers[0].call = lambda x: 3 * x  # Keras saves no such thing
    predictor = tune(model, rows)
    (warning,) = own(predictor.record.warnings)
    assert warning.startswith(IN_PROCESS)
    assert "does not survive being saved and loaded: the output differs" in warning
    assert_predicts_as(predictor, model, rows)


UNSAVEABLE = """
    import keras

    class Calls(keras.layers.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def call(self, x):
            return self.function(x)

    def make():
        return keras.Sequential([keras.Input((10,)), Calls(abs)])
"""


def test_a_factory_whose_model_cannot_be_saved_is_tuned_with_a_warning(
    write_module: Any, rows: Rows, tmp_path: Path
) -> None:
    """Such a model is tuned and predicts; saving the predictor is refused, and was foretold."""
    predictor = tune(f"{write_module('own_factory', UNSAVEABLE)}:make", rows)
    (warning,) = own(predictor.record.warnings)
    assert warning.startswith("The model cannot be saved, so the predictor cannot be either")
    np.testing.assert_array_equal(predictor.predict(rows), np.abs(rows))
    with pytest.raises(InvalidInput, match="The model cannot be saved"):
        predictor.save(tmp_path / "tuned")


def test_a_size_that_kills_the_child_is_not_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A size at which the process dies is a crash in the record, and a smaller one is found."""
    trouble(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.syspath_prepend(str(tmp_path))
    sample = np.ones((20, 10), np.float32)
    predictor = autotune.tune("trouble_module:make", sample, SMALL, concurrency=[1], budget_s=5)
    crashes = [o for o in predictor.record.outcomes if isinstance(o, Failure)]
    assert {(crash.kind, crash.candidate.batch_size) for crash in crashes} == {("crash", 16)}
    assert predictor.recommendation.batch_size < 16
