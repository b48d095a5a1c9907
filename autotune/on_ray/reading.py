"""Rows of files as a Ray dataset, in the order in which they stand in them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from autotune import rowpieces
from autotune.errors import InvalidSample, one_line
from autotune.nesting import Nested
from autotune.on_ray.tables import as_column

ROWS_OF_A_BLOCK = 2**14
NULL = "__HIVE_DEFAULT_PARTITION__"


def read(rows: Path, keep: Sequence[str] = (), inputs: Sequence[str] = ()) -> Source:
    """Open a file of rows, or all `.parquet` files of a folder in the order of their names.

    A folder's `name=value` folders become columns, as Hive has them; what begins with a dot or an
    underscore is left out. No cluster is needed yet.

    Args:
        rows: The file or the folder.
        keep: Columns that are to be kept beside the predictions.
        inputs: Names of the model's inputs.

    Raises:
        InvalidSample: There are no rows, or they cannot be read.
    """
    if not rows.exists():
        raise InvalidSample(f"Sample file not found: {rows}.")
    how = rowpieces.Cut(ROWS_OF_A_BLOCK, keep, inputs)
    if rows.is_dir() or rows.suffix.lower() == ".parquet":
        return RowGroups(rows.absolute(), how)
    blocks = [_block(rows, piece) for piece in rowpieces.open_rows(rows, how).pieces]
    _check_any(rows, sum(map(len, blocks)))
    return blocks


def as_dataset(source: Source) -> ray.data.Dataset:
    """Return what was opened as a dataset; all machines read Parquet files by themselves."""
    if isinstance(source, RowGroups):
        return ray.data.read_datasource(source)
    return ray.data.from_arrow(source)


def _block(rows: Path, piece: rowpieces.Piece) -> pa.Table:
    found: Nested = piece.inputs
    arrays = dict(found) if isinstance(found, Mapping) else {"data": found}
    counts = {len(array) if array.ndim else -1 for array in arrays.values()}
    if len(counts) != 1 or -1 in counts:
        raise InvalidSample(f"{rows} holds arrays that have not the same number of rows.")
    # A kept column that is an input as well stays the text that it is: numbers are read later.
    return pa.table({**{name: as_column(a) for name, a in arrays.items()}, **piece.kept})


def _check_any(rows: Path, count: int) -> None:
    if not count:
        raise InvalidSample(f"{rows} has no rows.")


@dataclass(frozen=True, slots=True)
class Fragment:
    """Row groups of a file that are read one after the other.

    Attributes:
        path: Of the file.
        groups: Their numbers.
        rows: How many they have.
        size_bytes: Of their columns before they were compressed.
        constants: Columns that the names of folders tell, of one value each.
        schema: Names, order and types of all columns, which are the same for all files.
    """

    path: str
    groups: tuple[int, ...]
    rows: int
    size_bytes: int
    constants: Mapping[str, int | str | None]
    schema: pa.Schema

    def read(self) -> Iterator[pa.Table]:
        """Yield the rows in tables of `ROWS_OF_A_BLOCK` at most."""
        with pyarrow.parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(ROWS_OF_A_BLOCK, row_groups=list(self.groups)):
                table = pa.Table.from_batches([batch])
                for name, value in self.constants.items():
                    table = table.append_column(name, pa.repeat(value, len(table)))
                table = table.select(self.schema.names)
                yield table if table.schema.equals(self.schema) else table.cast(self.schema)


class RowGroups(Datasource):  # type: ignore[misc]  # Ray's class has no types
    """Parquet files, row group by row group.

    `ray.data.read_parquet` takes a file's row groups in whatever order they are decoded, also where
    the order is to be preserved (Ray 2.60).
    """

    def __init__(self, rows: Path, how: rowpieces.Cut) -> None:
        super().__init__()
        try:
            self._fragments = _fragments_of(rows)
        except (pa.ArrowException, OSError) as error:
            raise InvalidSample(f"{rows} cannot be read as rows: {one_line(error)}") from error
        _check_any(rows, sum(fragment.rows for fragment in self._fragments))
        how.columns(rows, self._fragments[0].schema.names)

    def estimate_inmemory_data_size(self) -> int:
        """Return the bytes of all columns, as the files tell them."""
        return sum(fragment.size_bytes for fragment in self._fragments)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return a task for each fragment, in order, whatever the parallelism that is asked for."""
        del parallelism, data_context
        return [
            ReadTask(
                functools.partial(Fragment.read, fragment),
                BlockMetadata(fragment.rows, fragment.size_bytes, None, None, (fragment.path,)),
                per_task_row_limit=per_task_row_limit,
            )
            for fragment in self._fragments
        ]


