"""Outputs into a `.parquet` file: a column an output, row group by row group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from autotune.nesting import Array

GROUP_ROWS, GROUP_BYTES = 2**17, 2**24  # small groups are slow to read, large ones take memory


class ParquetFile:
    """A file that grows; `with` ends it.

    Args:
        path: Where it is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None
        self._waiting: list[Any] = []

    def __enter__(self) -> ParquetFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._write_group()
        if self._writer is not None:
            self._writer.close()

    def add(self, outputs: Mapping[str, Array], kept: Mapping[str, Any]) -> None:
        """Add rows.

        Args:
            outputs: Arrays of shape `(rows, ...)`; where a row has several values, they become
                lists, nested as the shape is.
            kept: Other columns: lists of text, or arrays of Arrow's.
        """
        import pyarrow

        columns = {**kept, **{name: _column(array) for name, array in outputs.items()}}
        self._waiting.append(pyarrow.table(columns))
        rows = sum(len(table) for table in self._waiting)
        if rows >= GROUP_ROWS or sum(table.nbytes for table in self._waiting) >= GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow
        import pyarrow.parquet

        if not self._waiting:
            return
        group = pyarrow.concat_tables(self._waiting)
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._path, group.schema)
        self._writer.write_table(group, row_group_size=max(1, len(group)))
        self._waiting.clear()


def _column(array: Array) -> Any:
    import pyarrow

    column = pyarrow.array(array.reshape(-1))
    if int(np.prod(array.shape[1:], dtype=int)) == 1:
        return column
    for length in reversed(array.shape[1:]):
        column = pyarrow.FixedSizeListArray.from_arrays(column, length)
    return column
