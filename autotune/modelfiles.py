"""A look into a `.keras` file without Keras: is it one, is it whole, what does it ask for?

This is a lint, not a scan: a model file is a program, and a file that passes may still be
hostile. It is there so that the usual mistakes are told in a second and in plain words, and
so that the worst files are refused before a backend is started.
"""

from __future__ import annotations

import difflib
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from autotune.errors import InvalidModel, one_line

MAX_MEMBERS = 1_000
MAX_CONFIG_BYTES = 50 * 2**20
MAX_BYTES = 2 * 2**30  # or MAX_EXPANSION times the archive, if that is more
MAX_EXPANSION = 20
MODEL = "model.keras"  # in a tuned folder
OTHERS = {
    ".pt": "a PyTorch file",
    ".pth": "a PyTorch file",
    ".onnx": "an ONNX model",
    ".tflite": "a TensorFlow Lite model",
    ".pb": "a TensorFlow graph",
    ".safetensors": "a file of weights",
}

PYTHON_CODE_CLASSES = ("Lambda", "TorchModuleWrapper", "TFSMLayer", "__lambda__")
# Values in a config, of which Keras speaks as if they were classes (serialization_lib.py).
_VALUES = (
    "__bytes__",
    "__slice__",
    "__ellipsis__",
    "__keras_tensor__",
    "__tensor__",
    "__numpy__",
    "__typespec__",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A class that a model file names and that Keras alone does not bring, or that runs code."""

    class_name: str
    layer_name: str
    module: str


def check_model_file(path: Path) -> list[Finding]:
    """Check that `path` is a whole `.keras` archive, and list what it needs besides Keras.

    Raises:
        InvalidModel: No such file, another format, damaged, or an archive with members that
            leave it or that blow up when unpacked.
    """
    try:
        _check_kind(path)
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            return list(_findings(_read_config(path, archive)))
    except zipfile.BadZipFile as error:
        size = path.stat().st_size
        raise InvalidModel(
            f"{path} is not a .keras file, or it is damaged: not a complete zip archive "
            f"({size:,} bytes). Save the model again with model.save('model.keras')."
        ) from error
    except (RuntimeError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InvalidModel(f"{path} is damaged: {one_line(error)}") from error
    except OSError as error:
        raise InvalidModel(f"Cannot read {path}: {error.strerror or error}.") from error


def _check_kind(path: Path) -> None:
    if not path.exists():
        raise InvalidModel(f"Model file not found: {path}.{_near(path)}")
    convert = "load it with the Keras that wrote it and call model.save('model.keras')"
    suffix = path.suffix.lower()
    if (path / MODEL).is_file():
        raise InvalidModel(f"{path} is a folder that holds a model. Give the model: {path / MODEL}")
    if path.is_dir():
        kind = "a SavedModel folder" if (path / "saved_model.pb").exists() else "a folder"
        raise InvalidModel(f"{path} is {kind}. Give a .keras file: {convert}.")
    if suffix in OTHERS:
        raise InvalidModel(
            f"{path} is {OTHERS[suffix]}, not a Keras model. Give a .keras file, which "
            "model.save('model.keras') writes."
        )
    if suffix in (".h5", ".hdf5"):
        raise InvalidModel(f"{path} is an HDF5 model. Give a .keras file: {convert}.")
    if path.stat().st_size == 0:
        raise InvalidModel(f"{path} is empty (0 bytes).")
    if suffix != ".keras":
        raise InvalidModel(f"{path} is not a .keras file. To convert a model: {convert}.")


def _near(path: Path) -> str:
    """A file with nearly that name beside it, or else where it was looked for."""
    beside = {file.stem: file for file in sorted(path.parent.glob("*.keras"))}
    near = difflib.get_close_matches(path.stem, beside, 1)
    if near:
        return f" Did you mean {beside[near[0]]}?"
    return "" if path.is_absolute() else f" The working folder is {Path.cwd()}."


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise InvalidModel(f"{path} refused: {len(members)} members, at most {MAX_MEMBERS}.")
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/"))
        is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
        if parts.is_absolute() or ".." in parts.parts or is_link:
            raise InvalidModel(f"{path} refused: member {member.filename!r} leaves the archive.")
    unpacked = sum(member.file_size for member in members)
    allowed = max(MAX_BYTES, MAX_EXPANSION * path.stat().st_size)
    if unpacked > allowed:
        raise InvalidModel(f"{path} refused: it unpacks to {unpacked:,} bytes.")


def _read_config(path: Path, archive: zipfile.ZipFile) -> Any:
    names = archive.namelist()
    if "config.json" not in names or archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
        raise InvalidModel(f"{path} is not a Keras model: it has no readable config.json.")
    if not any(name.endswith((".h5", ".npz")) or "model.weights" in name for name in names):
        raise InvalidModel(f"{path} holds no weights: save the whole model, not its config.")
    try:
        config = json.loads(archive.read("config.json"))
    except (ValueError, RecursionError) as error:
        raise InvalidModel(f"{path} is damaged: its config.json is not valid JSON.") from error
    if not isinstance(config, dict):
        raise InvalidModel(f"{path} is damaged: its config.json does not describe a model.")
    config.pop("compile_config", None)  # losses and metrics: not needed for prediction
    return config


def _findings(node: Any) -> Iterator[Finding]:
    """Walk the config for classes that are not Keras's own, and for those that run code."""
    stack = [node]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            stack.extend(node.values())
            finding = _finding(node)
            if finding:
                yield finding


def _finding(node: dict[str, Any]) -> Finding | None:
    class_name, module = node.get("class_name"), node.get("module")
    if not isinstance(class_name, str) or "config" not in node:
        return None
    config = node["config"]
    layer_name = config.get("name", "?") if isinstance(config, dict) else str(config)
    if class_name in PYTHON_CODE_CLASSES:  # under no other name, whatever the file says
        return Finding(class_name, str(layer_name), str(module or ""))
    own = isinstance(module, str) and (module.split(".")[0] == "keras" or module == "builtins")
    if own or class_name in _VALUES:
        return None
    registered = node.get("registered_name") or class_name
    return Finding(str(registered).rpartition(">")[2], str(layer_name), str(module or ""))


def refuse_code(path: Path, findings: list[Finding]) -> None:
    """Refuse a model that carries Python code.

    Raises:
        InvalidModel: A layer such as Lambda; the message names it and says how to trust it.
    """
    for finding in findings:
        if finding.class_name in PYTHON_CODE_CLASSES:
            where = f"layer {finding.layer_name!r}, {finding.class_name}"
            raise InvalidModel(
                f"{path} contains Python code ({where}). Load it only if you trust whoever made "
                "it: --unsafe-load, in Python ModelFile(path, unsafe=True)."
            )


def refuse_unknown(path: Path, findings: list[Finding]) -> None:
    """Refuse a model whose classes are not Keras's, when nobody said where they are defined.

    Raises:
        InvalidModel: The message names the class and how to register it.
    """
    for finding in findings:
        if finding.class_name not in PYTHON_CODE_CLASSES:
            raise InvalidModel(unknown_class(path, finding.class_name, finding.module))


def unknown_class(path: Path | str, class_name: str, module: str = "") -> str:
    """Say that a class is unknown, and how to say where it is defined."""
    usable = module if module and module != "__main__" else "my_module"
    return (
        f"{path} needs the class {class_name!r}, which is not part of Keras. Say where it is "
        f"defined: --import {usable}, in Python ModelFile(path, imports=[{usable!r}])."
    )
