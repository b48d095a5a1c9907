"""Arrow tables to a model's inputs, and its outputs to columns of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from ray.data.block import BlockAccessor
from ray.data.extensions import ArrowTensorArray

from autotune.errors import InvalidInput, InvalidSample
from autotune.foreign import read_columns
from autotune.nesting import Array, Nested, flatten, leaf_names
from autotune.tables import to_inputs
from autotune.workload import Spec, Table

Columns = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Which columns are read, which are kept, and how those of the outputs are called.

    Attributes:
        inputs: The model's inputs; empty where the record does not tell them.
        columns: The column or columns that become each input, by its name; None for those of the
            same names, else for all columns that are not in `keep` as the values of the only input.
        output: Name of the output's column, and the first part of those of several.
        keep: Columns that stand beside the outputs; None for all.
    """

    inputs: tuple[Spec, ...]
    columns: dict[str, tuple[str, ...]] | None
    output: str
    keep: tuple[str, ...] | None

    def to_inputs(self, table: pa.Table) -> Nested:
        """Return the model's inputs, as arrays of shape `(rows, ...)`.

        Raises:
            InvalidSample: A column is missing, or does not fit its input.
        """
        if self.columns is None:
            names = [spec.name for spec in self.inputs]
            if not names or not set(names) <= set(table.column_names):
                names = [name for name in table.column_names if name not in (self.keep or ())]
            if not names:
                raise InvalidSample("All columns are kept, so none is left for the model.")
            return Table(_read(table, names))
        arranged = {
            spec.name: _one_input(spec, _read(table, self.columns[spec.name]))
            for spec in self.inputs
        }
        return arranged if len(arranged) > 1 else next(iter(arranged.values()))

    def with_outputs(self, table: pa.Table, outputs: Nested) -> pa.Table:
        """Return the columns that are kept, with the outputs appended.

        Raises:
            InvalidSample: There is a column of that name.
        """
        if self.keep is not None:
            _check_names(table, self.keep)
            table = table.select(list(self.keep))
        leaves, names = flatten(outputs)[0], leaf_names(outputs)
        for leaf, name in zip(leaves, names, strict=True):
            column = f"{self.output}.{name.replace('/', '.')}" if name else self.output
            if column in table.column_names:
                raise InvalidSample(
                    f"The dataset has a column {column!r} already. Give the predictions another "
                    "name, with output=..., or leave that column out, with keep=[...]."
                )
            table = table.append_column(column, as_column(leaf))
        return table


def arrange(
    inputs: Sequence[Spec], columns: Columns | None, output: str, keep: Sequence[str] | None
) -> Arrangement:
    """Check what the caller says about columns, before anything is run.

    Raises:
        InvalidInput: Inputs that the model does not have, or that no column is named for.
    """
    if not output or not isinstance(output, str):
        raise InvalidInput(f"output must be the name of a column, but got {output!r}.")
    if isinstance(keep, str):
        raise InvalidInput(f"keep must be a sequence of column names, but got {keep!r}.")
    named = None
    if columns is not None:
        named = {name: (c,) if isinstance(c, str) else tuple(c) for name, c in columns.items()}
        wanted = [spec.name for spec in inputs]
        if set(named) != set(wanted) or not all(named.values()):
            raise InvalidInput(
                f"columns must name one or more columns for each input of the model "
                f"({', '.join(wanted) or 'which it does not tell'}), but got {dict(columns)!r}."
            )
    return Arrangement(tuple(inputs), named, output, None if keep is None else tuple(keep))


def in_pieces(table: pa.Table, least: float) -> list[pa.Table]:
    """Cut a table where its columns are cut already: rows in one piece are read where they lie.

    Ray puts blocks of rows together without joining them.

    Args:
        table: Rows.
        least: Rows of a piece for which that pays; where one would have fewer, none is cut.
    """
    pieces = [pa.Table.from_batches([batch]) for batch in table.to_batches() if len(batch)]
    return pieces if pieces and min(map(len, pieces)) >= least else [table]


def _one_input(spec: Spec, columns: dict[str, Array]) -> Nested:
    # Under names that are not the input's, so that one of several that bears it does not stand
    # for all of them.
    renamed = {f"{spec.name} {index}": array for index, array in enumerate(columns.values())}
    return to_inputs(Table(renamed), [spec])


def _check_names(table: pa.Table, names: Sequence[str]) -> None:
    missing = next((name for name in names if name not in table.column_names), None)
    if missing is not None:
        have = ", ".join(map(repr, table.column_names[:10]))
        raise InvalidSample(f"The dataset has no column {missing!r} (columns: {have}).")


def _read(table: pa.Table, names: Sequence[str]) -> dict[str, Array]:
    """Read columns as arrays; those of tensors are not copied where they lie in one piece."""
    _check_names(table, names)
    return {name: _read_one(table, name) for name in names}


def _read_one(table: pa.Table, name: str) -> Array:
    if isinstance(table.schema.field(name).type, pa.BaseExtensionType):
        return np.asarray(BlockAccessor.for_block(table).to_numpy(name))
    return read_columns(table.select([name]))[name]


def as_column(leaf: Array) -> Any:
    """Return an array of shape `(rows, ...)` as a column: of tensors, of lists where it is text."""
    if leaf.dtype.name == "bfloat16":  # Arrow has none
        leaf = leaf.astype(np.float32)
    if not leaf.dtype.isnative:  # Arrow would take the bytes as they are
        leaf = leaf.astype(leaf.dtype.newbyteorder("="))
    if leaf.dtype.kind in "OSU":  # Ray has no tensors of text, and would pickle objects
        return pa.array(leaf.tolist())
    return ArrowTensorArray.from_numpy(leaf) if leaf.ndim > 1 else pa.array(leaf)
