"""Outputs into files, piece by piece: `.npy`, `.npz`, `.csv` and `.parquet`."""

from __future__ import annotations

import contextlib
import csv
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from autotune.errors import InvalidSample
from autotune.files import cannot_write, replacing
from autotune.nesting import Array, Nested, flatten, leaf_names
from autotune.parquetfiles import ParquetFile
from autotune.rowfiles import need_parquet
from autotune.workload import as_array

SUFFIXES = (".npy", ".npz", ".csv", ".parquet")
TABLES = (".csv", ".parquet")

Write = Callable[[Nested, Mapping[str, Any]], None]


def check_output_file(path: Path, *, keeps: bool = False) -> None:
    """Refuse a file that `writing` could not write, before any work is done.

    Args:
        path: The file.
        keeps: Whether columns of the input are to be kept in it.

    Raises:
        InvalidSample: Another kind of file, or it cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidSample(f"Outputs are written as {', '.join(SUFFIXES)}, but got {path}.")
    if keeps and suffix not in TABLES:
        raise InvalidSample(f"Columns can be kept in {' and '.join(TABLES)} files, but got {path}.")
    if suffix == ".parquet":
        need_parquet()
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


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Write]:
    """Give a function that writes outputs, and columns to keep beside them, piece by piece.

    When the block ends well, the file is there, or in an older one's place; else nothing is.

    * `.npy` holds the only output, `.npz` all of them by name.
    * `.csv` has a column for each value of a row: `score`, or `score_0`, `score_1` and so on.
    * `.parquet` has a column for each output: of numbers, or of lists where a row has several.

    Raises:
        InvalidSample: Several outputs for a `.npy` file, or two columns of one name.
        EnvironmentFault: The file cannot be written.
    """
    check_output_file(path)
    kinds: dict[str, Callable[[Path], contextlib.AbstractContextManager[Write]]] = {
        ".npy": _npy,
        ".npz": _npz,
        ".csv": _csv,
        ".parquet": _parquet,
    }
    with replacing(path) as temporary, kinds[path.suffix.lower()](temporary) as write:
        yield write


def outputs_by_name(outputs: Nested) -> dict[str, Array]:
    """Return the arrays of a nesting by a name for each: "output" where there is but one."""
    names = [name.replace("/", ".") or "output" for name in leaf_names(outputs)]
    leaves = (as_array(leaf, name) for leaf, name in zip(flatten(outputs)[0], names, strict=True))
    # NumPy's formats have no name for bfloat16, and no reader of a table knows it.
    plain = (a.astype(np.float32) if a.dtype.name == "bfloat16" else a for a in leaves)
    return dict(zip(names, plain, strict=True))


class _Growing:
    """An array in a file, to which rows are added.

    NumPy leaves room in the header for a longer first axis, so that it can be written again.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._first: Array | None = None
        self._rows = 0

    def add(self, rows: Array) -> None:
        """Add rows at the end."""
        if self._first is None:
            self._first = rows[:0]
            self._write_header()
        dtype, shape = self._first.dtype, self._first.shape[1:]
        longer = rows.dtype.kind in "SU" and rows.dtype.itemsize > dtype.itemsize
        if rows.shape[1:] != shape or longer:
            raise InvalidSample(
                f"Outputs differ from batch to batch: first {dtype}{shape}, then "
                f"{rows.dtype}{rows.shape[1:]}. Write text to .csv or .parquet; pad the input rows "
                "to one length."
            )
        self._file.write(rows.astype(dtype, copy=False).tobytes())
        self._rows += len(rows)

    def _write_header(self) -> None:
        assert self._first is not None  # noqa: S101  add has set it
        header = {
            "descr": np.lib.format.dtype_to_descr(self._first.dtype),
            "fortran_order": False,
            "shape": (self._rows, *self._first.shape[1:]),
        }
        np.lib.format.write_array_header_1_0(self._file, header)

    def finish(self) -> None:
        """Write down how many rows there are, and go back to the begin of the file."""
        self._file.seek(0)
        self._write_header()
        self._file.seek(0)


@contextlib.contextmanager
def _npy(path: Path) -> Iterator[Write]:
    with path.open("wb") as file:
        array = _Growing(file)

        def write(outputs: Nested, _: Mapping[str, Any]) -> None:
            arrays = outputs_by_name(outputs)
            if len(arrays) > 1:
                raise InvalidSample(
                    f"The model has {len(arrays)} outputs ({', '.join(arrays)}): write them to a "
                    ".npz, .csv or .parquet file."
                )
            array.add(*arrays.values())

        yield write
        array.finish()


@contextlib.contextmanager
def _npz(path: Path) -> Iterator[Write]:
    """An archive takes one member after the other: each output grows in a file of its own first."""
    with contextlib.ExitStack() as stack:
        files: dict[str, IO[bytes]] = {}
        arrays: dict[str, _Growing] = {}

        def write(outputs: Nested, _: Mapping[str, Any]) -> None:
            for name, rows in outputs_by_name(outputs).items():
                if name not in arrays:
                    files[name] = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
                    arrays[name] = _Growing(files[name])
                arrays[name].add(rows)

        yield write
        with zipfile.ZipFile(path, "w") as archive:
            for name, array in arrays.items():
                array.finish()
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    shutil.copyfileobj(files[name], member)


@contextlib.contextmanager
def _csv(path: Path) -> Iterator[Write]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        header: list[str] = []

        def write(outputs: Nested, kept: Mapping[str, Any]) -> None:
            arrays = outputs_by_name(outputs)
            if not header:
                header.extend(kept)
                for name, array in arrays.items():
                    header.extend(column_names(name, array.shape[1:]))
                refuse_twice(header)
                writer.writerow(header)
            texts = [_texts(column)[:, None] for column in kept.values()]
            texts += [_as_text(array) for array in arrays.values()]
            writer.writerows(np.concatenate(texts, axis=1, dtype=object).tolist())

        yield write


def column_names(name: str, shape: Sequence[int]) -> list[str]:
    """Name the values of a row of an output.

    Example:
        >>> column_names("score", (1,)), column_names("box", (2, 2))
        (['score'], ['box_0_0', 'box_0_1', 'box_1_0', 'box_1_1'])
    """
    if int(np.prod(shape, dtype=int)) == 1:
        return [name]
    return ["_".join((name, *map(str, place))) for place in np.ndindex(*shape)]


def refuse_twice(names: Sequence[str]) -> None:
    """Refuse columns of one name.

    Raises:
        InvalidSample: There are two; the message names them.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidSample(f"A kept column and an output are both named {twice!r}: rename one.")


def _as_text(array: Array) -> Array:
    """Write each value with as many digits as its dtype has, a row a row."""
    flat = array.reshape(len(array), -1 if array.size else 0)
    return (
        np.char.decode(flat, "utf-8", "replace") if flat.dtype.kind == "S" else flat.astype(np.str_)
    )


def _texts(column: Any) -> Array:
    """A kept column as text: one from a text file is, one of Arrow's has values of its own."""
    values = column if isinstance(column, list) else column.to_pylist()
    texts = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):  # lists are cells, and no further axis
        texts[place] = "" if value is None else value
    return texts


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    with ParquetFile(path) as file:

        def write(outputs: Nested, kept: Mapping[str, Any]) -> None:
            arrays = outputs_by_name(outputs)
            refuse_twice([*kept, *arrays])
            file.add(arrays, kept)

        yield write
