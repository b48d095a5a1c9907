"""Opening models, and looking at them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.errors import InvalidModel
from autotune.models import ModelFactory, ModelFile, fingerprint, input_specs, source_of
from autotune.workload import Spec

Save = Callable[..., Path]
Write = Callable[[str, str], str]

TWICE = """
    import keras

    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    def make():
        return keras.Sequential([keras.Input((10,)), Twice(name="twice")], name="doubled")

    def fails():
        raise ValueError("no such luck")

    def not_a_model():
        return 3
"""


@pytest.fixture
def with_lambda(keras: Any) -> Any:
    """A model that carries Python code in its file."""
    double = keras.layers.Lambda(lambda x: 2 * x, output_shape=(10,), name="double")
    return keras.Sequential([keras.Input((10,)), double])


def test_a_path_is_a_file_as_text_and_as_path(mlp: Any, save: Save) -> None:
    """A path to a `.keras` file is taken for a file, as text and as Path."""
    path = save(mlp)
    assert source_of(path) == source_of(str(path)) == ModelFile(str(path))


def test_module_and_function_is_a_factory() -> None:
    """Text with a colon that is no path is taken for a factory."""
    assert source_of("package.module:make") == ModelFactory("package.module:make")


def test_an_existing_file_with_a_colon_in_its_name_is_a_file(
    mlp: Any, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that exists is a file, even where its name looks like a factory."""
    path = save(mlp, "a:b.keras")
    monkeypatch.chdir(path.parent)
    assert source_of("a:b.keras") == ModelFile("a:b.keras")


@pytest.mark.parametrize("target", [":make", "module:", "a..b:make", "module:make()", "a b:make"])
def test_a_malformed_factory_is_refused(target: str) -> None:
    """A target that is not package.module:function is refused, and the message shows it."""
    with pytest.raises(InvalidModel, match="is not of the form") as caught:
        source_of(target)
    assert repr(target) in str(caught.value)


def test_something_else_is_refused() -> None:
    """What is neither model, path nor factory is refused by the name of its type."""
    with pytest.raises(InvalidModel, match="but got a int"):
        source_of(3)  # type: ignore[arg-type]


def test_a_missing_file_is_refused_before_keras_starts(tmp_path: Path) -> None:
    """A path that leads nowhere is refused with the path."""
    with pytest.raises(InvalidModel, match=r"Model file not found: .*nope\.keras"):
        source_of(tmp_path / "nope.keras")


def test_an_opened_file_predicts_as_the_model_that_was_saved(
    mlp: Any, save: Save, rows: np.ndarray[Any, Any]
) -> None:
    """A model that went through a file gives the same outputs, bit for bit."""
    opened = ModelFile(str(save(mlp))).open()
    np.testing.assert_array_equal(opened.predict_on_batch(rows), mlp.predict_on_batch(rows))


def test_a_file_is_opened_without_its_optimizer(mlp: Any, save: Save) -> None:
    """Losses, metrics and the optimizer stay in the file: prediction needs none."""
    mlp.compile(optimizer="adam", loss="mse")
    assert not ModelFile(str(save(mlp))).open().compiled


@pytest.mark.parametrize("jit_compile", [True, False])
def test_jit_compile_is_set_on_the_opened_model(mlp: Any, save: Save, jit_compile: bool) -> None:
    """The opened model is compiled by XLA just if the source says so."""
    assert ModelFile(str(save(mlp)), jit_compile=jit_compile).open().jit_compile is jit_compile


def test_code_in_a_file_is_refused(with_lambda: Any, save: Save) -> None:
    """A file with a Lambda layer is refused, and the message names layer and remedy."""
    with pytest.raises(InvalidModel, match=r"'double', Lambda.*unsafe=True"):
        ModelFile(str(save(with_lambda))).check()


def test_code_in_a_file_that_is_trusted_is_run(
    with_lambda: Any, save: Save, rows: np.ndarray[Any, Any]
) -> None:
    """With unsafe=True a file with a Lambda layer opens."""
    source = ModelFile(str(save(with_lambda)), unsafe=True)
    source.check()
    np.testing.assert_array_equal(source.open().predict_on_batch(rows), 2 * rows)


def test_an_unknown_class_is_refused_with_the_module_that_has_it(
    save: Save, write_module: Write
) -> None:
    """A class that is not Keras's is refused, and the message says which module to import."""
    path = save(ModelFactory(f"{write_module('own_layers', TWICE)}:make").open())
    with pytest.raises(InvalidModel, match=r"'Twice'.*--import own_layers"):
        ModelFile(str(path)).check()


