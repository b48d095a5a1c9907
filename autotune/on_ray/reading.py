"""Rows of files as a Ray dataset, in the order in which they stand in them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from autotune.errors import InvalidSample, one_line
from autotune.nesting import head
from autotune.on_ray.tables import as_column
from autotune.rowfiles import read_rows

ROWS_OF_A_BLOCK = 2**14


def read(rows: Path) -> Source:
    """Open a file of rows, or all `.parquet` files of a folder in the order of their names.

    A folder's `name=value` folders become columns, as Hive has them. No cluster is needed yet.

    Raises:
        InvalidSample: There are no rows, or they cannot be read.
    """
    if not rows.exists():
        raise InvalidSample(f"Sample file not found: {rows}.")
    if rows.is_dir() or rows.suffix.lower() == ".parquet":
        return RowGroups(rows.absolute())
    values = read_rows(rows)
    columns = dict(values) if isinstance(values, dict) else {"data": values}
    count = len(next(iter(columns.values())))
    _check_any(rows, count)
    return [_block(columns, start) for start in range(0, count, ROWS_OF_A_BLOCK)]


def as_dataset(source: Source) -> ray.data.Dataset:
    """Return what was opened as a dataset; all machines read Parquet files by themselves."""
    if isinstance(source, RowGroups):
        return ray.data.read_datasource(source)
    return ray.data.from_arrow(source)


def _block(columns: dict[str, Any], start: int) -> pa.Table:
    parts = {name: head(values, ROWS_OF_A_BLOCK, start) for name, values in columns.items()}
    return pa.table({name: as_column(part) for name, part in parts.items()})


def _check_any(rows: Path, count: int) -> None:
    if not count:
        raise InvalidSample(f"{rows} has no rows.")


@dataclass(frozen=True, slots=True)
class Piece:
    """Row groups of a file that are read one after the other.

    Attributes:
        path: Of the file.
        groups: Their numbers.
        rows: How many they have.
        size_bytes: Of their columns before they were compressed.
        constants: Columns that the names of folders tell, of one value and its type each.
    """

    path: str
    groups: tuple[int, ...]
    rows: int
    size_bytes: int
    constants: tuple[tuple[str, pa.Scalar], ...]

    def read(self) -> Iterator[pa.Table]:
        """Yield the rows in tables of `ROWS_OF_A_BLOCK` at most."""
        with pyarrow.parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(ROWS_OF_A_BLOCK, row_groups=list(self.groups)):
                table = pa.Table.from_batches([batch])
                for name, value in self.constants:
                    table = table.append_column(name, pa.repeat(value, len(table)))
                yield table


class RowGroups(Datasource):  # type: ignore[misc]  # Ray's class has no types
    """Parquet files, row group by row group.

    `ray.data.read_parquet` takes a file's row groups in whatever order they are decoded, also where
    the order is to be preserved (Ray 2.60).
    """

    def __init__(self, rows: Path) -> None:
        super().__init__()
        try:
            self._pieces = _pieces_of(rows)
        except (pa.ArrowException, OSError) as error:
            raise InvalidSample(f"{rows} cannot be read as rows: {one_line(error)}") from error
        _check_any(rows, sum(piece.rows for piece in self._pieces))

    def estimate_inmemory_data_size(self) -> int:
        """Return the bytes of all columns, as the files tell them."""
        return sum(piece.size_bytes for piece in self._pieces)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return a task for each piece, in order, whatever the parallelism that is asked for."""
        del parallelism, data_context
        return [
            ReadTask(
                functools.partial(Piece.read, piece),
                BlockMetadata(piece.rows, piece.size_bytes, None, None, (piece.path,)),
                per_task_row_limit=per_task_row_limit,
            )
            for piece in self._pieces
        ]


def _pieces_of(rows: Path) -> list[Piece]:
    files = sorted(rows.glob("**/*.parquet")) if rows.is_dir() else [rows]
    if not files:
        raise InvalidSample(f"{rows} holds no .parquet files.")
    dataset = pyarrow.dataset.dataset(
        list(map(str, files)), format="parquet", partitioning="hive", partition_base_dir=str(rows)
    )
    pieces = []
    for file in dataset.get_fragments():
        keys = pyarrow.dataset.get_partition_keys(file.partition_expression)
        types = {name: dataset.schema.field(name).type for name in keys}
        constants = tuple((name, pa.scalar(keys[name], types[name])) for name in keys)
        groups = [group for group in file.row_groups if group.num_rows]
        pieces += [
            Piece(
                file.path,
                tuple(group.id for group in part),
                sum(group.num_rows for group in part),
                sum(group.total_byte_size for group in part),
                constants,
            )
            for part in _parts(groups)
        ]
    return pieces


def _parts(groups: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield neighbours together that have a block's rows, so that small ones cost no task each."""
    part: list[Any] = []
    for group in groups:
        part.append(group)
        if sum(each.num_rows for each in part) >= ROWS_OF_A_BLOCK:
            yield part
            part = []
    if part:
        yield part


Source: TypeAlias = RowGroups | list[pa.Table]
