"""A model exported for engines that run without Keras: made once, proved, and described.

Keras's own `model.export` writes the files. Exports that fail or change the answer are common,
so each is opened and compared with the model before anyone may use it.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.converters import ends_of, mend_tf2onnx, quiet, reason_of
from autotune.engines.onnxruntime import OnnxRuntimeEngine
from autotune.engines.openvino import OpenVinoEngine
from autotune.errors import EngineUnavailable
from autotune.flattening import flattened, input_ports, refuse_what_has_no_export, unrolled
from autotune.nesting import Array, Nested, flatten, revive
from autotune.parity import compare, tolerance_of
from autotune.signature import FILE_NAME, Port, Signature, layout_of

if TYPE_CHECKING:
    import keras

SIZES = (3, 1, 4)  # rows to compare: no size may have been written into the file
ONNX_LIMIT_BYTES = 2 * 10**9  # an ONNX file is a protobuf message, which ends at 2 GiB
_NAMES = {"onnx": "ONNX", "openvino": "OpenVINO"}
_FILES = {"onnx": "model.onnx", "openvino": "model.xml"}


class Exports:
    """Folders with a model exported to ONNX and to OpenVINO, each made when first asked for.

    Args:
        model: The model.
        example: A batch as it will come: its nesting, shapes and dtypes.
        folder: Where to make them. What is there already, of the same model and example, is
            taken as it is.
    """

    def __init__(self, model: keras.Model, example: Nested, folder: Path) -> None:
        self._model = model
        self._example = example
        self._folder = folder
        self._made: dict[str, Path | str] = {}
        self._lock = threading.RLock()

    def folder_of(self, form: str) -> Path:
        """Return the folder with the model in one format, "onnx" or "openvino".

        Raises:
            EngineUnavailable: The model cannot be exported to it; the message says why in one
                sentence. Asked again, it says the same without another try.
        """
        with self._lock:
            if form not in self._made:
                self._made[form] = self._found(form) or self._try(form)
            made = self._made[form]
        if isinstance(made, str):
            raise EngineUnavailable(made)
        return made

    def _found(self, form: str) -> Path | str | None:
        """What another process has made of it, in the same folder."""
        if (why := self._why_not(form)).exists():
            return why.read_text()
        return self._folder / form if (self._folder / form / FILE_NAME).exists() else None

    def _why_not(self, form: str) -> Path:
        return self._folder / f"{form}.txt"

    def _try(self, form: str) -> Path | str:
        """Make it; while that takes place, what would be true if it ended the process is noted."""
        self._folder.mkdir(parents=True, exist_ok=True)
        note = self._why_not(form)
        note.write_text(f"The export to {_NAMES[form]} ended the process that made it.")
        try:
            made = self._make(form)
        except EngineUnavailable as error:
            note.write_text(str(error))
            return str(error)
        note.unlink()
        return made

    def _make(self, form: str) -> Path:
        refuse_what_has_no_export(self._model, self._example)
        folder = self._folder / form
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            self._prove(self._export(folder, form))
        except Exception as error:  # an exporter may fail with any error there is
            shutil.rmtree(folder, ignore_errors=True)
            known = isinstance(error, EngineUnavailable)
            reason = str(error) if known else reason_of(error)
            raise EngineUnavailable(
                f"The model cannot be exported to {_NAMES[form]}: {reason}"
            ) from error
        return folder

    def _export(self, folder: Path, form: str) -> Path:
        import keras

        if form == "onnx":
            _refuse_too_large(self._model)
            if keras.config.backend() == "tensorflow":
                mend_tf2onnx()
        path = folder / _FILES[form]
        self._model.predict_on_batch(self._example)  # builds a model that is not built yet
        ports = input_ports(self._model, self._example)
        specs = [keras.InputSpec(p.dtype, (None, *p.shape), name=p.name) for p in ports]
        with contextlib.ExitStack() as stack:
            stack.enter_context(quiet())
            stack.enter_context(_temporary_files_in(folder))
            if form == "openvino":
                stack.enter_context(unrolled(self._model, ports))
            model = flattened(self._model, self._example)
            model.export(str(path), format=form, input_signature=[specs], verbose=False)
        return path

    def _prove(self, path: Path) -> None:
        """Describe an export, open it, and see that it answers as the model does.

        Raises:
            EngineUnavailable: It does not.
        """
        asked = list(questions_for(self._model, self._example))
        ports = input_ports(self._model, self._example)
        _describe(path, ports, self._example, asked[0][1]).save(path.parent)
        engine = (OnnxRuntimeEngine if path.suffix == ".onnx" else OpenVinoEngine)(path.parent)
        tolerance = tolerance_of(self._model)
        for batch, answer in asked:
            complaint = compare(engine(batch), answer, *tolerance).complaint
            if complaint:
                raise EngineUnavailable(f"its answers change: {complaint}.")


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """TensorFlow leaves generated code behind where a process is ended: not in the system's folder.

    It is of no use in an exported model's folder either, and removed from there.
    """
    place = folder / "temporary"
    place.mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(place)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(place, ignore_errors=True)


def _refuse_too_large(model: keras.Model) -> None:
    weights_bytes = sum(4 * math.prod(weight.shape) for weight in model.weights)
    if weights_bytes > ONNX_LIMIT_BYTES:
        raise EngineUnavailable(
            f"its weights are {weights_bytes / 1e9:.1f} GB, and an ONNX file holds 2 GB."
        )


def _describe(path: Path, ports: list[Port], example: Nested, answer: Nested) -> Signature:
    ends = ends_of(path)
    if not ends.rows_are_free:
        raise EngineUnavailable("the exporter fixed the batch size.")
    named = {name.partition(":")[0]: name for name in ends.inputs}
    inputs = [Port(named.get(port.name or ""), port.dtype, port.shape) for port in ports]
    leaves, structure = flatten(answer)
    layouts = layout_of(example), layout_of(answer)
    if flatten(revive(layouts[1], lambda place: place))[1] != structure:
        raise EngineUnavailable("its outputs are nested in classes of their own.")
    # OpenVINO's converter gives an idle input out again, behind the true outputs.
    if len(leaves) > len(ends.outputs):
        raise EngineUnavailable(f"{len(ends.outputs)} of {len(leaves)} outputs are in the file.")
    outputs = [
        Port(name, leaf.dtype.name, (None,) * (leaf.ndim - 1))
        for name, leaf in zip(ends.outputs, leaves, strict=False)
    ]
    return Signature(path.name, tuple(inputs), tuple(outputs), *layouts)


def questions_for(model: keras.Model, example: Nested) -> Iterator[tuple[Nested, Nested]]:
    """Yield batches like the example, and the model's answers: several sizes, another length."""
    free = [
        [axis for axis, size in enumerate(port.shape, 1) if size is None]
        for port in input_ports(model, example)
    ]
    rng = np.random.default_rng(0)
    for rows in SIZES:
        batch = _like(example, rows, rng)
        yield batch, _answer(model, batch)
    if any(free):
        leaves, structure = flatten(_like(example, 2, rng))
        batch = structure.unflatten([_halved(*pair) for pair in zip(leaves, free, strict=True)])
        with contextlib.suppress(Exception):  # it may be too short for the model as well
            yield batch, _answer(model, batch)


def _answer(model: keras.Model, batch: Nested) -> Nested:
    leaves, structure = flatten(model.predict_on_batch(batch))
    return structure.unflatten([np.asarray(leaf) for leaf in leaves])


def _like(example: Nested, rows: int, rng: np.random.Generator) -> Nested:
    """Rows of the example's whole numbers, and of floats near the example's, all different."""

    def draw(leaf: Array) -> Any:
        leaf = leaf[np.arange(rows) % len(leaf)]
        if leaf.dtype.kind not in "fV":
            return leaf
        noise = rng.random(leaf.shape, np.float32)
        drawn = leaf * (0.5 + noise / 2) if leaf.any() else noise  # a zero stays a zero: padding
        return drawn.astype(leaf.dtype)

    leaves, structure = flatten(example)
    return structure.unflatten([draw(leaf) for leaf in leaves])


def _halved(leaf: Array, axes: list[int]) -> Array:
    for axis in axes:
        leaf = leaf.take(range((leaf.shape[axis] + 1) // 2), axis)
    return leaf
