"""Rows in files, read piece by piece: the same rows as at once, whatever the cut."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from autotune import csvfiles
from autotune.errors import InvalidSample
from autotune.nesting import Nested
from autotune.rowfiles import read_rows
from autotune.rowpieces import Cut, open_rows

ROWS = 50
X = np.random.default_rng(0).standard_normal((ROWS, 3)).astype(np.float32)


def write_all(folder: Path) -> dict[str, Path]:
    """The same rows in files of each kind."""
    paths = {suffix: folder / f"x{suffix}" for suffix in (".npy", ".npz", ".csv", ".parquet")}
    np.save(paths[".npy"], X)
    np.savez_compressed(paths[".npz"], a=X, b=np.arange(ROWS))
    lines = [",".join(map(repr, map(float, row))) for row in X]
    paths[".csv"].write_text("p,q,r\n" + "\n".join(lines) + "\n")
    table = pyarrow.table({"p": X[:, 0], "lists": list(X[:, 1:])})
    pyarrow.parquet.write_table(table, paths[".parquet"], row_group_size=20)
    return paths


def joined(parts: Sequence[Nested]) -> Nested:
    """Pieces put together."""
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


@pytest.mark.parametrize("rows", [1, 7, 20, ROWS, 1000])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet"])
def test_pieces_are_the_rows_of_the_file(tmp_path: Path, suffix: str, rows: int) -> None:
    """Put together they are what is read at once, and none has more rows than were asked for."""
    path = write_all(tmp_path)[suffix]
    source = open_rows(path, Cut(rows))
    parts = [piece.inputs for piece in source.pieces]
    expected, read = read_rows(path), joined(parts)
    np.testing.assert_equal(read, dict(expected) if isinstance(expected, dict) else expected)
    assert type(parts[0]) is type(expected)
    assert source.rows == (None if suffix == ".csv" else ROWS)
    lengths = [len(next(iter(p.values())) if isinstance(p, dict) else p) for p in parts]
    assert max(lengths) <= rows
    assert len(parts) <= -(-ROWS // rows) + 2  # a row group may end before


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_a_file_without_rows_is_one_piece_without_any(tmp_path: Path, suffix: str) -> None:
    """Whoever reads it learns what a row looks like."""
    path = tmp_path / f"x{suffix}"
    write: dict[str, Callable[[], object]] = {
        ".npy": lambda: np.save(path, X[:0]),
        ".npz": lambda: np.savez(path, X[:0]),
        ".parquet": lambda: pyarrow.parquet.write_table(pyarrow.table({"p": X[:0, 0]}), path),
    }
    write[suffix]()
    (piece,) = open_rows(path, Cut(4)).pieces
    rows = piece.inputs["p"] if suffix == ".parquet" else piece.inputs
    assert rows.shape == ((0,) if suffix == ".parquet" else (0, 3))


def test_arrays_in_columns_are_read_all_the_same(tmp_path: Path) -> None:
    """Fortran's order has no rows that lie together: such an archive is read at once, and cut."""
    np.savez(tmp_path / "x.npz", a=np.asfortranarray(X), b=np.arange(ROWS))
    parts = [piece.inputs for piece in open_rows(tmp_path / "x.npz", Cut(20)).pieces]
    assert [len(part["a"]) for part in parts] == [20, 20, 10]
    np.testing.assert_array_equal(joined(parts)["a"], X)


# Columns to keep

CSV = 'id,p,q\n"user, 1",1,2\n"line\nbreak",3,4\n007,5,6\n'


def table_file(path: Path) -> Path:
    """A table with a column of text."""
    if path.suffix == ".csv":
        path.write_text(CSV)
    else:
        ids = ["user, 1", "line\nbreak", "007"]
        columns: dict[str, Any] = {"id": ids, "p": [1, 3, 5], "q": [2.0, 4.0, 6.0]}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def texts(column: Any) -> list[Any]:
    """A kept column as a list."""
    return column if isinstance(column, list) else list(column.to_pylist())


@pytest.mark.parametrize("rows", [1, 2, 10])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_kept_columns_come_beside_the_inputs(tmp_path: Path, suffix: str, rows: int) -> None:
    """A column of text is kept as it is, with quotes and line breaks, and is no input."""
    path = table_file(tmp_path / f"x{suffix}")
    pieces = list(open_rows(path, Cut(rows, ["id"])).pieces)
    kept = [text for piece in pieces for text in texts(piece.kept["id"])]
    assert kept == ["user, 1", "line\nbreak", "007"]
    inputs = joined([dict(piece.inputs) for piece in pieces])
    assert {name: values.tolist() for name, values in inputs.items()} == {
        "p": [1, 3, 5],
        "q": [2, 4, 6],
    }


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_kept_column_that_the_model_names_is_an_input_too(tmp_path: Path, suffix: str) -> None:
    """Numbers may be both kept and predicted from."""
    path = table_file(tmp_path / f"x{suffix}")
    (piece,) = open_rows(path, Cut(10, ["id", "p"], ["p", "q"])).pieces
    assert list(piece.inputs) == ["p", "q"]
    assert list(map(float, texts(piece.kept["p"]))) == [1, 3, 5]


