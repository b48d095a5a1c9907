"""What runs batches in production: other threads, other packages, and no Keras at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autotune
from autotune import Candidate, TunedPredictor, artifact, engines
from autotune.errors import InvalidRecord, InvalidSample
from autotune.exports import Exports
from autotune.fingerprint import look_around, look_at
from autotune.nesting import head
from autotune.records import Round
from tests import exported
from tests.blocks import timed
from tests.tunings import recommending, replaced, tuned_on

TWO_ENGINES = ["onnxruntime", "openvino"]

NO_KERAS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"keras", "tensorflow", "optuna", "typer", "rich", "pynvml"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
import numpy, autotune
predictor = autotune.load(sys.argv[1])
x = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], predictor.predict(x))
predictor.save(sys.argv[4])
print(predictor.recommendation.engine)
"""


def record_of(way: Candidate, model: Any, *more: Any) -> Any:
    """A record of this machine that recommends a way of running; with other measurements."""
    outcomes = (timed(way.batch_size, 0.1, way.engine), *more)
    record = tuned_on(look_around().machine, look_at(model), outcomes=outcomes)
    rounds = (Round("search", len(outcomes), 0),)
    return recommending(replaced(record, rounds=rounds), way)


@pytest.fixture
def tuned(keras: Any, tmp_path: Path) -> tuple[Path, Any, Any]:
    """A tuned folder for ONNX Runtime, its model, and rows."""
    model, rows = exported.mlp(keras)
    return folder_of(tmp_path, model, rows, "onnxruntime"), model, rows


def folder_of(tmp_path: Path, model: Any, rows: Any, engine: str, **way: Any) -> Path:
    """Export a model, and write a tuned folder that recommends the engine."""
    exports = tmp_path / "exports"
    Exports(model, head(rows, 1), exports).folder_of(engines.FORMATS[engine])
    folder = tmp_path / "tuned"
    artifact.write(folder, record_of(Candidate(16, engine, **way), model), model.save, exports)
    return folder


@pytest.mark.parametrize("engine", TWO_ENGINES)
@pytest.mark.parametrize("flights", [1, 2])
def test_an_exported_model_predicts_without_keras(
    keras: Any, tmp_path: Path, engine: str, flights: int
) -> None:
    """Neither Keras nor TensorFlow nor Optuna can be imported; the answers are the model's."""
    pytest.importorskip(engine)
    model, rows = exported.mlp(keras)
    folder = folder_of(tmp_path, model, rows, engine, concurrency=flights, threads=1)
    np.save(tmp_path / "x.npy", rows)
    places = [folder, tmp_path / "x.npy", tmp_path / "y.npy", tmp_path / "again"]
    command = [sys.executable, "-c", NO_KERAS, *map(str, places)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.split() == [engine]
    expected = model.predict(rows, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-4, atol=1e-6)
    assert engines.FORMATS[engine] in {path.name for path in (tmp_path / "again").iterdir()}


@pytest.mark.needs("onnxruntime")
def test_the_keras_model_is_there_for_who_asks(tuned: tuple[Path, Any, Any]) -> None:
    """It is opened then, and not before."""
    folder, model, _ = tuned
    predictor = autotune.load(folder)
    assert predictor.model.count_params() == model.count_params()


@pytest.mark.needs("onnxruntime")
def test_inputs_may_be_nested_otherwise_than_they_were_exported(keras: Any, tmp_path: Path) -> None:
    """By name or in the model's order: no input takes another's place."""
    model, rows = exported.dicts(keras)
    folder = folder_of(tmp_path, model, rows, "onnxruntime")
    predictor = autotune.load(folder)
    expected = model.predict(rows, verbose=0)
    names = [tensor.name for tensor in model.inputs]
    for given in (rows, [rows[name] for name in names], dict(reversed(rows.items()))):
        found = predictor.predict(given)
        for key, values in expected.items():
            np.testing.assert_allclose(found[key], values, rtol=1e-4, atol=1e-5)


@pytest.mark.needs("onnxruntime")
def test_the_name_of_the_only_input_is_decoration(tuned: tuple[Path, Any, Any]) -> None:
    """As to Keras, so without it: an archive may call its array what it likes."""
    folder, _, rows = tuned
    predictor = autotune.load(folder)
    np.testing.assert_array_equal(predictor.predict({"data": rows}), predictor.predict(rows))


@pytest.mark.needs("onnxruntime")
def test_rows_that_do_not_fit_are_refused_without_keras(tuned: tuple[Path, Any, Any]) -> None:
    """By what the record tells of the model's inputs."""
    with pytest.raises(InvalidSample, match=r"shape \(rows, 9\)"):
        autotune.load(tuned[0]).predict(np.ones((3, 9), np.float32))


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/signature.json"])
@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_damaged_export_is_refused(tuned: tuple[Path, Any, Any], name: str, damage: str) -> None:
    """As any other file of the folder is."""
    path = tuned[0] / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InvalidRecord, match=name):
        autotune.load(tuned[0])


