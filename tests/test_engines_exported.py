"""What the engines promise that run an exported model, without Keras."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from autotune import engines, host
from autotune.engines import open_exported
from autotune.engines.openvino import OpenVinoEngine
from autotune.errors import EngineUnavailable, InvalidRecord
from autotune.exports import Exports
from autotune.nesting import flatten, head
from autotune.parity import compare, tolerance_of
from tests.exported import BOTH, RECURRENT, Case, bidirectional, dicts, gru, mlp

SIZES = (1, 2, 3, 7, 64, 65)

NAMES = [pytest.param(name, marks=pytest.mark.needs(name)) for name in engines.FORMATS]
# OpenVINO has a program for each size only where weights are light.
KINDS = [
    *(pytest.param(name, False, marks=pytest.mark.needs(name)) for name in engines.FORMATS),
    pytest.param("openvino", True, marks=pytest.mark.needs("openvino"), id="openvino-heavy"),
]
every_kind = pytest.mark.parametrize(("name", "heavy"), KINDS)
every_engine = pytest.mark.parametrize("name", NAMES)
PAIRS = [
    pytest.param(name, case, marks=pytest.mark.needs(name), id=f"{name}-{case.__name__}")
    for name in engines.FORMATS
    for case in (*BOTH, *(RECURRENT if name == "onnxruntime" else []))
]


@pytest.fixture
def export(tmp_path: Path) -> Callable[[str, Any, Any], Path]:
    """Export a model for an engine and return the folder."""

    def to_folder(name: str, model: Any, rows: Any) -> Path:
        return Exports(model, head(rows, 1), tmp_path).folder_of(engines.FORMATS[name])

    return to_folder


Export = Callable[[str, Any, Any], Path]


@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_outputs_are_those_of_predict_on_batch(
    keras: Any, export: Export, name: str, case: Callable[[Any], Case]
) -> None:
    """At every size: the nesting, dtypes and values of `predict_on_batch`, in arrays of NumPy."""
    model, rows = case(keras)
    engine = open_exported(name, export(name, model, rows))
    for size in SIZES:
        batch = head(rows, size)
        got = engine(batch)
        expected = model.predict_on_batch(batch)
        assert compare(got, expected, *tolerance_of(model)).complaint is None
        assert {type(leaf) for leaf in flatten(got)[0]} == {np.ndarray}


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("case", RECURRENT)
def test_another_length_runs_where_the_model_leaves_it_free(
    keras: Any, export: Export, case: Callable[[Any], Case]
) -> None:
    """An engine made from rows of one length runs rows of another, shorter and longer."""
    model, rows = case(keras)
    engine = open_exported("onnxruntime", export("onnxruntime", model, rows))
    for other in (rows[:5, :2], np.concatenate([rows, rows, rows], axis=1)[:3]):
        assert compare(engine(other), model.predict_on_batch(other)).complaint is None


@pytest.mark.needs("openvino")
@pytest.mark.parametrize("case", [gru, bidirectional])
def test_openvino_refuses_recurrent_layers_over_a_free_length(
    keras: Any, case: Callable[[Any], Case]
) -> None:
    """OpenVINO's converter does not know their loops, and these cannot be written down."""
    model, rows = case(keras)
    with pytest.raises(
        EngineUnavailable, match="its converter has no rule for the operation TensorList"
    ) as caught:
        engines.build("openvino", model, rows[:1])
    assert "\n" not in str(caught.value)


@pytest.mark.needs("openvino")
@pytest.mark.parametrize(("light_bytes", "programs"), [(2**20, 3), (0, 1)])
def test_openvino_has_a_program_for_each_size_where_weights_are_light(
    keras: Any, export: Export, monkeypatch: pytest.MonkeyPatch, light_bytes: int, programs: int
) -> None:
    """Three at most are kept here, else one serves all sizes; the answers are the same."""
    monkeypatch.setattr("autotune.signature.LIGHT_BYTES", light_bytes)
    monkeypatch.setattr("autotune.engines.openvino.MOST_PROGRAMS", 3)
    model, rows = mlp(keras)
    engine = cast(OpenVinoEngine, open_exported("openvino", export("openvino", model, rows)))
    assert engine.compiles_per_shape == (light_bytes > 0)
    for size in (*SIZES, *reversed(SIZES)):
        expected = model.predict_on_batch(rows[:size])
        assert compare(engine(rows[:size]), expected, *tolerance_of(model)).complaint is None
    assert len(engine._programs) == programs


