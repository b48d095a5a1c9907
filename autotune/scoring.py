"""Scoring: the rows of a file through a predictor into a file, in little memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autotune.errors import InvalidInput, InvalidSample
from autotune.nesting import Nested, leaves_of
from autotune.outfiles import check_output_file, writing
from autotune.predictor import TunedPredictor
from autotune.records import Input
from autotune.rowpieces import Cut, open_rows
from autotune.terminal import count_rows_done

PIECE_BYTES = 2**23  # of input
PIECE_ROWS = 2**13  # a row's outputs may be larger than the row


class _Scored(NamedTuple):
    outputs: Nested
    kept: Mapping[str, Any]

    @property
    def rows(self) -> int:
        return len(leaves_of(self.outputs)[0])


def score(
    predictor: TunedPredictor,
    rows: Path,
    out: Path,
    *,
    keep: Sequence[str] = (),
    progress: bool = False,
) -> int:
    """Predict the rows of a file, piece by piece, and write the outputs to another.

    Neither need fit in memory: some pieces are held, of a few MiB or a batch each. The outputs
    are written beside their place, and take it when they are complete.

    Args:
        predictor: What predicts.
        rows: `.npy`, `.npz`, `.csv` or `.parquet`; see `rowpieces.open_rows`.
        out: `.npy`, `.npz`, `.csv` or `.parquet`; see `outfiles.writing`.
        keep: Columns of the input that are written beside the outputs, from table to table. They
            are not given to the model, unless one of its inputs has that name.
        progress: Show a bar on standard error, if that is a terminal.

    Returns:
        How many rows there were.

    Raises:
        InvalidInput: The rows cannot be read or do not fit the model, or the outputs cannot be
            written so; the output file is as it was.
        EnvironmentFault: The output file cannot be written.
    """
    check_places(rows, out, keep=keep)
    model = predictor.record.model
    names = [each.name for each in model.inputs] if model else []
    source = open_rows(rows, Cut(rows_at_once(predictor), keep, names))
    kept: deque[Mapping[str, Any]] = deque()

    def inputs() -> Iterator[Nested]:
        for piece in source.pieces:
            kept.append(piece.kept)  # some pieces are taken before the first is answered
            yield piece.inputs

    done = (_Scored(outputs, kept.popleft()) for outputs in predictor.stream(inputs()))
    count = 0
    with writing(out) as write:
        for part in count_rows_done(done, source.rows) if progress else done:
            write(part.outputs, part.kept)
            count += part.rows
        if source.rows not in (None, count):
            raise InvalidSample(f"{rows} is damaged: of its {source.rows} rows {count} are there.")
    return count


def check_places(rows: Path, out: Path, *, keep: Sequence[str] = ()) -> None:
    """Refuse an output file that cannot be written, or is the input itself.

    Raises:
        InvalidInput: It is so.
    """
    check_output_file(out, keeps=bool(keep))
    if out.exists() and rows.exists() and out.samefile(rows):
        raise InvalidInput(f"{out} holds the rows. Give another file for the outputs.")


def rows_at_once(predictor: TunedPredictor) -> int:
    """How many rows to read at once: whole batches, as many as are in flight or more."""
    way, model = predictor.recommendation, predictor.record.model
    in_flight = way.batch_size * way.concurrency
    sizes = [_row_bytes(each) for each in model.inputs] if model else [None]
    if None in sizes:
        return in_flight
    few = min(PIECE_ROWS, PIECE_BYTES // max(1, sum(size or 0 for size in sizes)))
    return max(1, few // in_flight) * in_flight


def _row_bytes(one: Input) -> int | None:
    """How large a row of an input is; None where there is no telling."""
    shape = [size for size in one.shape if size is not None]
    if len(shape) < len(one.shape) or one.dtype in ("string", "bfloat16"):
        return None
    return math.prod(shape) * np.dtype(one.dtype).itemsize
