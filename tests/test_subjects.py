"""What is to be tuned: opened, packed for the child, and put into a tuned directory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.errors import InvalidModel, ModelNotPortable
from autotune.models import ModelFile, fingerprint
from autotune.subjects import CHECKED_ROWS, save_model, subject_of
from autotune.worker import FactorySource, FileSource
from autotune.workload import Synthetic, Workload

Rows = np.ndarray[Any, Any]
Save = Callable[..., Path]

TWICE = """
    import keras

    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    def make():
        return keras.Sequential([keras.Input((10,)), Twice()], name="doubled")
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a model is to be put."""
    return tmp_path / "put.keras"


def test_something_else_is_refused() -> None:
    """What is neither a model nor says where one is, is refused by the name of its type."""
    with pytest.raises(InvalidModel, match=r"Expected a keras\.Model, .* but got a list"):
        subject_of([])


def test_a_file_is_packed_by_its_absolute_path(
    mlp: Any, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child is told where the file is, from wherever it looks, and how to open it."""
    path = save(mlp)
    monkeypatch.chdir(tmp_path)
    subject = subject_of(ModelFile("model.keras", ("json",), unsafe=True, jit_compile=False))
    assert subject.name == "model.keras"
    parcel = subject.pack(tmp_path, Synthetic())
    assert parcel.model == FileSource(str(path), ("json",), unsafe=True, jit_compile=False)
    assert (parcel.expected, parcel.save_to) == ("", "")


def test_a_file_is_put_as_it_is(mlp: Any, save: Save, target: Path) -> None:
    """A file is copied byte for byte."""
    path = save(mlp)
    subject_of(path).put(target)
    assert target.read_bytes() == path.read_bytes()


def test_a_file_that_was_changed_since_is_not_put(mlp: Any, save: Save, target: Path) -> None:
    """A file that is another now than when it was tuned is refused."""
    path = save(mlp)
    subject = subject_of(path)
    mlp.weights[-1].assign([3.0])
    save(mlp)
    with pytest.raises(InvalidModel, match="was changed after it was tuned"):
        subject.put(target)


def test_a_factory_is_packed_by_its_name(write_module: Any, tmp_path: Path) -> None:
    """The child is told the factory, and where to save what it makes."""
    subject = subject_of(f"{write_module('own_factory', TWICE)}:make")
    parcel = subject.pack(tmp_path, Synthetic())
    assert parcel.model == FactorySource("own_factory:make")
    assert Path(parcel.save_to).parent.is_dir()


def test_what_the_child_saved_is_put(
    mlp: Any, write_module: Any, tmp_path: Path, target: Path
) -> None:
    """The model that the child made is the one that is put, not one that is made again."""
    subject = subject_of(f"{write_module('own_factory', TWICE)}:make")
    mlp.save(subject.pack(tmp_path, Synthetic()).save_to)  # as the child does
    subject.put(target)
    assert fingerprint(ModelFile(str(target)).open()) == fingerprint(mlp)


def test_without_a_child_the_factory_is_called(write_module: Any, target: Path) -> None:
    """Where no child saved the model, it is made here."""
    subject_of(f"{write_module('own_factory', TWICE)}:make").put(target)
    assert ModelFile(str(target), imports=("own_factory",)).open().name == "doubled"


def test_the_copy_of_a_made_model_is_removed_with_its_subject(
    write_module: Any, tmp_path: Path
) -> None:
    """The folder for the child's copy is gone when nothing can ask for it any more."""
    subject = subject_of(f"{write_module('own_factory', TWICE)}:make")
    folder = Path(subject.pack(tmp_path, Synthetic()).save_to).parent
    assert folder.is_dir()
    del subject
    gc.collect()
    assert not folder.exists()


def test_a_model_in_memory_is_opened_as_itself(mlp: Any) -> None:
    """A model in memory is not copied."""
    subject = subject_of(mlp)
    assert subject.open() is mlp
    assert subject.name == "object"


@pytest.mark.parametrize("jit_compile", [True, False])
def test_a_model_in_memory_is_packed_with_its_answers(
    mlp: Any, rows: Rows, tmp_path: Path, jit_compile: bool
) -> None:
    """The child is given the model, and the outputs that it must give for the first rows."""
    mlp.jit_compile = jit_compile
    parcel = subject_of(mlp).pack(tmp_path, Workload(rows))
    assert parcel.model == FileSource(str(tmp_path / "model.keras"), jit_compile=jit_compile)
    assert fingerprint(ModelFile(parcel.model.path).open()) == fingerprint(mlp)
    answers = Workload.open_saved(Path(parcel.expected)).take(CHECKED_ROWS)
    np.testing.assert_array_equal(answers, mlp.predict_on_batch(rows[:CHECKED_ROWS]))


def test_modules_of_its_own_classes_are_packed(
    write_module: Any, rows: Rows, tmp_path: Path
) -> None:
    """The child is told which modules define the classes that are not Keras's."""
    model = subject_of(f"{write_module('own_factory', TWICE)}:make").open()
    parcel = subject_of(model).pack(tmp_path, Workload(rows))
    assert isinstance(parcel.model, FileSource)
    assert parcel.model.imports == ("own_factory",)


def test_a_class_of_the_main_program_is_not_portable(
    keras: Any, rows: Rows, tmp_path: Path
) -> None:
    """A class that only the main program has cannot go to another process."""
    script_class = type("FromScript", (keras.layers.Dropout,), {"__module__": "__main__"})
    model = keras.Sequential([keras.Input((10,)), script_class(0.5)])
    with pytest.raises(ModelNotPortable, match="'FromScript' is defined in the main program"):
        subject_of(model).pack(tmp_path, Workload(rows))


def test_a_model_that_cannot_be_cut_into_batches_is_not_packed(keras: Any, tmp_path: Path) -> None:
    """A model that is refused anyway is refused before anything is written."""
    x = keras.Input(batch_shape=(8, 2))
    model = keras.Model(x, keras.layers.Dense(1)(x))
    with pytest.raises(InvalidModel, match="fixed batch size of 8"):
        subject_of(model).pack(tmp_path, Workload(np.ones((8, 2), np.float32)))
    assert list(tmp_path.iterdir()) == []


def test_rows_for_a_model_in_memory_are_drawn_here(mlp: Any, tmp_path: Path) -> None:
    """The child gets the very rows whose answers it is compared by."""
    parcel = subject_of(mlp).pack(tmp_path, Synthetic(rows=6))
    assert isinstance(parcel.rows, Workload)
    assert parcel.rows.arrays[0].shape == (6, 10)


def test_a_model_that_cannot_be_saved_leaves_no_file(keras: Any, target: Path) -> None:
    """A layer that cannot be described is not portable, and no half a file stays."""

    class Secretive(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, function: Any) -> None:
            super().__init__()
            self.function = function

        def call(self, x: Any) -> Any:
            return self.function(x)

    model = keras.Sequential([keras.Input((10,)), Secretive(abs)])
    with pytest.raises(ModelNotPortable, match="The model cannot be saved: "):
        save_model(model, target)
    assert not target.exists()