@pytest.mark.parametrize(
    ("name", "keep", "words"),
    [
        ("x.csv", ["nope"], r"no column 'nope' to keep \(columns: 'id', 'p', 'q'\)"),
        ("x.parquet", ["nope"], r"no column 'nope' to keep"),
        ("x.csv", ["id", "p", "q"], "All columns of .* are kept, so none is left"),
        ("x.npy", ["id"], r"has no columns to keep: \.csv and \.parquet have"),
        ("x.npz", ["id"], r"has no columns to keep"),
    ],
)
def test_columns_that_cannot_be_kept_are_told(
    tmp_path: Path, name: str, keep: list[str], words: str
) -> None:
    """The message names those that there are."""
    write_all(tmp_path)
    for suffix in (".csv", ".parquet"):
        table_file(tmp_path / f"x{suffix}")
    with pytest.raises(InvalidSample, match=words):
        open_rows(tmp_path / name, Cut(10, keep))


# Damage


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p,q\n1,2\n3,4\n5,x\n", r"in the rows from 2 on: could not convert string 'x'"),
        ("p,q\n1,2\n3,4\n5\n", r"has 2 column names, but rows of 1 columns"),
        ("p,q\n", "no rows below its line"),
        ("p,q\n\n\n", "no rows below its line"),
        ("", "is empty"),
        ("p,p\n1,2\n", "column 'p' twice"),
    ],
)
def test_damage_to_a_text_file_is_told_where_it_is(tmp_path: Path, text: str, words: str) -> None:
    """Also in a piece that comes late; the rows are counted from the begin of the file."""
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(InvalidSample, match=words):
        list(open_rows(path, Cut(2)).pieces)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,p\na,1\nb,2,3\n", r"has 2 columns, but one row of 3: 'b,2,3'"),
        ("id,p\na,x\n", "could not convert string 'x'"),
    ],
)
def test_a_damaged_row_is_not_lost_beside_kept_columns(
    tmp_path: Path, text: str, words: str
) -> None:
    """A row that is too long or left out would shift the kept cells against the outputs."""
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(InvalidSample, match=words):
        list(open_rows(path, Cut(10, ["id"])).pieces)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_a_file_that_lost_its_end_is_refused(tmp_path: Path, suffix: str) -> None:
    """Half a file is told as what it is."""
    path = write_all(tmp_path)[suffix]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidSample, match="cannot be read as rows"):
        list(open_rows(path, Cut(10)).pieces)


def test_an_array_in_an_archive_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    """The archive is whole, but an array in it is not."""
    np.savez(tmp_path / "x.npz", a=X)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        data = archive.read("a.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", data[:-8])
    with pytest.raises(InvalidSample, match="the array 'a' ends 8 bytes too early"):
        list(open_rows(tmp_path / "x.npz", Cut(10)).pieces)


def test_python_objects_are_not_read(tmp_path: Path) -> None:
    """Objects would run code when read."""
    np.savez(tmp_path / "x.npz", a=np.array([{}, 1], object))
    with pytest.raises(InvalidSample, match="Python objects"):
        list(open_rows(tmp_path / "x.npz", Cut(10)).pieces)


def test_a_number_sign_begins_no_comment(tmp_path: Path) -> None:
    """Every line below the names is a row, or is refused."""
    path = tmp_path / "x.csv"
    path.write_text("id,p\n#1,1\nb #2,2\n")
    (piece,) = open_rows(path, Cut(10, ["id"])).pieces
    assert piece.kept["id"] == ["#1", "b #2"]
    path.write_text("p,q\n1,2\n#3,4\n")
    with pytest.raises(InvalidSample, match="could not convert string '#3'"):
        list(open_rows(path, Cut(10)).pieces)


def test_the_names_that_pandas_gives_columns_are_no_row(tmp_path: Path) -> None:
    """`frame.to_csv(path, index=False)` calls columns without names 0, 1, 2."""
    path = tmp_path / "x.csv"
    path.write_text("0,1,2\n5,6,1\n7,8,1\n")
    (piece,) = open_rows(path, Cut(10)).pieces
    assert {name: list(values) for name, values in piece.inputs.items()} == {
        "0": [5, 7],
        "1": [6, 8],
        "2": [1, 1],
    }
    path.write_text("0,1\n1,0\n")  # which may be a row
    (piece,) = open_rows(path, Cut(10)).pieces
    assert list(piece.inputs["0"]) == [0, 1]


def test_of_a_quote_that_is_not_closed_each_line_is_looked_at_once() -> None:
    """The rest of the file is one text then: to count its quotes anew for each line takes hours."""
    looks = 0

    class Line(str):
        __slots__ = ()

        def count(self, *of: Any) -> int:
            nonlocal looks
            looks += 1
            return super().count(*of)

    lines = [Line('5" pipe,1\n'), *(Line("a,2\n") for _ in range(1000))]
    assert len(csvfiles._piece(iter(lines), 10)) == looks == 1001
