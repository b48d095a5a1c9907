"""Rows in files: `.npy`, `.npz`, `.csv` and `.parquet`, read and written without pickle."""

from __future__ import annotations

import csv
import secrets
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from autotune.errors import InvalidSample
from autotune.files import cannot_write, replacing
from autotune.foreign import read_columns
from autotune.nesting import Array, Nested, flatten, leaf_names
from autotune.workload import Spec, Table, as_array

SUFFIXES = (".npy", ".npz", ".csv", ".parquet")


def read_rows(path: Path) -> Nested:
    """Read rows from a file.

    Args:
        path: `.npy` (mapped into memory), `.npz` (inputs by name), `.csv` (numbers, with or
            without a line of column names) or `.parquet`.

    Returns:
        An array, a dict of arrays, or a `Table`, which `to_inputs` arranges for a model.

    Raises:
        InvalidSample: No such file, another kind of file, or content that cannot be read.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if not path.is_file():
        raise InvalidSample(f"Sample file not found: {path}.")
    if reader is None:
        raise InvalidSample(f"{path} is not a file of rows: expected one of {', '.join(SUFFIXES)}.")
    try:
        return reader(path)
    except InvalidSample:
        raise
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        first = str(error).partition("\n")[0].partition("; use `")[0] or type(error).__name__
        if "pickle" in first or "Python objects" in first:  # NumPy's guess for any text, too
            first = "not an array of numbers, or one of Python objects: save plain numbers."
        raise InvalidSample(f"{path} cannot be read as rows: {first}") from error


def _read_npy(path: Path) -> Array:
    return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def _read_npz(path: Path) -> Nested:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    # np.savez(path, rows) names its only array arr_0: that is an array, not an input's name.
    return arrays["arr_0"] if list(arrays) == ["arr_0"] else arrays


def _read_csv(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = next(csv.reader(file), None)
    if first is None:
        raise InvalidSample(f"{path} is empty.")
    has_names = not all(_is_number(cell) or not cell.strip() for cell in first)
    names = first if has_names else [str(index) for index in range(len(first))]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidSample(f"{path} has the column {twice!r} twice.")
    with path.open(encoding="utf-8-sig") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about no data, which is told below
        values = np.loadtxt(file, delimiter=",", skiprows=int(has_names), ndmin=2, quotechar='"')
    if values.size == 0:
        raise InvalidSample(f"{path} has no rows below its line of column names.")
    if values.shape[1] != len(names):
        raise InvalidSample(
            f"{path} has {len(names)} column names, but rows of {values.shape[1]} columns."
        )
    return Table(zip(names, values.T, strict=True))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise InvalidSample(
            "Reading .parquet needs a package that is not installed: "
            "pip install 'keras-autotune[parquet]'."
        ) from error
    return Table(read_columns(pyarrow.parquet.read_table(path)))


def to_inputs(table: Table, inputs: Sequence[Spec]) -> Nested:
    """Arrange the columns of a table as the inputs of a model.

    Columns that bear the inputs' names become these inputs. Otherwise a model with one input
    takes all columns, in their order, as the values of a row.

    Raises:
        InvalidSample: Neither fits; the message says what the model wants.
    """
    if all(spec.name in table for spec in inputs):
        arranged = {spec.name: _fit(_values(table, spec.name), spec) for spec in inputs}
        return arranged if len(inputs) > 1 else next(iter(arranged.values()))
    if len(inputs) > 1:
        missing = ", ".join(repr(spec.name) for spec in inputs if spec.name not in table)
        raise InvalidSample(f"No column for input {missing} (columns: {_listed(table)}).")
    return _fit(np.concatenate([_values(table, name) for name in table], axis=1), inputs[0])


def _values(table: Table, name: str) -> Array:
    """Return a column with the values of each cell in a row."""
    column = table[name]
    if column.dtype.kind in "cmM":
        raise InvalidSample(f"Column {name!r} has dtype {column.dtype}, which no model takes.")
    return column.reshape(len(column), int(np.prod(column.shape[1:], dtype=int)))


def _fit(values: Array, spec: Spec) -> Array:
    if not len(values):  # lists in the cells have no length where there is no cell
        dtype = np.str_ if spec.dtype == "string" else spec.dtype
        return np.empty((0, *(1 if axis is None else axis for axis in spec.shape)), dtype)
    free = sum(axis is None for axis in spec.shape)
    fixed = int(np.prod([axis for axis in spec.shape if axis is not None], dtype=int))
    shape = [values.shape[1] // fixed if axis is None else axis for axis in spec.shape]
    fits = values.shape[1] % fixed == 0 if free == 1 else values.shape[1] == fixed
    if not fits or free > 1:
        raise InvalidSample(
            f"The table gives {values.shape[1]} values a row, "
            f"but the model's input {spec.name!r} is {spec}."
        )
    return _cast(values, spec).reshape(len(values), *shape)


def _cast(values: Array, spec: Spec) -> Array:
    if spec.dtype == "string":
        if values.dtype.kind == "O" and not all(isinstance(v, (str, bytes)) for v in values.flat):
            raise InvalidSample(
                f"The table has cells without text, but input {spec.name!r} is {spec}."
            )
        return values.astype(np.str_)
    try:
        values = values.astype(float) if values.dtype.kind in "OSU" else values
    except (TypeError, ValueError) as error:
        raise InvalidSample(f"The table has text, but input {spec.name!r} is {spec}.") from error
    if np.dtype(spec.dtype).kind in "iub" and not np.all(np.isfinite(values)):
        raise InvalidSample(f"The table has empty or NaN cells, but input {spec.name!r} is {spec}.")
    return values.astype(spec.dtype, copy=False)


def _listed(table: Table) -> str:
    names = [repr(name) for name in list(table)[:10]]
    return ", ".join(names) + (", ..." if len(table) > 10 else "")


def write_rows(path: Path, outputs: Nested) -> None:
    """Write outputs to a `.npy` file, or with names to `.npz`; atomically.

    Raises:
        InvalidSample: Another kind of file, or several outputs for a `.npy` file.
        EnvironmentFault: The file cannot be written.
    """
    leaves = [
        as_array(leaf, name)
        for leaf, name in zip(flatten(outputs)[0], leaf_names(outputs), strict=True)
    ]
    check_output_file(path)
    if path.suffix.lower() == ".npy" and len(leaves) > 1:
        raise InvalidSample(f"The model has {len(leaves)} outputs: write them to a .npz file.")
    with replacing(path) as temporary, temporary.open("wb") as file:
        if path.suffix.lower() == ".npy":
            np.save(file, leaves[0], allow_pickle=False)
        else:
            names = [name.replace("/", ".") or "output" for name in leaf_names(outputs)]
            _write_npz(file, dict(zip(names, leaves, strict=True)))


def _write_npz(file: BinaryIO, arrays: dict[str, Array]) -> None:
    """As np.savez, which takes its arrays as keywords: some names of outputs are its own."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def check_output_file(path: Path) -> None:
    """Refuse an output file that `write_rows` could not write, before any work is done.

    Raises:
        InvalidSample: The suffix is neither `.npy` nor `.npz`, or the file cannot be written.
    """
    if path.suffix.lower() not in (".npy", ".npz"):
        raise InvalidSample(f"Outputs are written as .npy or .npz, but got {path}.")
    if not path.parent.is_dir():
        raise InvalidSample(f"The folder of the output file does not exist: {path.parent}.")
    if path.is_dir():
        raise InvalidSample(f"{path} is a folder. Give the name of a file for the outputs.")
    trial = path.parent / f".autotune.{secrets.token_hex(6)}"
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise InvalidSample(f"{cannot_write(path, error)} Give another file.") from error
