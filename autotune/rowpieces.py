"""Rows in files, read piece by piece: files that are larger than memory."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from autotune.csvfiles import column_names, csv_pieces
from autotune.errors import InvalidSample
from autotune.foreign import read_columns
from autotune.nesting import Array, Nested, cut, leaves_of
from autotune.rowfiles import check_row_file, need_parquet, of_archive, read_npy, read_npz, reading
from autotune.workload import Table

TABLES = (".csv", ".parquet")


class Piece(NamedTuple):
    """Some rows of a file.

    Attributes:
        inputs: An array, a dict of arrays, or a `Table`.
        kept: The columns that are to be kept, by name, each of a kind of its own.
    """

    inputs: Nested
    kept: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file of rows that is open.

    Attributes:
        rows: How many there are; None where only reading them tells.
        pieces: Its rows, in order; one piece without any where there are none.
    """

    rows: int | None
    pieces: Iterator[Piece]


@dataclass(frozen=True, slots=True)
class Cut:
    """How to cut a file.

    Attributes:
        rows: Rows of a piece.
        keep: Columns of a table that are to be kept. They are no inputs of a model.
        inputs: Names of the model's inputs: those are, kept or not.
    """

    rows: int
    keep: Sequence[str] = ()
    inputs: Sequence[str] = ()

    def columns(self, path: Path, names: Sequence[str]) -> list[str]:
        """Return the columns that are for the model.

        Raises:
            InvalidSample: One to keep is not there, or none is left.
        """
        for name in self.keep:
            if name not in names:
                there = ", ".join(map(repr, names[:10]))
                raise InvalidSample(f"{path} has no column {name!r} to keep (columns: {there}).")
        left = [name for name in names if name not in self.keep or name in self.inputs]
        if not left:
            raise InvalidSample(
                f"All columns of {path} are kept, so none is left for the model: a kept column "
                "is given to it only if one of its inputs has that name."
            )
        return left


def open_rows(path: Path, how: Cut) -> RowFile:
    """Open a file of rows, to be read piece by piece.

    Args:
        path: `.npy` (mapped into memory), `.npz`, `.csv` or `.parquet`. Arrays of an `.npz` in
            Fortran's order cannot be read piece by piece, and are read at once.
        how: How to cut it.

    Raises:
        InvalidSample: No such file, another kind of file, content that cannot be read, or
            columns to keep that it has not; also while the pieces are read.
    """
    openers: dict[str, Callable[[Path, Cut], RowFile]] = {
        ".npy": lambda path, how: _whole(read_npy(path), how),
        ".npz": _open_npz,
        ".csv": _open_csv,
        ".parquet": _open_parquet,
    }
    suffix = check_row_file(path)
    if how.keep and suffix not in TABLES:
        raise InvalidSample(f"{path} has no columns to keep: {' and '.join(TABLES)} have.")
    with reading(path):
        opened = openers[suffix](path, how)
    return RowFile(opened.rows, _told(path, opened.pieces))


def _told(path: Path, pieces: Iterator[Piece]) -> Iterator[Piece]:
    with reading(path):
        yield from pieces


def _whole(arrays: Nested, how: Cut) -> RowFile:
    leaves = leaves_of(arrays)
    # A number alone, and arrays of unequal length, are refused by who takes them.
    rows = max(map(len, leaves)) if all(leaf.ndim for leaf in leaves) else 0
    parts = cut(arrays, rows, how.rows) if rows else iter([arrays])
    return RowFile(rows, (Piece(part, {}) for part in parts))


def _open_npz(path: Path, how: Cut) -> RowFile:
    archive = zipfile.ZipFile(path)
    members = [_Member(archive, name) for name in archive.namelist()]
    if not members or not all(member.is_streamed for member in members):
        archive.close()
        return _whole(read_npz(path), how)
    rows = max(member.left for member in members)
    return RowFile(rows, _npz_pieces(archive, members, how.rows))


def _npz_pieces(archive: zipfile.ZipFile, members: Sequence[_Member], rows: int) -> Iterator[Piece]:
    with archive:
        begun = False
        while not begun or any(member.left for member in members):
            begun = True
            arrays = {member.name: member.read(rows) for member in members}
            yield Piece(of_archive(arrays), {})


class _Member:
    """An array in an archive, read from its begin to its end.

    Attributes:
        name: The array's name.
        left: Rows that are still to be read.
        is_streamed: Whether its rows lie one after the other.
    """

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self.name = name.removesuffix(".npy")
        self._stream: IO[bytes] = archive.open(name)
        shape, in_columns, self._dtype = self._header()
        self.is_streamed = bool(shape) and not self._dtype.hasobject and not in_columns
        self.left, *self._shape = shape or (0,)

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, in_columns, dtype = read[np.lib.format.read_magic(self._stream)](self._stream)
        return shape, in_columns and len(shape) > 1, dtype

    def read(self, rows: int) -> Array:
        """Read the next rows, as many as are left."""
        count = min(rows, self.left)
        size = count * int(np.prod(self._shape, dtype=int)) * self._dtype.itemsize
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError(f"the array {self.name!r} ends {size - len(data)} bytes too early")
        self.left -= count
        return np.ndarray((count, *self._shape), self._dtype, data)


def _open_csv(path: Path, how: Cut) -> RowFile:
    how.columns(path, column_names(path))
    pieces = csv_pieces(path, how.rows, how.keep, how.inputs)
    return RowFile(None, (Piece(table, kept) for table, kept in pieces))


def _open_parquet(path: Path, how: Cut) -> RowFile:
    need_parquet()
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path, buffer_size=2**20)
    columns = how.columns(path, file.schema_arrow.names)
    rows = file.metadata.num_rows

    def batches() -> Iterator[Any]:
        # Group by group: over all of them at once, pyarrow 26 kept what it had read.
        for group in range(file.num_row_groups):
            yield from file.iter_batches(how.rows, row_groups=[group])
        if not rows:
            yield file.schema_arrow.empty_table()

    return RowFile(rows, (_piece_of(batch, columns, how.keep) for batch in batches()))


def _piece_of(batch: Any, columns: Sequence[str], keep: Sequence[str]) -> Piece:
    kept = {name: batch.column(name) for name in keep}
    return Piece(Table(read_columns(batch.select(columns))), kept)
