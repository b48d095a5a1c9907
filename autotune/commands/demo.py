"""autotune demo: tune a small classifier, and compare it before and after."""

from __future__ import annotations

from typing import Annotated

import typer

from autotune.commands.options import Json, Quiet, print_json, read_option
from autotune.terminal import print_record, print_renderable, progress
from autotune.units import parse_seconds


def demo(
    budget: Annotated[str, typer.Option(metavar="TIME", help="Time for probing.")] = "20s",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tune a small classifier of handwritten digits, and compare it before and after.

    Example: autotune demo
    """
    from autotune.demo import run as run_demo
    from autotune.report import comparison

    budget_s = read_option(parse_seconds, "--budget", budget) or 0.0
    with progress(quiet) as show_progress:
        found = run_demo(budget_s, show_progress)
    if json:
        print_json(found)
    else:
        print_renderable(comparison(found.rows, found.timings))
        print_record(found.record, False)
