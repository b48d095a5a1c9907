"""The command line: options, one call, text. Errors become one line and an exit code.

Exit codes: 0 done, 1 the answer is no, 2 wrong usage or bad input, 3 undecided, 4 a fault of the
environment, 130 interrupted. Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.exceptions import Exit, TyperException

from autotune import __version__
from autotune.errors import AutotuneError, InvalidInput, NoFeasibleBatchSize, one_line
from autotune.terminal import (
    hush_native_code,
    listen_for_interrupts,
    print_record,
    print_renderable,
    progress,
)
from autotune.units import parse_bytes, parse_seconds, parse_share

if TYPE_CHECKING:
    from autotune.nesting import Nested

_T = TypeVar("_T")

app = typer.Typer(
    help="Find the batch size that your machine really wants for a Keras model.",
    epilog="--debug, with any command, shows the traceback of an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
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

UNDECIDED = 3
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


@app.command()
def tune(
    model: Annotated[str, typer.Argument(help="A .keras file, or package.module:function.")],
    sample: Annotated[
        Path | None, typer.Option(help="Rows that stand for production: .npy .npz .csv .parquet.")
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Draw rows from the model's inputs instead.")
    ] = False,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="[INPUT=]N,N", help="Shape of a drawn row, where the model is free."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the tuned predictor.")] = None,
    objective: Annotated[
        str, typer.Option(help="throughput, makespan (least time for --rows) or latency.")
    ] = "throughput",
    rows: Annotated[int | None, typer.Option(help="Rows of the whole job, for makespan.")] = None,
    latency_budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Longest time of a batch, such as 20ms.")
    ] = None,
    quantile: Annotated[
        str, typer.Option(metavar="SHARE", help="Quantile at which the latency must be met.")
    ] = "95%",
    memory_budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Most memory to use, such as 6GiB.")
    ] = None,
    min_batch_size: Annotated[int, typer.Option(help="Smallest batch size to consider.")] = 1,
    max_batch_size: Annotated[
        int | None, typer.Option(help="Largest batch size to consider.")
    ] = None,
    tolerance: Annotated[
        str, typer.Option(metavar="SHARE", help="Take the smallest batch not worse by more.")
    ] = "2%",
    engine: Annotated[
        list[str] | None, typer.Option(help="Engine to try; repeat for several. Default: all.")
    ] = None,
    concurrency: Annotated[
        list[int] | None, typer.Option(help="Batches in flight to try; repeat for several.")
    ] = None,
    budget: Annotated[str, typer.Option(metavar="TIME", help="Time for probing.")] = "60s",
    precision: Annotated[
        str | None, typer.Option(help="bfloat16 lets engines that can compute in it.")
    ] = None,
    isolation: Annotated[
        str, typer.Option(help="process: probe in a child; none: in this process.")
    ] = "process",
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Keep the study, to go on later: sqlite:///tune.db."),
    ] = None,
    study: Annotated[str, typer.Option(help="Name of the study in the storage.")] = "autotune",
    strategy: Annotated[str, typer.Option(help="ladder, or sampler for Optuna's.")] = "ladder",
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    imports: Imports = None,
    unsafe_load: Unsafe = False,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Find the best batch size for a model on this machine.

    The exit code is 3 where the time budget ended before the answer was settled.

    Example: autotune tune model.keras --sample rows.npy --latency-budget 20ms --out tuned/
    """
    from autotune.goal import Goal
    from autotune.studies import open_study
    from autotune.tuning import tune as tune_model

    goal = Goal(
        objective=objective,  # type: ignore[arg-type]  # Goal checks it
        rows=rows,
        latency_budget_s=_read(parse_seconds, "--latency-budget", latency_budget),
        quantile=_read(parse_share, "--quantile", quantile) or 0.0,
        memory_budget_bytes=_read(parse_bytes, "--memory-budget", memory_budget),
        min_batch_size=min_batch_size,
        max_batch_size=max_batch_size,
        tolerance=_read(parse_share, "--tolerance", tolerance) or 0.0,
    )
    budget_s = _read(parse_seconds, "--budget", budget) or 0.0
    source = _model_source(model, imports, unsafe_load)
    _check_out(out)
    with contextlib.ExitStack() as stack:
        opened = None if storage is None else stack.enter_context(open_study(storage, study))
        show_progress = stack.enter_context(progress(quiet))
        predictor = tune_model(
            source,
            _sample(sample, synthetic, shape or []),
            goal,
            engines=engine,
            concurrency=concurrency,
            budget_s=budget_s,
            isolation=isolation,  # type: ignore[arg-type]  # tune checks it
            precision=precision,  # type: ignore[arg-type]  # tune checks it
            study=opened,
            strategy=strategy,  # type: ignore[arg-type]  # search checks it
            seed=seed,
            on_event=show_progress,
        )
        if out:
            predictor.save(out)
    print_record(predictor.record, json)
    if out:
        sys.stderr.write(f"Tuned predictor written to {out}: autotune.load({str(out)!r})\n")
    return UNDECIDED if predictor.recommendation.confidence == "low" else 0


