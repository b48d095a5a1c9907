"""Rows in files: `.npy`, `.npz`, `.csv` and `.parquet`, read without pickle."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from autotune.csvfiles import read_csv
from autotune.errors import InvalidSample
from autotune.foreign import read_columns
from autotune.nesting import Array, Nested
from autotune.workload import Table

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
    readers = {".npy": read_npy, ".npz": read_npz, ".csv": read_csv, ".parquet": _read_parquet}
    suffix = check_row_file(path)
    with reading(path):
        return readers[suffix](path)


def check_row_file(path: Path) -> str:
    """Return the suffix of a file of rows.

    Raises:
        InvalidSample: No such file, or another kind of file.
    """
    if path.is_dir():
        raise InvalidSample(f"{path} is a folder. Give a file of rows: {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise InvalidSample(f"Sample file not found: {path}.")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidSample(
            f"{path} is not a file of rows: expected one of {', '.join(SUFFIXES)}. "
            "Save an array of shape (rows, ...) with np.save('rows.npy', rows)."
        )
    return suffix


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say in one line that a file cannot be read, whatever its reader raises.

    Raises:
        InvalidSample: It cannot.
    """
    try:
        yield
    except InvalidSample:
        raise
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        first = str(error).partition("\n")[0].partition("; use `")[0] or type(error).__name__
        if "pickle" in first or "Python objects" in first:  # NumPy's guess for any text, too
            first = "not an array of numbers, or one of Python objects: save plain numbers."
        raise InvalidSample(f"{path} cannot be read as rows: {first}") from error


def read_npy(path: Path) -> Array:
    """Map an array into memory."""
    return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def read_npz(path: Path) -> Nested:
    """Read all arrays of an archive."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return of_archive({name: archive[name] for name in archive.files})


def of_archive(arrays: dict[str, Array]) -> Nested:
    """Return what an archive holds: inputs by name, or the only one, if nobody has named it."""
    # np.savez(path, rows) names its only array arr_0: that is an array, not an input's name.
    return arrays["arr_0"] if list(arrays) == ["arr_0"] else arrays


def need_parquet() -> None:
    """Refuse a .parquet file where nothing reads and writes such.

    Raises:
        InvalidSample: The message says what to install.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise InvalidSample(
            "Reading .parquet needs a package that is not installed: "
            "pip install 'keras-autotune[parquet]'."
        ) from error


def _read_parquet(path: Path) -> Table:
    need_parquet()
    import pyarrow.parquet

    return Table(read_columns(pyarrow.parquet.read_table(path)))
