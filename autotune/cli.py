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
from autotune.commands.demo import demo
from autotune.commands.doctor import doctor
from autotune.commands.predict import predict
from autotune.commands.report import report
from autotune.commands.show import show
from autotune.commands.tune import tune
from autotune.errors import AutotuneError, InvalidInput, NoFeasibleBatchSize, one_line
from autotune.terminal import hush_native_code, listen_for_interrupts

app = typer.Typer(
    help="Find the batch size that your machine really wants for a Keras model.",
    epilog="--debug, with any command, shows the traceback of an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit."""
    listen_for_interrupts()
    debug = "--debug" in sys.argv
    if not debug:
        hush_native_code()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    sys.exit(run(arguments, debug=debug))


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command and return its exit code."""
    try:
        code = app(arguments, prog_name="autotune", standalone_mode=False)
    except KeyboardInterrupt:
        return _say("Interrupted.", 130)
    except (TyperException, AutotuneError, OSError, MemoryError) as error:
        if debug:
            traceback.print_exc()
        return _say(f"Error: {_message(error)}", _exit_code(error))
    except Exception as error:
        if debug:
            traceback.print_exc()
        hint = "This should not happen. --debug shows where it comes from"
        return _say(f"Error: {one_line(error)}. {hint}.", 4)
    if code == INTERRUPTED:  # Typer has caught the KeyboardInterrupt
        return _say("Interrupted.", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _exit_code(error: BaseException) -> int:
    if isinstance(error, NoFeasibleBatchSize):
        return 1
    return 2 if isinstance(error, (InvalidInput, TyperException)) else 4


def _message(error: BaseException) -> str:
    if isinstance(error, TyperException):
        return error.format_message()
    return " ".join(str(error).split()) or type(error).__name__


def _say(text: str, code: int) -> int:
    sys.stderr.write("".join(char for char in text if char.isprintable()) + "\n")
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
) -> None:
    """Options of all commands. `--debug`, anywhere, shows the traceback of an error."""


for command in (tune, predict, show, report, demo, doctor):
    app.command()(command)


if __name__ == "__main__":
    main()