@app.command()
def predict(
    tuned: Annotated[Path, typer.Argument(help="Folder that `autotune tune --out` wrote.")],
    rows: Annotated[Path, typer.Argument(help="Rows: .npy .npz .csv .parquet.")],
    out: Annotated[Path, typer.Option(help="File for the outputs: .npy or .npz.")],
    imports: Imports = None,
    unsafe_load: Unsafe = False,
    json: Json = False,
) -> None:
    """Predict rows from a file with a tuned predictor.

    Example: autotune predict tuned/ rows.npy --out outputs.npy
    """
    from autotune.loading import load
    from autotune.nesting import flatten
    from autotune.rowfiles import check_output_file, read_rows, write_rows

    check_output_file(out)
    values = read_rows(rows)
    predictor = load(tuned, imports=imports or (), unsafe=unsafe_load)
    outputs = predictor.predict(values)
    write_rows(out, outputs)
    count = len(flatten(outputs)[0][0])
    text = f'{{"rows": {count}}}' if json else f"{count} rows written to {out}"
    sys.stdout.write(text + "\n")


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="Tuned folder, or a record's JSON file.")],
    json: Json = False,
) -> None:
    """Show what a tuning run found; of a folder tuned on several devices, the latest run.

    Example: autotune show tuned/
    """
    from autotune import artifact
    from autotune.records import TuningRecord
    from autotune.report import elsewhere

    records = artifact.read(path).records if path.is_dir() else (TuningRecord.load(path),)
    print_record(records[0], json)
    if not json:
        for other in records[1:]:
            sys.stdout.write(f"Also tuned: {elsewhere(other)}\n")


@app.command()
def demo(
    budget: Annotated[str, typer.Option(metavar="TIME", help="Time for probing.")] = "20s",
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Tune a small classifier of handwritten digits, and compare it before and after.

    Example: autotune demo
    """
    from autotune.demo import run as run_demo
    from autotune.report import comparison

    budget_s = _read(parse_seconds, "--budget", budget) or 0.0
    with progress(quiet) as show_progress:
        found = run_demo(budget_s, show_progress)
    if json:
        import msgspec

        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    else:
        print_renderable(comparison(found.rows, found.timings))
        print_record(found.record, False)


@app.command()
def doctor(json: Json = False) -> None:
    """Show what models run on here, what can be seen of it, and what to mend.

    Example: autotune doctor
    """
    from autotune.checkup import check_up

    found = check_up()
    if json:
        import msgspec

        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    else:
        from autotune.doctor import summary

        print_renderable(summary(found))


def _read(parse: Callable[[str], _T], option: str, text: str | None) -> _T | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidInput(f"{option}: {error}") from error


def _model_source(model: str, imports: list[str] | None, unsafe: bool) -> Any:
    from autotune.models import ModelFile, source_of

    source = source_of(ModelFile(model, tuple(imports or ()), unsafe)) if _is_file(model) else None
    return source or source_of(model)


def _is_file(model: str) -> bool:
    return Path(model).exists() or ":" not in model


def _check_out(out: Path | None) -> None:
    if out:
        from autotune.artifact import check_target

        check_target(out)


def _sample(path: Path | None, synthetic: bool, shapes: list[str]) -> Nested:
    from autotune.rowfiles import read_rows
    from autotune.workload import Synthetic

    if (path is None) == (not synthetic):
        raise InvalidInput("Give either --sample FILE or --synthetic; real rows are better.")
    if path is not None:
        if shapes:
            raise InvalidInput("--shape is for --synthetic rows: those of a file have their shape.")
        return read_rows(path)
    return Synthetic(shapes=dict(_shape(text) for text in shapes))


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, numbers = text.rpartition("=")
    try:
        sizes = tuple(int(number) for number in numbers.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise InvalidInput(f"--shape must look like image=224,224,3, but got {text!r}.")
    return name, sizes


if __name__ == "__main__":
    main()
