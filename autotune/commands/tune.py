"""autotune tune: find the best batch size for a model on this machine."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.commands import completing
from autotune.commands.options import (
    UNDECIDED,
    Imports,
    Json,
    Quiet,
    Unsafe,
    model_source,
    read_option,
)
from autotune.errors import InvalidInput
from autotune.terminal import print_record, progress
from autotune.units import parse_bytes, parse_seconds, parse_share

if TYPE_CHECKING:
    from autotune.nesting import Nested


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
        str,
        typer.Option(
            help="throughput, makespan (least time for --rows) or latency.",
            autocompletion=completing.objectives,
        ),
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
        list[str] | None,
        typer.Option(
            help="Engine to try; repeat for several. Default: all.",
            autocompletion=completing.engines,
        ),
    ] = None,
    concurrency: Annotated[
        list[int] | None, typer.Option(help="Batches in flight to try; repeat for several.")
    ] = None,
    budget: Annotated[str, typer.Option(metavar="TIME", help="Time for probing.")] = "60s",
    precision: Annotated[
        str | None,
        typer.Option(
            help="bfloat16 lets engines that can compute in it.",
            autocompletion=completing.precisions,
        ),
    ] = None,
    isolation: Annotated[
        str,
        typer.Option(
            help="process: probe in a child; none: in this process.",
            autocompletion=completing.isolations,
        ),
    ] = "process",
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Keep the study, to go on later: sqlite:///tune.db."),
    ] = None,
    study: Annotated[str, typer.Option(help="Name of the study in the storage.")] = "autotune",
    strategy: Annotated[
        str,
        typer.Option(help="ladder, or sampler for Optuna's.", autocompletion=completing.strategies),
    ] = "ladder",
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    imports: Imports = None,
    unsafe_load: Unsafe = False,
    json: Json = False,
    quiet: Quiet = False,
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
        latency_budget_s=read_option(parse_seconds, "--latency-budget", latency_budget),
        quantile=read_option(parse_share, "--quantile", quantile) or 0.0,
        memory_budget_bytes=read_option(parse_bytes, "--memory-budget", memory_budget),
        min_batch_size=min_batch_size,
        max_batch_size=max_batch_size,
        tolerance=read_option(parse_share, "--tolerance", tolerance) or 0.0,
    )
    budget_s = read_option(parse_seconds, "--budget", budget) or 0.0
    source = model_source(model, imports, unsafe_load)
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
