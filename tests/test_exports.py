"""Exporting a model: once, silently, proved, or refused in one sentence."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import engines, exports
from autotune.converters import quiet
from autotune.errors import EngineUnavailable
from autotune.exports import Exports
from autotune.flattening import MOST_STEPS
from autotune.nesting import head
from autotune.parity import Parity
from autotune.signature import Signature
from tests.exported import (
    Case,
    bidirectional,
    dicts,
    mlp,
    recurrent_of_fixed_length,
    stateful,
    text,
)

FORMS = [
    pytest.param("onnx", marks=[pytest.mark.needs("onnxruntime"), pytest.mark.needs("tf2onnx")]),
    pytest.param("openvino", marks=pytest.mark.needs("openvino")),
]
every_form = pytest.mark.parametrize("form", FORMS)


@every_form
def test_a_model_is_exported_once(keras: Any, tmp_path: Path, form: str) -> None:
    """Asked again, the folder is the one that is there; nothing is written anew."""
    model, rows = mlp(keras)
    made = Exports(model, rows[:1], tmp_path)
    folder = made.folder_of(form)
    (folder / "mark").touch()
    assert made.folder_of(form) == folder
    assert (folder / "mark").exists()


@every_form
def test_an_export_prints_nothing(
    keras: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], form: str
) -> None:
    """Neither Keras nor a converter says anything, on either stream."""
    model, rows = dicts(keras)
    model.predict_on_batch(head(rows, 1))
    capfd.readouterr()
    Exports(model, head(rows, 1), tmp_path).folder_of(form)
    captured = capfd.readouterr()
    lines = (captured.out + captured.err).splitlines()
    assert [line for line in lines if not line.startswith(("I0000", "W0000", "WARNING: All"))] == []


@pytest.mark.needs("openvino_telemetry")
def test_an_export_is_not_reported_over_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO's converter believes that it runs in a test, and only while it converts."""
    import openvino_telemetry

    monkeypatch.delenv("CI", raising=False)
    with quiet():
        told = openvino_telemetry.Telemetry(
            *("OVC", "1", "none"), backend=None, enable_opt_in_dialog=False, disable_in_ci=True
        )
        assert not told.consent
    assert "CI" not in os.environ


@every_form
def test_the_model_is_as_it_was(keras: Any, tmp_path: Path, form: str) -> None:
    """After an export the model answers as before, and saves under its old names."""
    model, rows = mlp(keras)
    names, before = [weight.path for weight in model.weights], model.predict_on_batch(rows)
    Exports(model, rows[:1], tmp_path).folder_of(form)
    assert [weight.path for weight in model.weights] == names
    np.testing.assert_array_equal(model.predict_on_batch(rows), before)


@every_form
def test_the_signature_tells_what_goes_in_and_comes_out(
    keras: Any, tmp_path: Path, form: str
) -> None:
    """Names, dtypes and shapes of a row, in the nesting of the rows; None for a free axis."""
    model, rows = dicts(keras)
    signature = Signature.load(Exports(model, head(rows, 1), tmp_path).folder_of(form))
    assert [(p.dtype, p.shape) for p in signature.inputs] == [
        *[("float32", (4,)), ("float32", (3,)), ("float32", (4,))]
    ]
    assert set(signature.input_layout["dict"]) == {"z", "b", "idle"}
    assert set(signature.output_layout["dict"]) == {"y", "a", "same"}


@pytest.mark.needs("tf2onnx")
@pytest.mark.needs("onnxruntime")
def test_free_axes_stay_free_and_dtypes_are_the_models(keras: Any, tmp_path: Path) -> None:
    """A free length is None, and tokens go in as the model takes them, not as the sample has."""
    model, rows = bidirectional(keras)
    signature = Signature.load(Exports(model, rows[:1], tmp_path).folder_of("onnx"))
    assert [(port.dtype, port.shape) for port in signature.inputs] == [("int32", (None,))]


@every_form
@pytest.mark.parametrize(("case", "words"), [(text, "takes text"), (stateful, "carries state")])
def test_text_and_state_are_refused(
    keras: Any, tmp_path: Path, form: str, case: Callable[[Any], Case], words: str
) -> None:
    """A model on text or with state is refused in one sentence, which is all that is left."""
    model, rows = case(keras)
    with pytest.raises(EngineUnavailable, match=words) as caught:
        Exports(model, rows[:1], tmp_path).folder_of(form)
    assert "\n" not in str(caught.value)
    (note,) = tmp_path.iterdir()
    assert note.read_text() == str(caught.value)


@every_form
def test_a_model_that_predicts_in_its_own_way_is_refused(
    keras: Any, tmp_path: Path, form: str
) -> None:
    """An export runs `call`: a class that overrides how Keras predicts would lose its way."""

    class Own(keras.Sequential):  # type: ignore[misc]
        def predict_step(self, data: Any) -> Any:
            return self(data) + 1

    with pytest.raises(EngineUnavailable, match=r"overrides predict_step\("):
        Exports(Own([keras.Input((2,))]), np.ones((1, 2), np.float32), tmp_path).folder_of(form)


