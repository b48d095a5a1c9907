"""autotune show: what a tuning run found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autotune.commands.options import Json
from autotune.terminal import print_record


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
