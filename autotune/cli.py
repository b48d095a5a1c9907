"""The command line: options, one call, text. Errors become one line and an exit code.

Exit codes: 0 done, 1 the answer is no, 2 wrong usage or bad input, 3 undecided, 4 a fault of the
environment, 130 interrupted. Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer
from typer.exceptions import Exit, TyperException

from autotune import __version__
from autotune.commands.common import Debug, with_common_options
from autotune.commands.compare import compare
from autotune.commands.demo import demo
from autotune.commands.doctor import doctor
from autotune.commands.export import export
from autotune.commands.plan import plan
from autotune.commands.predict import predict
from autotune.commands.report import report
from autotune.commands.show import show
from autotune.commands.tune import tune
from autotune.commands.verify import verify
from autotune.errors import AutotuneError, InvalidInput, NoFeasibleBatchSize, one_line
from autotune.terminal import hush_native_code, listen_for_interrupts

app = typer.Typer(
    help="Find the batch size that your machine really wants for a Keras model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit."""
    listen_for_interrupts()
    if "--debug" not in sys.argv:
        hush_native_code()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = app(arguments, prog_name="autotune", standalone_mode=False)
    except KeyboardInterrupt:
        return _say("Interrupted.", INTERRUPTED)
    except (TyperException, AutotuneError, OSError, MemoryError) as error:
        _show_traceback(arguments)
        message = _message(error)
        return _say(f"Error: {message}", _exit_code(error)) if message else _exit_code(error)
    except Exception as error:
        _show_traceback(arguments)
        hint = "This should not happen. --debug shows where it comes from"
        return _say(f"Error: {one_line(error)}. {hint}.", 4)
    if code == INTERRUPTED:  # Typer has caught the KeyboardInterrupt
        return _say("Interrupted.", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _show_traceback(arguments: list[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc()


def _exit_code(error: BaseException) -> int:
    if isinstance(error, NoFeasibleBatchSize):
        return 1
    return 2 if isinstance(error, (InvalidInput, TyperException)) else 4


def _message(error: BaseException) -> str:
    """Say what is wrong, on one line; "" where Typer has printed the help instead."""
    if isinstance(error, TyperException):
        return _usage_message(error)
    text = " ".join(str(error).split()) or type(error).__name__
    return "\n".join([text, *getattr(error, "__notes__", ())])


def _usage_message(error: TyperException) -> str:
    text = error.format_message()
    near = getattr(error, "possibilities", None)  # where an option is misspelt
    if near:
        text = f"{error.message}. Did you mean {near[0]}?"
    context = getattr(error, "ctx", None)  # of the command
    return f"{text} See: {context.command_path} --help" if text and context else text


def _say(text: str, code: int) -> int:
    lines = ("".join(char for char in line if char.isprintable()) for line in text.splitlines())
    sys.stderr.write("\n".join(lines) + "\n")
    return code


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"autotune {__version__}\n")
        raise Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Debug = False,
) -> None:
    """Options of all commands."""


for command in (tune, predict, show, report, verify, compare, export, plan, doctor, demo):
    app.command()(with_common_options(command))


if __name__ == "__main__":
    main()
