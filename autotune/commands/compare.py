"""autotune compare: which of two is faster on this machine?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autotune.commands.options import (
    NO,
    UNDECIDED,
    Imports,
    Json,
    Quiet,
    Unsafe,
    print_json,
    read_option,
)
from autotune.terminal import print_renderable, progress
from autotune.units import parse_seconds, parse_share


def compare(
    a: Annotated[str, typer.Argument(help="Tuned folder, .keras file or module:function.")],
    b: Annotated[str, typer.Argument(help="The other one.")],
    sample: Annotated[
        Path | None, typer.Option(help="Rows for both; by default they are drawn.")
    ] = None,
    sample_b: Annotated[
        Path | None, typer.Option(help="Rows for B, where it needs others than A.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Rows in a batch of a model that is not tuned.")
    ] = 32,
    budget: Annotated[str, typer.Option(metavar="TIME", help="Time for probing.")] = "30s",
    tolerance: Annotated[
        str, typer.Option(metavar="SHARE", help="A smaller difference is none.")
    ] = "2%",
    seed: Annotated[int, typer.Option(help="Seed of the order, and of drawn rows.")] = 0,
    imports: Imports = None,
    unsafe_load: Unsafe = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Tell which of two tuned folders or models serves more rows per second here.

    A tuned folder runs as it recommends, a model through predict_on_batch. The exit code is 0
    where that is settled, either way, 1 where one of them does not run here, and 3 where the time
    budget ended first.

    Example: autotune compare tuned/ model.keras --sample rows.npy
    """
    from autotune.duel import compare as compare_two
    from autotune.rowfiles import read_rows

    budget_s = read_option(parse_seconds, "--budget", budget) or 0.0
    share = read_option(parse_share, "--tolerance", tolerance) or 0.0
    with progress(quiet) as show_progress:
        found = compare_two(
            a,
            b,
            None if sample is None else read_rows(sample),
            None if sample_b is None else read_rows(sample_b),
            batch_size=batch_size,
            budget_s=budget_s,
            tolerance=share,
            seed=seed,
            imports=imports or (),
            unsafe=unsafe_load,
            on_event=show_progress,
        )
    if json:
        print_json(found)
    else:
        from autotune.findings import compared

        print_renderable(compared(found))
    return {"undecided": UNDECIDED, "fails": NO}.get(found.verdict, 0)