@every_form
def test_an_export_that_fails_is_not_tried_again(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """What failed fails again with the same words, without another try; in the next process too."""
    model, rows = mlp(keras)
    tries = []

    def fail(*_: Any) -> Any:
        tries.append(1)
        raise RuntimeError("the exporter\nbroke")

    monkeypatch.setattr(exports, "flattened", fail)
    made, next_process = (Exports(model, rows[:1], tmp_path) for _ in range(2))
    for exporter in (made, made, next_process):
        with pytest.raises(EngineUnavailable, match="RuntimeError: the exporter broke"):
            exporter.folder_of(form)
    assert len(tries) == 1


@every_form
def test_an_export_that_ends_its_process_is_not_tried_again(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The one that measures must not die of it as well."""
    model, rows = mlp(keras)

    def die(*_: Any) -> Any:
        raise KeyboardInterrupt  # as near to a signal as a test may come

    monkeypatch.setattr(exports, "flattened", die)
    with pytest.raises(KeyboardInterrupt):
        Exports(model, rows[:1], tmp_path).folder_of(form)
    with pytest.raises(EngineUnavailable, match="ended the process that made it"):
        Exports(model, rows[:1], tmp_path).folder_of(form)


@every_form
def test_what_another_process_has_exported_is_taken(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Converters take memory that would be missing where batches are measured."""
    model, rows = mlp(keras)
    made = Exports(model, rows[:1], tmp_path).folder_of(form)
    monkeypatch.setattr(exports, "flattened", None)
    assert Exports(model, rows[:1], tmp_path).folder_of(form) == made


@every_form
def test_an_export_that_changes_the_answer_is_refused(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Every export is opened and compared with the model, and dropped if it disagrees."""
    model, rows = mlp(keras)
    monkeypatch.setattr(exports, "compare", lambda *_: Parity(complaint="the output is wrong"))
    with pytest.raises(EngineUnavailable, match="its answers change: the output is wrong"):
        Exports(model, rows[:1], tmp_path).folder_of(form)


@pytest.mark.needs("tf2onnx")
@pytest.mark.needs("onnxruntime")
def test_weights_too_large_for_a_file_are_refused(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ONNX file ends at 2 GB: larger weights are refused before the export begins."""
    model, rows = mlp(keras)
    monkeypatch.setattr(exports, "ONNX_LIMIT_BYTES", 100)
    with pytest.raises(EngineUnavailable, match="an ONNX file holds 2 GB"):
        Exports(model, rows[:1], tmp_path).folder_of("onnx")


@every_form
def test_an_engine_without_exports_makes_one_for_as_long_as_it_lives(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The temporary folder of an engine is there while the engine is, and goes with it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    name = next(name for name, format_ in engines.FORMATS.items() if format_ == form)
    model, rows = mlp(keras)
    engine = engines.build(name, model, rows[:1])
    assert engines.difference(engine(rows), model.predict_on_batch(rows)) is None
    assert len(list(tmp_path.glob("autotune-*"))) == 1
    del engine
    gc.collect()
    assert list(tmp_path.glob("autotune-*")) == []


@pytest.mark.needs("openvino")
@pytest.mark.needs("onnxruntime")
@pytest.mark.needs("tf2onnx")
def test_an_export_leaves_logging_as_it_was(keras: Any, tmp_path: Path) -> None:
    """Of the whole program: what others log must not be lost, or printed twice."""
    root = logging.getLogger()
    before = root.level, root.filters[:], root.handlers[:]
    model, rows = mlp(keras)
    exports = Exports(model, rows[:1], tmp_path)
    for form in ("onnx", "openvino"):
        exports.folder_of(form)
    assert (root.level, root.filters, root.handlers) == before


@pytest.mark.needs("openvino")
def test_recurrent_layers_are_unrolled_for_the_export_alone(keras: Any, tmp_path: Path) -> None:
    """The model is as it was; sequences beyond a length are left to engines that know loops."""
    model, rows = recurrent_of_fixed_length(keras)
    Exports(model, rows[:1], tmp_path).folder_of("openvino")
    assert not [layer for layer in model._flatten_layers() if getattr(layer, "unroll", False)]
    long = keras.Sequential([keras.Input((MOST_STEPS + 1, 2)), keras.layers.GRU(2)])
    with pytest.raises(EngineUnavailable, match="no rule for the operation TensorList"):
        Exports(long, np.zeros((1, MOST_STEPS + 1, 2), "f"), tmp_path / "l").folder_of("openvino")


@pytest.mark.needs("openvino")
def test_masked_sequences_are_not_unrolled(keras: Any, tmp_path: Path) -> None:
    """Keras's `Bidirectional` gives other answers then, for rows that are padded."""
    layers = keras.layers
    stack = [layers.Embedding(50, 4, mask_zero=True), layers.Bidirectional(layers.LSTM(3))]
    model = keras.Sequential([keras.Input((6,), dtype="int32"), *stack])
    with pytest.raises(EngineUnavailable, match="no rule for the operation TensorList"):
        Exports(model, np.ones((1, 6), "int32"), tmp_path).folder_of("openvino")