@pytest.mark.needs("openvino")
def test_openvino_has_one_program_where_a_length_is_free(keras: Any, export: Export) -> None:
    """There would be some for each length; rows of another one run all the same."""
    layers = keras.layers
    model = keras.Sequential([keras.Input((None, 4)), layers.Conv1D(3, 2, padding="same")])
    rows = np.random.default_rng(0).normal(size=(8, 10, 4)).astype(np.float32)
    engine = open_exported("openvino", export("openvino", model, rows))
    assert not engine.compiles_per_shape
    for batch in (rows, rows[:3, :5], rows[:5]):
        assert compare(engine(batch), model.predict_on_batch(batch)).complaint is None


@every_engine
def test_each_thread_gets_its_own_answer(keras: Any, export: Export, name: str) -> None:
    """Under four threads, with batches of several sizes, every caller gets its rows' outputs."""
    model, rows = mlp(keras)
    folder = export(name, model, rows)
    batches = [rows[start : start + 1 + start % 5] for start in range(40)]
    for concurrency in (1, 4):
        engine = open_exported(name, folder, threads=1, concurrency=concurrency)
        expected = [engine(batch) for batch in batches]
        with ThreadPoolExecutor(4) as pool:
            got = list(pool.map(engine, batches * 25))
        for outputs, wanted in zip(got, expected * 25, strict=True):
            np.testing.assert_allclose(outputs, wanted, rtol=1e-5, atol=1e-6)


@every_engine
def test_earlier_outputs_stay_and_rows_are_not_written_to(
    keras: Any, export: Export, name: str
) -> None:
    """Outputs are the caller's to keep; also one that is an input passed through."""
    model, rows = dicts(keras)
    engine, kept = open_exported(name, export(name, model, rows)), head(rows, 5)
    before = {key: array.copy() for key, array in kept.items()}
    first = engine(kept)
    copy = {key: array.copy() for key, array in first.items()}
    engine(head(rows, 5, 5))
    for key, array in first.items():
        np.testing.assert_array_equal(array, copy[key])
    for key, array in kept.items():
        np.testing.assert_array_equal(array, before[key])
        assert not np.shares_memory(array, first["same"])


@every_engine
def test_rows_of_another_dtype_or_layout_are_cast_as_keras_casts_them(
    keras: Any, export: Export, name: str
) -> None:
    """Doubles, whole numbers, every second row, columns first and read-only rows all run."""
    model, rows = mlp(keras)
    engine = open_exported(name, export(name, model, rows))
    frozen = rows[:7].copy()
    frozen.flags.writeable = False
    for other in (rows.astype(np.float64), (rows * 9).astype(np.int64), rows[::2], frozen):
        assert compare(engine(other), model.predict_on_batch(other)).complaint is None
    columns_first = np.asfortranarray(rows)
    assert compare(engine(columns_first), model.predict_on_batch(rows)).complaint is None


@every_engine
def test_no_rows_give_no_answers(keras: Any, export: Export, name: str) -> None:
    """A batch without rows is answered with arrays without rows."""
    model, rows = mlp(keras)
    assert open_exported(name, export(name, model, rows))(rows[:0]).shape == (0, 3)


@every_engine
def test_a_bad_batch_does_not_spoil_the_next(keras: Any, export: Export, name: str) -> None:
    """After rows of a wrong shape were refused, right ones get their answer."""
    model, rows = mlp(keras)
    engine = open_exported(name, export(name, model, rows))
    with pytest.raises(Exception, match=r"(?i)dimension|shape"):
        engine(rows[:, :4])
    assert compare(engine(rows), model.predict_on_batch(rows)).complaint is None


def run_apart(source: str, *arguments: str) -> str:
    """Run a program where neither Keras nor any of its backends can be imported."""
    block = "import sys\nfor name in ('keras', 'tensorflow', 'jax', 'torch', 'optuna'):\n"
    program = f"{block}    sys.modules[name] = None\n{textwrap.dedent(source)}"
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@every_engine
def test_an_exported_folder_answers_where_there_is_no_keras(
    keras: Any, export: Export, tmp_path: Path, name: str
) -> None:
    """A process that cannot import Keras opens the folder and gives the right answers."""
    model, rows = dicts(keras)
    folder = export(name, model, rows)
    np.savez(tmp_path / "rows.npz", **rows)
    said = run_apart(
        """
        import pathlib, numpy
        from autotune.engines import open_exported
        name, folder, home = sys.argv[1:]
        home = pathlib.Path(home)
        rows = dict(numpy.load(home / "rows.npz"))
        numpy.savez(home / "answers.npz", **open_exported(name, pathlib.Path(folder))(rows))
        """,
        *(name, str(folder), str(tmp_path)),
    )
    assert said == ""
    with np.load(tmp_path / "answers.npz") as answers:
        got = dict(answers)
    assert compare(got, model.predict_on_batch(rows)).complaint is None


