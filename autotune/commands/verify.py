"""autotune verify: does a recommendation still hold on this machine?"""

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
    Tuned,
    Unsafe,
    print_json,
    read_option,
)
from autotune.terminal import print_renderable, progress
from autotune.units import parse_seconds, parse_share

EXIT_CODES = {"same": 0, "faster": 0, "slower": NO, "fails": NO, "undecided": UNDECIDED}


def verify(
    tuned: Tuned,
    sample: Annotated[
        Path | None, typer.Option(help="Rows that stand for production; by default they are drawn.")
    ] = None,
    budget: Annotated[str, typer.Option(metavar="TIME", help="Time for probing.")] = "20s",
    tolerance: Annotated[
        str, typer.Option(metavar="SHARE", help="How much of its advantage may be lost.")
    ] = "5%",
    seed: Annotated[int, typer.Option(help="Seed of the order, and of drawn rows.")] = 0,
    imports: Imports = None,
    unsafe_load: Unsafe = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Measure again, briefly, whether a recommendation still holds on this machine.

    The exit code is 0 where it does, 1 where it is slower than recorded, no longer the best or
    does not run, and 3 where the time budget ended before that was settled.

    Example: autotune verify tuned/ --sample rows.npy
    """
    from autotune.rowfiles import read_rows
    from autotune.verifying import verify as verify_tuned

    budget_s = read_option(parse_seconds, "--budget", budget) or 0.0
    share = read_option(parse_share, "--tolerance", tolerance) or 0.0
    with progress(quiet) as show_progress:
        found = verify_tuned(
            tuned,
            None if sample is None else read_rows(sample),
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
        from autotune.findings import verified

        print_renderable(verified(found))
    return EXIT_CODES[found.verdict]
