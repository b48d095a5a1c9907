"""Rows in text files: numbers between commas, with or without a line of column names."""

from __future__ import annotations

import csv
import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from autotune.errors import InvalidSample
from autotune.nesting import Array
from autotune.workload import Table

Texts = dict[str, list[str]]


def read_csv(path: Path) -> Table:
    """Read all rows; every column must hold numbers."""
    names, start = _columns(path)
    with path.open(encoding="utf-8-sig") as file:
        values = _numbers(itertools.islice(file, start, None))
    return _table(path, names, values)


def csv_pieces(
    path: Path, rows: int, texts: Sequence[str] = (), numbers: Sequence[str] = ()
) -> Iterator[tuple[Table, Texts]]:
    """Read rows piece by piece: columns of numbers, and columns as the text that they are.

    Args:
        path: The file.
        rows: Lines of a piece.
        texts: Columns that are given as text, and not as numbers.
        numbers: Those of them that are given as numbers as well.
    """
    names, start = _columns(path)
    wanted = [name for name in names if name not in texts or name in numbers]
    places = [names.index(name) for name in wanted] if texts else None
    done = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = itertools.islice(file, start, None)
        while piece := _piece(lines, rows):
            records = _records(path, piece, names) if texts else []
            try:
                values = _numbers(piece, places)
            except ValueError as error:
                raise InvalidSample(f"{path}, in the rows from {done} on: {error}") from error
            if texts and len(records) != len(values):
                raise InvalidSample(f"{path} has rows that are not read as one each.")
            if values.size:
                done += len(values)
                kept = {name: [r[names.index(name)] for r in records] for name in texts}
                yield _table(path, wanted, values), kept
    if not done:
        _table(path, wanted, np.empty((0, 0)))


def column_names(path: Path) -> list[str]:
    """Return the names of the columns: their places, where the first line is numbers."""
    return _columns(path)[0]


def _columns(path: Path) -> tuple[list[str], int]:
    """The names of the columns, and how many lines they take."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        first = next(reader, None)
        lines = reader.line_num
    if first is None:
        raise InvalidSample(f"{path} is empty.")
    places = [str(index) for index in range(len(first))]
    # Columns without names are called 0, 1, 2 by pandas, which are numbers as well. Of two columns
    # these could be a row: a name that is read as one is seen, a row that is lost is not.
    has_names = (first == places and len(first) > 2) or not all(
        _is_number(cell) or not cell.strip() for cell in first
    )
    names = first if has_names else places
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidSample(f"{path} has the column {twice!r} twice.")
    return names, lines if has_names else 0


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _piece(lines: Iterator[str], rows: int) -> list[str]:
    """The next lines; more of them where a text in quotes goes on in the next."""
    piece = list(itertools.islice(lines, rows))
    quotes = sum(line.count('"') for line in piece)
    while quotes % 2 and (more := next(lines, None)) is not None:
        piece.append(more)
        quotes += more.count('"')
    return piece


def _records(path: Path, lines: Sequence[str], names: Sequence[str]) -> list[list[str]]:
    records = [record for record in csv.reader(lines) if record]
    odd = next((record for record in records if len(record) != len(names)), None)
    if odd is not None:
        raise InvalidSample(
            f"{path} has {len(names)} columns, but one row of {len(odd)}: {','.join(odd)[:80]!r}."
        )
    return records


def _numbers(lines: Iterable[str], places: Sequence[int] | None = None) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about no data, which is told by others
        return np.loadtxt(
            lines, delimiter=",", ndmin=2, quotechar='"', usecols=places, comments=None
        )


def _table(path: Path, names: Sequence[str], values: Array) -> Table:
    if values.size == 0:
        raise InvalidSample(f"{path} has no rows below its line of column names.")
    if values.shape[1] != len(names):
        raise InvalidSample(
            f"{path} has {len(names)} column names, but rows of {values.shape[1]} columns."
        )
    return Table(zip(names, values.T, strict=True))
