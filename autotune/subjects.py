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

from autotune.batchable import refuse_unbatchable
from autotune.errors import InvalidModel, ModelNotPortable, one_line
from autotune.files import sha256_of
from autotune.models import ModelFactory, ModelFile, source_of
from autotune.worker import FactorySource, FileSource
from autotune.workload import Synthetic, Workload

if TYPE_CHECKING:
    import keras

CHECKED_ROWS = 4  # whose outputs must be the same in the child


@dataclass(frozen=True, slots=True)
class Parcel:
    """What the child is told of a model; see `worker.Load`."""

    model: FileSource | FactorySource
    expected: str = ""
    save_to: str = ""


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

    def pack(_folder: Path, _rows: Workload | Synthetic) -> Parcel:
        absolute = str(path.absolute())
        return Parcel(FileSource(absolute, source.imports, source.unsafe, source.jit_compile))

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

    def pack(_folder: Path, _rows: Workload | Synthetic) -> Parcel:
        return Parcel(FactorySource(source.target), save_to=str(saved))

    subject = Subject(source.target, source.open, put, pack)
    weakref.finalize(put, shutil.rmtree, folder, ignore_errors=True)
    return subject


def _in_memory(model: keras.Model) -> Subject:
    def pack(folder: Path, rows: Workload | Synthetic) -> Parcel:
        refuse_unbatchable(model)
        imports = _own_modules(model)
        expected = folder / "expected"
        expected.mkdir()
        if not isinstance(rows, Workload) or rows.is_table:
            raise ModelNotPortable("A model in memory needs rows as arrays.")
        try:
            outputs = model.predict_on_batch(rows.take(CHECKED_ROWS))
        except Exception as error:
            raise ModelNotPortable(f"The model fails on the sample: {one_line(error)}") from error
        Workload(outputs).save(expected)
        save_model(model, folder / "model.keras")
        jit = bool(model.jit_compile)
        return Parcel(
            FileSource(str(folder / "model.keras"), imports, jit_compile=jit), str(expected)
        )

    return Subject("object", lambda: model, lambda path: save_model(model, path), pack)


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