@every_kind
def test_the_next_batch_runs_after_memory_ran_out(
    keras: Any, export: Export, name: str, heavy: bool
) -> None:
    """What these engines say when memory runs out is recognised, and smaller batches still run."""
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(64, 3)])
    folder = export(name, model, np.ones((1, 28, 28, 1), np.float32))
    said = run_apart(
        """
        import pathlib, resource, numpy, psutil
        import autotune.signature
        from autotune.engines import open_exported
        from autotune.errors import is_out_of_memory
        if sys.argv[3] == "True":
            autotune.signature.LIGHT_BYTES = 0
        engine = open_exported(sys.argv[1], pathlib.Path(sys.argv[2]), threads=1)
        rows = numpy.ones((20000, 28, 28, 1), numpy.float32)
        expected = engine(rows[:8])
        limit = psutil.Process().memory_info().vms + 300 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for _ in range(2):
            try:
                engine(rows)
            except Exception as error:
                print(is_out_of_memory(error))
            print(numpy.allclose(engine(rows[:8]), expected))
        """,
        *(name, str(folder), str(heavy)),
    )
    assert said.split() == ["True"] * 4
    assert open_exported(name, folder).survives_shortage


@every_kind
def test_memory_kept_for_the_next_calls_is_let_go_of(
    keras: Any, export: Export, monkeypatch: pytest.MonkeyPatch, name: str, heavy: bool
) -> None:
    """After a large batch most of what the session grew by goes, and the next answer is right."""
    if heavy:
        monkeypatch.setattr("autotune.signature.LIGHT_BYTES", 0)
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(32, 3)])
    example = np.ones((1, 28, 28, 1), np.float32)
    engine = open_exported(name, export(name, model, example))
    expected = engine(example)
    before = resident_bytes()
    engine(np.ones((2_000, 28, 28, 1), np.float32))
    kept = resident_bytes() - before
    engine.release(example)
    assert kept > 64 * 2**20
    assert resident_bytes() - before < kept / 2
    np.testing.assert_allclose(engine(example), expected, rtol=1e-5, atol=1e-6)


def resident_bytes() -> int:
    """What the process holds, without what the C library keeps of freed memory."""
    host.give_back_free_memory()
    return host.resident_bytes()


@pytest.mark.parametrize("name", engines.FORMATS)
def test_what_is_not_installed_is_refused_with_the_command_that_installs_it(
    keras: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Without its package an engine is refused at once, before anything is exported."""
    model, rows = mlp(keras)
    command = rf"pip install 'keras-autotune\[{engines.FORMATS[name]}\]'"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineUnavailable, match=command):
        open_exported(name, tmp_path)
    with pytest.raises(EngineUnavailable, match=command):
        engines.build(name, model, rows[:1])


@every_engine
def test_a_folder_without_a_model_is_refused(tmp_path: Path, name: str) -> None:
    """A folder without a signature, or with a file that is no model, is refused."""
    with pytest.raises(InvalidRecord, match="cannot be read as an exported model"):
        open_exported(name, tmp_path)


@every_engine
def test_a_damaged_file_is_refused(keras: Any, export: Export, name: str) -> None:
    """A model file that was cut short is refused in one line."""
    model, rows = mlp(keras)
    folder = export(name, model, rows)
    file = next(path for path in folder.iterdir() if path.suffix in (".onnx", ".xml"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(EngineUnavailable, match="cannot open the exported model") as caught:
        open_exported(name, folder)
    assert "\n" not in str(caught.value)


def test_an_engine_that_runs_no_export_cannot_open_one(tmp_path: Path) -> None:
    """Asking for an exported model of `keras` names the engines that have one."""
    with pytest.raises(EngineUnavailable, match="onnxruntime, openvino do"):
        open_exported("keras", tmp_path)
