"""autotune predict: rows from a file through a tuned predictor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autotune.commands.options import Imports, Json, Tuned, Unsafe


def predict(
    tuned: Tuned,
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