@pytest.mark.needs("onnxruntime")
def test_without_the_engines_package_the_next_best_is_taken(
    tuned: tuple[Path, Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was measured with Keras, and a warning that names the package."""
    folder, model, rows = tuned
    others = [timed(size, 0.01 * size**0.5) for size in (4, 32)]
    record = record_of(Candidate(16, "onnxruntime"), model, *others)
    artifact.write(folder, record, model.save, folder)
    why = "The 'onnxruntime' engine needs a package that is not installed."
    monkeypatch.setattr(engines, "why_not_installed", lambda _: why)
    predictor = autotune.load(folder)
    assert predictor.recommendation.candidate == Candidate(32)
    assert f"{why} Running 32 rows, keras" in caplog.text
    expected = model.predict(rows, verbose=0)
    np.testing.assert_allclose(predictor.predict(rows), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("first", ["predict", "stream"])
def test_where_threads_cannot_be_set_any_more_the_best_without_is_taken(
    mlp: Any, rows: Any, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    """TensorFlow has begun in this process, with as many threads as it likes."""
    mlp.predict_on_batch(rows[:4])
    others = [timed(size, 0.01 * size**0.5) for size in (4, 32)]
    way = Candidate(16, concurrency=2, threads=1)
    predictor = TunedPredictor(record_of(way, mlp, *others), lambda: mlp, mlp.save)
    expected = mlp.predict(rows, verbose=0)
    answers = predictor.predict(rows) if first == "predict" else next(predictor.stream([rows]))
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-6)
    assert predictor.recommendation.candidate == Candidate(32)
    assert predictor.stats.largest_ran == min(32, len(rows)), "by the size of what cannot be run"
    assert predictor.hold_to_memory() == 32, "held to the size of what cannot be run"
    assert "threads of one call cannot be set to 1 in this process any more" in caplog.text


def test_where_nothing_else_was_measured_the_reference_runs(mlp: Any, rows: Any) -> None:
    """One batch of the tuned size at a time."""
    mlp.predict_on_batch(rows[:4])
    record = record_of(Candidate(16, "compiled", concurrency=2, threads=1), mlp)
    predictor = TunedPredictor(replaced(record, rounds=(), outcomes=()), lambda: mlp, mlp.save)
    predictor.predict(rows)
    assert predictor.recommendation.candidate == Candidate(16)


def test_a_fresh_process_sets_the_threads(mlp: Any, tmp_path: Path) -> None:
    """Before TensorFlow runs for the first time: then the tuned way is taken."""
    folder = tmp_path / "tuned"
    artifact.write(folder, record_of(Candidate(16, concurrency=2, threads=1), mlp), mlp.save)
    code = (
        "import sys, autotune, numpy; p = autotune.load(sys.argv[1]);"
        "p.predict(numpy.ones((40, 10), 'float32'));"
        "import tensorflow as tf;"
        "print(p.recommendation.threads, tf.config.threading.get_intra_op_parallelism_threads())"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]


def test_what_must_be_installed_stands_beside_it(mlp: Any, tmp_path: Path) -> None:
    """At the versions that were measured; for an exported model no Keras."""
    for engine, package in (("keras", "keras"), ("onnxruntime", "onnxruntime")):
        folder = tmp_path / engine
        artifact.write(folder, record_of(Candidate(16, engine), mlp), mlp.save)
        lines = (folder / "requirements.txt").read_text().splitlines()
        names = {line.partition("==")[0] for line in lines}
        assert {"numpy", "msgspec", package} <= names
        assert ("tensorflow" in names) == (engine == "keras")
        assert f"numpy=={np.__version__}" in lines
