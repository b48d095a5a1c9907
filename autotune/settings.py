"""Settings: options of the command line, written down in a file.

A table a command, and above them what holds for every command that has such an option:

    [tool.autotune]                      # in a pyproject.toml; another file has no such heading
    quiet = true

    [tool.autotune.tune]
    budget = "2min"
    engine = ["keras", "compiled"]
"""

from __future__ import annotations

import contextlib
import difflib
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from autotune.errors import InvalidInput, one_line

PYPROJECT = "pyproject.toml"
# What lets a file's author run code. A project that one has only just cloned must not bring these
# along unseen, so they count in a file that is named.
RUNS_CODE = ("import", "unsafe-load", "ray")  # a cluster may send code too

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    Path: "a path in quotes",
    list[str]: 'a list of texts, such as ["a", "b"]',
    list[int]: "a list of whole numbers, such as [1, 2]",
}


@dataclass(frozen=True, slots=True)
class Option:
    """An option that may stand in a file.

    Attributes:
        parameter: What the command calls it.
        kind: Type of its value: bool, int, str, Path or a list.
    """

    parameter: str
    kind: Any


Options = Mapping[str, Option]


def find() -> Path | None:
    """Find the nearest pyproject.toml with a table for autotune, from the working folder upward.

    Raises:
        InvalidInput: One on the way cannot be read.
    """
    above = [Path(*[".."] * count) for count in range(len(Path.cwd().parts))]
    files = (folder / PYPROJECT for folder in above if (folder / PYPROJECT).is_file())
    try:
        return next((file for file in files if _table(file) is not None), None)
    except InvalidInput as error:  # of another tool's, maybe
        raise InvalidInput(f"{error} Ignore it with --no-config.") from error


def read(
    file: Path, commands: Mapping[str, Options], *, named: bool = True
) -> dict[str, dict[str, Any]]:
    """Read the settings of each command.

    Args:
        file: A pyproject.toml, another TOML file, or a YAML file.
        commands: For each command, its options by their names without dashes in front.
        named: Whether the user has named the file; else what runs code is refused.

    Returns:
        For each command, values by parameter. Paths are taken from the file's folder.

    Raises:
        InvalidInput: The file cannot be read, or holds a key or a value that is none; the message
            names file, key, and the nearest key that there is.
    """
    table = _table(file)
    if table is None:
        raise InvalidInput(f"{file} has no table [tool.autotune].")
    everywhere = {key: value for key, value in table.items() if not isinstance(value, dict)}
    of_command = {key: value for key, value in table.items() if isinstance(value, dict)}
    _check_keys(file, "", of_command, commands)
    _check_keys(file, "", everywhere, {name for known in commands.values() for name in known})
    found = {}
    for command, known in commands.items():
        own = {_plain(key): (key, value) for key, value in of_command.get(command, {}).items()}
        _check_keys(file, f"{command}.", of_command.get(command, {}), known)
        above = {_plain(key): (key, value) for key, value in everywhere.items()}
        chosen = {name: pair for name, pair in above.items() if name in known} | own
        found[command] = {
            known[name].parameter: _value(file, key, value, name, known[name].kind, named)
            for name, (key, value) in chosen.items()
        }
    return found


def _table(file: Path) -> dict[str, Any] | None:
    """Read a file; of a pyproject.toml the table for autotune, None where it has none."""
    with _as_input_error(file):
        data = file.read_bytes()
        if file.suffix.lower() in (".yaml", ".yml"):
            import yaml

            content = yaml.safe_load(data)
        elif file.suffix.lower() == ".toml":
            content = tomllib.loads(data.decode())
        else:
            raise InvalidInput(f"{file} is not a file of settings: expected .toml, .yaml or .yml.")
    content = {} if content is None else content
    if file.name == PYPROJECT:
        tool = content.get("tool", {})
        content = tool.get("autotune") if isinstance(tool, dict) else None
        if content is None:
            return None
    if not isinstance(content, dict):
        raise InvalidInput(f"{file} holds no table of settings, but a {type(content).__name__}.")
    return {str(key): value for key, value in content.items()}


@contextlib.contextmanager
def _as_input_error(file: Path) -> Iterator[None]:
    try:
        yield
    except InvalidInput:
        raise
    except OSError as error:
        raise InvalidInput(f"Cannot read {file}: {error.strerror or error}.") from error
    except Exception as error:  # YAML's reader has a dozen kinds
        raise InvalidInput(f"{file} cannot be read as settings: {one_line(error, 200)}.") from error


def _plain(key: object) -> str:
    return str(key).replace("_", "-")


def _check_keys(file: Path, above: str, keys: Mapping[Any, Any], known: Collection[str]) -> None:
    for key in keys:
        if _plain(key) in known:
            continue
        near = difflib.get_close_matches(_plain(key), sorted(known), 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(known))}."
        raise InvalidInput(f"{file} has an unknown setting {f'{above}{key}'!r}. {hint}")


def _value(file: Path, key: str, value: Any, name: str, kind: Any, named: bool) -> Any:
    if name in RUNS_CODE and not named:
        raise InvalidInput(
            f"{file} sets {key!r}, which lets code run. Name the file (--config {file}) if you "
            f"trust it, ignore it (--no-config), or give --{name} on the command line."
        )
    try:
        msgspec.convert(value, str if kind is Path else kind)
    except msgspec.ValidationError:
        got = repr(value) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
        wanted = _KINDS.get(kind, str(kind))
        raise InvalidInput(f"{file}: {key!r} must be {wanted}, but got {got}.") from None
    return file.parent / value if kind is Path else value
