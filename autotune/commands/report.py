"""autotune report: what a tuning run found, as a page, as Markdown, as pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autotune.commands.options import Json, print_json


def report(
    path: Annotated[Path, typer.Argument(help="Tuned folder, or a record's JSON file.")],
    out: Annotated[
        Path, typer.Option(help="File for the report: .html, or .md for a pull request.")
    ] = Path("report.html"),
    plots: Annotated[
        Path | None, typer.Option(help="Folder for a PNG and an SVG of each chart.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files that are no reports.")
    ] = False,
    json: Json = False,
) -> None:
    """Write what a tuning run found as a page that needs nothing else, or as Markdown.

    Example: autotune report tuned/ --out report.html
    """
    from autotune import artifact
    from autotune.records import TuningRecord
    from autotune.report import elsewhere
    from autotune.report.writing import write

    records = artifact.read(path).records if path.is_dir() else (TuningRecord.load(path),)
    written = [str(file) for file in write(records[0], out, plots, force=force)]
    for other in records[1:]:
        sys.stderr.write(f"Not in this report: {elsewhere(other)}\n")
    if json:
        print_json({"written": written})
    else:
        sys.stdout.write("".join(f"{file}\n" for file in written))
