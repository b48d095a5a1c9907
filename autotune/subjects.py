"""What is to be tuned: a model in memory, in a file, or made by a function.

Each can be opened here, packed for the child, and put into a tuned directory.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.batchable import check_rows_independent, refuse_unbatchable
from autotune.errors import InvalidModel, ModelNotPortable, one_line
from autotune.files import sha256_of
from autotune.inputs import fit_sample
from autotune.modelfiles import PYTHON_CODE_CLASSES, check_model_file
from autotune.models import ModelFactory, ModelFile, source_of
from autotune.worker import FactorySource, FileSource
from autotune.workload import Synthetic, Workload

if TYPE_CHECKING:
    import keras

CHECKED_ROWS = 4  # whose outputs must be the same in the child


@dataclass(frozen=True, slots=True)
class Parcel:
    """What the child is told: model, rows that fit it, and files; see `worker.Load`."""

    model: FileSource | FactorySource
    rows: Workload | Synthetic
    expected: str = ""
    save_to: str = ""
    scratch: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """A model to be tuned.

    Attributes:
        name: How the record calls its source.
        open: Opens it in this process.
        put: Writes it to a path, as `.keras`.
        pack: Makes it ready for the child, with files in a folder if need be.
    """

    name: str
    open: Callable[[], keras.Model]
    put: Callable[[Path], None]
    pack: Callable[[Path, Workload | Synthetic], Parcel]


def subject_of(model: Any) -> Subject:
    """Tell a model from a path and from "package.module:function".

    Raises:
        InvalidModel: It is none of these, or it is seen at once that it cannot be tuned.
    """
    if not isinstance(model, (str, Path, ModelFile, ModelFactory)):
        import keras

        if isinstance(model, keras.Model):
            return _in_memory(model)
    source = source_of(model)
    return _in_file(source) if isinstance(source, ModelFile) else _made(source)


def _in_file(source: ModelFile) -> Subject:
    path = Path(source.path)
    before = sha256_of(path)

    def put(target: Path) -> None:
        shutil.copyfile(path, target)
        if sha256_of(target) != before:
            raise InvalidModel(f"{path} was changed after it was tuned. Tune the new model.")

    def pack(_folder: Path, rows: Workload | Synthetic) -> Parcel:
        absolute = str(path.absolute())
        file = FileSource(absolute, source.imports, source.unsafe, source.jit_compile)
        return Parcel(file, rows)

    return Subject(source.path, source.open, put, pack)


def _made(source: ModelFactory) -> Subject:
    """The child saves what the function makes, so that this process need not make it."""
    folder = Path(tempfile.mkdtemp(prefix="autotune-"))
    saved = folder / "model.keras"

    def put(target: Path) -> None:
        if saved.exists():
            shutil.copyfile(saved, target)
        else:
            save_model(source.open(), target)

    def pack(_folder: Path, rows: Workload | Synthetic) -> Parcel:
        return Parcel(
            FactorySource(source.target), rows, save_to=str(saved), scratch=(str(folder),)
        )

    subject = Subject(source.target, source.open, put, pack)
    weakref.finalize(put, shutil.rmtree, folder, ignore_errors=True)
    return subject


def _in_memory(model: keras.Model) -> Subject:
    def pack(folder: Path, rows: Workload | Synthetic) -> Parcel:
        # What is wrong with the model or its rows is told from here, where both are the caller's.
        refuse_unbatchable(model)
        fitted = fit_sample(model, rows)
        check_rows_independent(model, fitted)
        imports = _own_modules(model)
        expected = folder / "expected"
        expected.mkdir()
        Workload(model.predict_on_batch(fitted.take(CHECKED_ROWS))).save(expected)
        path = folder / "model.keras"
        save_model(model, path)
        _refuse_code_inside(path)
        source = FileSource(str(path), imports, jit_compile=bool(model.jit_compile))
        return Parcel(source, fitted, expected=str(expected))

    return Subject("object", lambda: model, lambda path: save_model(model, path), pack)


def _refuse_code_inside(path: Path) -> None:
    """The child opens models in safe mode, which knows no Lambda layers.

    Raises:
        ModelNotPortable: The saved model holds Python code.
    """
    for finding in check_model_file(path):
        if finding.class_name in PYTHON_CODE_CLASSES:
            raise ModelNotPortable(
                f"Layer {finding.layer_name!r} ({finding.class_name}) holds Python code, which is "
                "not sent to another process; a layer class in a module would be."
            )


def _own_modules(model: keras.Model) -> tuple[str, ...]:
    """Modules of the model's classes that are not Keras's.

    Raises:
        ModelNotPortable: A class is defined in the main program, where no other process finds it.
    """
    modules = set()
    for layer in model._flatten_layers():
        kind = type(layer)
        if kind.__module__ == "__main__":
            raise ModelNotPortable(f"The class {kind.__name__!r} is defined in the main program.")
        if kind.__module__.partition(".")[0] != "keras":
            modules.add(kind.__module__)
    return tuple(sorted(modules))


def save_model(model: keras.Model, path: Path) -> None:
    """Save a model as `.keras`.

    Raises:
        ModelNotPortable: Keras cannot save it.
        EnvironmentFault: The disk is full, or the folder cannot be written.
    """
    try:
        model.save(path)
    except OSError:
        raise
    except Exception as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise ModelNotPortable(f"The model cannot be saved: {one_line(error)}") from error