def _fragments_of(rows: Path) -> list[Fragment]:
    files = sorted(_files_of(rows)) if rows.is_dir() else [rows]
    if not files:
        raise InvalidSample(f"{rows} holds no .parquet files.")
    told, metadata, schemas = [], [], []
    for file, constants in zip(files, _told_by_folders(rows, files), strict=True):
        with pyarrow.parquet.ParquetFile(file) as opened:
            own = opened.schema_arrow.remove_metadata()
            metadata.append(opened.metadata)
        told.append({name: value for name, value in constants.items() if name not in own.names})
        for name, value in told[-1].items():
            own = own.append(pa.field(name, pa.scalar(value).type))
        schemas.append(own)
    schema = _common_schema(files, schemas)
    return [
        Fragment(
            path=str(file),
            groups=tuple(part),
            rows=sum(of_file.row_group(index).num_rows for index in part),
            size_bytes=sum(of_file.row_group(index).total_byte_size for index in part),
            constants=constants,
            schema=schema,
        )
        for file, of_file, constants in zip(files, metadata, told, strict=True)
        for part in _parts([of_file.row_group(n).num_rows for n in range(of_file.num_row_groups)])
    ]


def _common_schema(files: Sequence[Path], schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Find the types that hold the values of all files, under the first one's order of columns.

    Raises:
        InvalidSample: A column is not in all files, or is of another kind in one of them.
    """
    for file, schema in zip(files, schemas, strict=True):
        if odd := set(schema.names) ^ set(schemas[0].names):
            raise InvalidSample(f"{file} and {files[0]} have not both a column {min(odd)!r}.")
    try:
        return pa.unify_schemas(list(schemas), promote_options="permissive")
    except pa.ArrowException as error:
        raise InvalidSample(
            f"The files beside {files[0]} have columns of other types: {one_line(error)}"
        ) from error


def _files_of(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part[0] in "._" for part in path.relative_to(folder).parts)
        if path.suffix.lower() == ".parquet" and path.is_file() and not hidden:
            yield path


def _told_by_folders(root: Path, files: Sequence[Path]) -> list[dict[str, int | str | None]]:
    """What `name=value` folders tell of each file: whole numbers, if all of a name are."""
    folders = [file.relative_to(root).parts[:-1] for file in files] if root.is_dir() else [()]
    pairs = [[part.split("=", 1) for part in parts if "=" in part] for parts in folders]
    texts = [{unquote(name): unquote(value) for name, value in each} for each in pairs]
    words = {
        name
        for each in texts
        for name, value in each.items()
        if value != NULL and not re.fullmatch(r"-?\d{1,18}", value)
    }
    return [
        {
            name: None if value == NULL else value if name in words else int(value)
            for name, value in each.items()
        }
        for each in texts
    ]


def _parts(rows: Sequence[int]) -> Iterator[list[int]]:
    """Yield neighbours together that have a block's rows, so that small ones cost no task each."""
    part: list[int] = []
    waiting = 0
    for index, count in enumerate(rows):
        part += [index] if count else []
        waiting += count
        if waiting >= ROWS_OF_A_BLOCK:
            yield part
            part, waiting = [], 0
    if part:
        yield part


Source: TypeAlias = RowGroups | list[pa.Table]
