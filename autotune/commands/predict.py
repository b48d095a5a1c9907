"""autotune predict: rows from a file through a tuned predictor."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
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
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Score on Ray, into a folder: local, auto, or a cluster."
        ),
    ] = None,
    imports: Imports = None,
    unsafe_load: Unsafe = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict rows from a file with a tuned predictor; the file may be larger than memory.

    Example: autotune predict tuned/ rows.npy --out outputs.npy
    """
    if ray is not None:
        count = _on_ray(tuned, rows, out, ray, keep or (), imports or (), unsafe_load, quiet)
    else:
        count = _here(tuned, rows, out, keep or (), imports or (), unsafe_load, quiet)
    text = f'{{"rows": {count}}}' if json else f"{count} rows written to {out}"
    sys.stdout.write(text + "\n")


def _here(
    tuned: Path,
    rows: Path,
    out: Path,
    keep: Sequence[str],
    imports: Sequence[str],
    unsafe: bool,
    quiet: bool,
) -> int:
    from autotune.loading import load
    from autotune.rowfiles import check_row_file
    from autotune.scoring import check_places, score

    check_places(rows, out, keep=keep)
    check_row_file(rows)
    predictor = load(tuned, imports=imports, unsafe=unsafe)
    return score(predictor, rows, out, keep=keep, progress=not quiet)


def _on_ray(
    tuned: Path,
    rows: Path,
    out: Path,
    address: str,
    keep: Sequence[str],
    imports: Sequence[str],
    unsafe: bool,
    quiet: bool,
) -> int:
    from autotune.on_ray import score_files

    if not logging.getLogger("autotune").isEnabledFor(logging.INFO):
        for name in ("ray", "ray.data"):  # a screenful, of which an error is told again
            logging.getLogger(name).setLevel(logging.CRITICAL)
    where = None if address == "local" else address
    return score_files(
        tuned,
        rows,
        out,
        where,
        keep=keep or None,
        imports=imports,
        unsafe=unsafe,
        progress=not quiet,
    )
