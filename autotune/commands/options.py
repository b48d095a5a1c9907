"""What several commands have in common: their options, and text read as numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from autotune.errors import InvalidInput

_T = TypeVar("_T")

COMMON = "Options of every command"

Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=COMMON)
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Tell no progress and no warnings.", rich_help_panel=COMMON),
]
Imports = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="MODULE", help="Module that defines the model's own classes."),
]
Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe-load", help="Allow Python code in the model file. Only if you trust it."
    ),
]
Tuned = Annotated[Path, typer.Argument(help="Folder that `autotune tune --out` wrote.")]

NO = 1  # exit codes beside 0: done
UNDECIDED = 3


def read_option(parse: Callable[[str], _T], option: str, text: str | None) -> _T | None:
    """Read the text of an option, None where it was not given.

    Raises:
        InvalidInput: The text cannot be read; the message names the option.
    """
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidInput(f"{option}: {error}") from error


def model_source(model: str, imports: list[str] | None, unsafe: bool) -> Any:
    """What a command line calls a model, as `tune` takes it: a file, or package.module:function."""
    from autotune.models import ModelFile, source_of

    source = source_of(ModelFile(model, tuple(imports or ()), unsafe)) if _is_file(model) else None
    return source or source_of(model)


def _is_file(model: str) -> bool:
    return Path(model).exists() or ":" not in model


def print_json(value: Any) -> None:
    """Print a value as indented JSON to standard output."""
    import sys

    import msgspec

    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
