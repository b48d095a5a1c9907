"""What all commands have in common: how much they tell, and settings from a file."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption

from autotune import settings
from autotune.commands.options import COMMON, Quiet
from autotune.errors import InvalidInput
from autotune.terminal import telling

_log = logging.getLogger("autotune")

Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Tell each probe, and all that is logged.", rich_help_panel=COMMON
    ),
]


def _take_settings(ctx: typer.Context, value: Path | None) -> Path | None:
    """Make what a file sets the defaults of a command; return the file if it sets anything."""
    if ctx.resilient_parsing:  # completing a line, which must not fail
        return value
    file = value or (None if ctx.params.get("no_config") else settings.find())
    if file is None or ctx.parent is None:
        return None
    found = settings.read(file, _commands(ctx.parent.command), named=value is not None)
    ctx.default_map = found.get(ctx.info_name or "", {})
    return file if ctx.default_map else None


def _commands(group: object) -> dict[str, dict[str, settings.Option]]:
    """What may stand in a file: the options of each command that do not say how to read it."""
    assert isinstance(group, TyperGroup)  # noqa: S101  what holds commands is one
    return {
        name: {
            opt.removeprefix("--"): settings.Option(
                param.name, bool if param.is_flag else param.type_descriptor.annotation
            )
            for param in command.params
            if isinstance(param, TyperOption) and not param.is_eager
            for opt in param.opts
            if opt.startswith("--")
        }
        for name, command in group.commands.items()
    }


NoConfig = Annotated[
    bool,
    typer.Option(
        "--no-config", is_eager=True, help="Look for no settings.", rich_help_panel=COMMON
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        is_eager=True,
        callback=_take_settings,
        help="Settings: .toml or .yaml. Default: tool.autotune in the nearest pyproject.toml.",
        rich_help_panel=COMMON,
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", is_eager=True, help="Show the traceback of an error.", rich_help_panel=COMMON
    ),
]


def _nothing(
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_config: NoConfig = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Has the options that every command has."""


def with_common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with the options that it lacks of those that every command has."""
    signature = inspect.signature(command, eval_str=True)
    own = signature.parameters
    common = inspect.signature(_nothing, eval_str=True).parameters
    lacking = [parameter for name, parameter in common.items() if name not in own]

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        level = logging.INFO if given["verbose"] else logging.WARNING
        with telling(logging.ERROR if given["quiet"] else level):
            if given["config"]:
                _log.info("Settings are read from %s.", given["config"])
            try:
                return command(**{name: given[name] for name in own})
            except InvalidInput as error:
                if given["config"]:
                    error.add_note(f"Settings were read from {given['config']}.")
                raise

    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own.values(), *lacking]
    )
    return run
