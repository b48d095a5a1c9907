"""Open a Keras model safely, and look at it."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.errors import InvalidModel, one_line
from autotune.modelfiles import check_model_file, refuse_code, refuse_unknown, unknown_class
from autotune.workload import Spec

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A `.keras` file, with what it takes to open it.

    Attributes:
        path: The file.
        imports: Modules that define the model's own classes; they are imported first.
        unsafe: Allow Python code in the file (Lambda layers). Only for files you trust.
        jit_compile: Set the model's `jit_compile`; None lets Keras decide.
    """

    path: str
    imports: tuple[str, ...] = ()
    unsafe: bool = False
    jit_compile: bool | None = None

    def check(self) -> None:
        """Refuse a file that cannot be opened, without starting Keras.

        Raises:
            InvalidModel: The message says what is wrong and how to mend it.
        """
        path = Path(self.path)
        findings = check_model_file(path)
        if not self.unsafe:
            refuse_code(path, findings)
        if not self.imports:
            refuse_unknown(path, findings)

    def open(self) -> keras.Model:
        """Load the model, without its optimizer, losses and metrics.

        Raises:
            InvalidModel: Keras cannot load it.
        """
        import keras

        custom = _classes_of(self.imports)
        try:
            model = keras.saving.load_model(
                self.path, custom_objects=custom, compile=False, safe_mode=not self.unsafe
            )
        except Exception as error:
            raise InvalidModel(_why_not_loaded(self.path, error)) from error
        if self.jit_compile is not None:
            model.jit_compile = self.jit_compile
        return model


@dataclass(frozen=True, slots=True)
class ModelFactory:
    """A function that makes the model: "package.module:function"."""

    target: str

    def check(self) -> None:
        """Refuse a target that is not of the form "package.module:function".

        Raises:
            InvalidModel: It is not.
        """
        module, _, function = self.target.partition(":")
        if not (function.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise InvalidModel(f"{self.target!r} is not of the form package.module:function.")

    def open(self) -> keras.Model:
        """Import the module and call the function.

        Raises:
            InvalidModel: No such module or function, it fails, or it returns something else.
        """
        import keras

        self.check()
        module, _, function = self.target.partition(":")
        try:
            model = getattr(importlib.import_module(module), function)()
        except (Exception, SystemExit) as error:
            raise InvalidModel(f"The factory {self.target} failed: {one_line(error)}.") from error
        if not isinstance(model, keras.Model):
            raise InvalidModel(
                f"The factory {self.target} returned a {type(model).__name__}, not a keras.Model."
            )
        return model


ModelSource = ModelFile | ModelFactory


def source_of(model: str | Path | ModelSource) -> ModelSource:
    """Tell a `.keras` file from "package.module:function", and check what can be checked at once.

    Raises:
        InvalidModel: It is neither, or the file cannot be opened.
    """
    if isinstance(model, (str, Path)):
        text = str(model)
        is_factory = ":" in text and not Path(text).exists() and "/" not in text
        model = ModelFactory(text) if is_factory else ModelFile(text)
    if not isinstance(model, (ModelFile, ModelFactory)):
        raise InvalidModel(
            "Expected a keras.Model, a path to a .keras file or 'package.module:function', "
            f"but got a {type(model).__name__}."
        )
    model.check()
    return model


def _classes_of(modules: Sequence[str]) -> dict[str, Any]:
    """Import modules and return the classes and functions that they define, by name."""
    found: dict[str, Any] = {}
    for name in modules:
        try:
            module = importlib.import_module(name)
        except Exception as error:
            raise InvalidModel(f"Cannot import {name!r}: {one_line(error)}.") from error
        own = {k: v for k, v in vars(module).items() if getattr(v, "__module__", None) == name}
        found.update({k: v for k, v in own.items() if callable(v)})
    return found


_MISFIT = re.compile(
    r"name=([^,>]+).*variable\.shape=(\([^)]*\)), Received: value\.shape=(\([^)]*\))"
)


def _why_not_loaded(path: str, error: Exception) -> str:
    text = str(error)
    unknown = re.search(r"Could not locate (?:class|function) '([^']+)'", text)
    if unknown:
        return unknown_class(path, unknown[1])
    misfit = _MISFIT.search(" ".join(text.split()))
    if misfit:
        return (
            f"The weights in {path} do not fit the model: layer {misfit[1]!r} wants {misfit[2]}, "
            f"but there are {misfit[3]}. Save both together: model.save('model.keras')."
        )
    return f"Keras cannot load {path}: {one_line(error)}."


def input_specs(model: keras.Model) -> list[Spec]:
    """Return the inputs of a model; empty where it does not say (a subclassed model)."""
    inputs = getattr(model, "inputs", None) or []
    return [Spec(t.name, tuple(t.shape[1:]), _dtype_name(t.dtype)) for t in inputs]


def _dtype_name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def fingerprint(model: keras.Model) -> str:
    """SHA-256 over the model's configuration and weights, the same whatever file it came from."""
    digest = hashlib.sha256()
    try:
        digest.update(json.dumps(model.get_config(), sort_keys=True, default=str).encode())
    except NotImplementedError:  # a subclassed model need not have a configuration
        digest.update(type(model).__qualname__.encode())
    for weight in model.weights:
        value = np.ascontiguousarray(weight.numpy())
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