def test_a_class_of_an_imported_module_is_found(
    save: Save, write_module: Write, rows: np.ndarray[Any, Any]
) -> None:
    """A class of one's own is found where its module is named in `imports`."""
    path = save(ModelFactory(f"{write_module('own_layers', TWICE)}:make").open())
    opened = ModelFile(str(path), imports=("own_layers",)).open()
    np.testing.assert_array_equal(opened.predict_on_batch(rows), 2 * rows)


def test_a_class_that_the_imported_modules_lack_is_named(save: Save, write_module: Write) -> None:
    """Modules that do not define the class are no help, and the message names the class."""
    path = save(ModelFactory(f"{write_module('own_layers', TWICE)}:make").open())
    write_module("empty", "")
    # A process of its own would not have imported own_layers; Keras finds it by its module.
    (path.parent / "own_layers.py").write_text("")
    del sys.modules["own_layers"]
    with pytest.raises(InvalidModel, match="needs the class 'Twice'"):
        ModelFile(str(path), imports=("empty",)).open()


def test_a_module_that_cannot_be_imported_is_named(mlp: Any, save: Save) -> None:
    """A module that does not exist is refused by name."""
    with pytest.raises(InvalidModel, match="Cannot import 'no_such_module'"):
        ModelFile(str(save(mlp)), imports=("no_such_module",)).open()


def test_a_factory_makes_the_model(write_module: Write) -> None:
    """The factory's function is called and its model returned."""
    assert ModelFactory(f"{write_module('own_layers', TWICE)}:make").open().name == "doubled"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fails", "failed: ValueError: no such luck"),
        ("not_a_model", "returned a int, not a keras.Model"),
        ("missing", "failed: AttributeError"),
    ],
)
def test_a_factory_that_makes_no_model_is_refused(
    write_module: Write, function: str, message: str
) -> None:
    """A factory that raises, is missing or returns something else is refused with the reason."""
    target = f"{write_module('own_layers', TWICE)}:{function}"
    with pytest.raises(InvalidModel, match=message):
        ModelFactory(target).open()


def test_input_specs_are_named_without_their_rows(two_by_two: Any) -> None:
    """The specs of a model's inputs have its names, its dtypes, and shapes of one row."""
    assert input_specs(two_by_two) == [Spec("a", (4,), "float32"), Spec("b", (3,), "float32")]


def test_a_free_axis_is_none_and_integers_are_integers(keras: Any) -> None:
    """A free axis is None in the spec, and an integer input says so."""
    words = keras.Input((None,), dtype="int32", name="words")
    model = keras.Model(words, keras.layers.Embedding(9, 2)(words))
    assert input_specs(model) == [Spec("words", (None,), "int32")]


def test_a_subclassed_model_tells_no_inputs(keras: Any) -> None:
    """A model that was never built on symbolic inputs has no specs."""

    class Plain(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x

    assert input_specs(Plain()) == []


def test_the_fingerprint_survives_a_file(mlp: Any, save: Save) -> None:
    """A model has the same fingerprint before saving and after loading."""
    assert fingerprint(ModelFile(str(save(mlp))).open()) == fingerprint(mlp)


def test_the_fingerprint_sees_one_changed_weight(mlp: Any) -> None:
    """Changing one number of one weight changes the fingerprint."""
    before = fingerprint(mlp)
    bias = mlp.weights[-1]
    bias.assign(bias.numpy() + 1e-6)
    assert fingerprint(mlp) != before


def test_the_fingerprint_sees_the_configuration(keras: Any) -> None:
    """Two models without weights that compute different things have different fingerprints."""

    def activation(name: str) -> Any:
        return keras.Sequential(
            [keras.Input((3,)), keras.layers.Activation(name, name="a")], name="m"
        )

    assert fingerprint(activation("relu")) != fingerprint(activation("tanh"))


def test_a_model_without_configuration_has_a_fingerprint(keras: Any) -> None:
    """A subclassed model whose constructor cannot be described has a fingerprint by its weights."""

    class Odd(keras.Model):  # type: ignore[misc]
        def __init__(self, function: Any) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2)
            self.function = function

        def call(self, x: Any) -> Any:
            return self.function(self.dense(x))

    model = Odd(abs)
    model.predict_on_batch(np.ones((1, 3), np.float32))
    before = fingerprint(model)
    model.dense.bias.assign([1.0, 2.0])
    assert fingerprint(model) != before
