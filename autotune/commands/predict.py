"""autotune predict: rows from a file through a tuned predictor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autotune.commands.options import Imports, Json, Quiet, Tuned, Unsafe


def predict(
    tuned: Tuned,
    rows: Annotated[Path, typer.Argument(help="Rows: .npy .npz .csv .parquet.")],
    out: Annotated[Path, typer.Option(help="File for the outputs: .npy .npz .csv .parquet.")],
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column to carry over, such as an id; repeat."),
    ] = None,
    imports: Imports = None,
    unsafe_load: Unsafe = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict rows from a file with a tuned predictor; the file may be larger than memory.

    Example: autotune predict tuned/ rows.npy --out outputs.npy
    """
    from autotune.loading import load
    from autotune.rowfiles import check_row_file
    from autotune.scoring import check_places, score

    check_places(rows, out, keep=keep or ())
    check_row_file(rows)
    predictor = load(tuned, imports=imports or (), unsafe=unsafe_load)
    count = score(predictor, rows, out, keep=keep or (), progress=not quiet)
    text = f'{{"rows": {count}}}' if json else f"{count} rows written to {out}"
    sys.stdout.write(text + "\n")
