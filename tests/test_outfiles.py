"""Outputs in files: what each kind holds, piece by piece as at once, and what is refused."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from autotune.errors import InvalidSample
from autotune.nesting import Nested
from autotune.outfiles import SUFFIXES, check_output_file, writing
from autotune.rowfiles import read_rows

KINDS = ["f4", "f8", "f2", "i8", "u1", "?"]
SHAPES = [(), (1,), (3,), (2, 2)]


def write(path: Path, *pieces: Nested, kept: Iterable[Mapping[str, Any]] = ()) -> None:
    """Write pieces of outputs, with columns to keep beside them."""
    columns = list(kept) or [{} for _ in pieces]
    with writing(path) as write_piece:
        for piece, column in zip(pieces, columns, strict=True):
            write_piece(piece, column)


def rows_of(path: Path) -> list[list[str]]:
    """The cells of a text file."""
    with path.open(newline="") as file:
        return list(csv.reader(file))


@given(dtype=st.sampled_from(KINDS), shape=st.sampled_from(SHAPES), data=st.data())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, shape: tuple[int, ...], data: Any
) -> None:
    """Values and dtypes come back from arrays and Parquet, however the rows were cut."""
    folder = tmp_path_factory.mktemp("rows")
    whole = data.draw(arrays_of.arrays(dtype, (5, *shape)))
    at = data.draw(st.integers(0, 5))
    for suffix in (".npy", ".npz", ".parquet"):
        write(folder / f"y{suffix}", whole[:at], whole[at:])
        read = read_rows(folder / f"y{suffix}")
        values = read if suffix == ".npy" else read["output"]
        assert values.dtype == whole.dtype
        plain = whole.reshape(5) if suffix == ".parquet" and shape == (1,) else whole
        np.testing.assert_array_equal(values, plain)


@given(dtype=st.sampled_from(KINDS), shape=st.sampled_from(SHAPES), data=st.data())
def test_text_has_a_column_a_value_and_every_digit(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, shape: tuple[int, ...], data: Any
) -> None:
    """A .csv file names each value of a row, and gives it back as it was in its dtype."""
    path = tmp_path_factory.mktemp("rows") / "y.csv"
    whole = data.draw(arrays_of.arrays(dtype, (4, *shape)))
    write(path, whole[:1], whole[1:])
    names, *rows = rows_of(path)
    width = int(np.prod(shape))
    assert (names == ["output"]) == (width == 1)
    assert len(set(names)) == len(names) == width
    texts = np.array(rows)
    values = texts == "True" if dtype == "?" else texts.astype(dtype)
    np.testing.assert_array_equal(values.reshape(4, *shape), whole)


OUTPUTS = {"score": np.array([[0.5], [1.5]], np.float32), "box": np.arange(4).reshape(2, 2)}


def test_several_outputs_are_columns_with_their_names(tmp_path: Path) -> None:
    """A table has `score`, and `box_0` and `box_1`, or lists in `box`; an archive both arrays."""
    for suffix in (".csv", ".parquet", ".npz"):
        write(tmp_path / f"y{suffix}", OUTPUTS)
    assert rows_of(tmp_path / "y.csv") == [
        ["box_0", "box_1", "score"],
        ["0", "1", "0.5"],
        ["2", "3", "1.5"],
    ]
    table = pyarrow.parquet.read_table(tmp_path / "y.parquet")
    assert table.to_pydict() == {"box": [[0, 1], [2, 3]], "score": [0.5, 1.5]}
    assert {name: a.shape for name, a in read_rows(tmp_path / "y.npz").items()} == {
        "box": (2, 2),
        "score": (2, 1),
    }
    write(tmp_path / "y.npz", {"parts": [np.ones(2), np.ones(2)]})
    assert sorted(read_rows(tmp_path / "y.npz")) == ["parts.0", "parts.1"]


def test_columns_are_kept_beside_the_outputs(tmp_path: Path) -> None:
    """Text stays text, and what Parquet gave keeps its kind."""
    outputs = [np.array([[1.0]]), np.array([[2.0]])]
    texts = [{"id": ["007"]}, {"id": ["a, b"]}]
    arrow = [{"id": pyarrow.array([7], pyarrow.int16())}, {"id": pyarrow.array([None])}]
    for suffix in (".csv", ".parquet"):
        write(tmp_path / f"t{suffix}", *outputs, kept=texts)
    write(tmp_path / "a.csv", *outputs, kept=[arrow[0], {"id": pyarrow.array([None, 1])[:1]}])
    assert rows_of(tmp_path / "t.csv")[1:] == [["007", "1.0"], ["a, b", "2.0"]]
    assert rows_of(tmp_path / "a.csv")[1:] == [["7", "1.0"], ["", "2.0"]]
    write(tmp_path / "a.parquet", outputs[0], kept=arrow[:1])
    schema = pyarrow.parquet.read_schema(tmp_path / "a.parquet")
    assert schema.field("id").type == pyarrow.int16()
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pydict()
    assert table == {"id": ["007", "a, b"], "output": [1.0, 2.0]}


def test_many_small_pieces_make_few_row_groups(tmp_path: Path) -> None:
    """A .parquet file is not cut into as many groups as there were pieces."""
    write(tmp_path / "y.parquet", *[np.ones((10, 1))] * 50)
    assert pyarrow.parquet.ParquetFile(tmp_path / "y.parquet").num_row_groups == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(1,), (2, 2)])
def test_no_rows_are_written_as_no_rows(
    tmp_path: Path, suffix: str, shape: tuple[int, ...]
) -> None:
    """The shape of a row, or the names of its values, are there without any row."""
    path = tmp_path / f"y{suffix}"
    write(path, np.zeros((0, *shape), np.float32))
    if suffix == ".csv":
        assert [len(row) for row in rows_of(path)] == [int(np.prod(shape))]
    elif suffix == ".parquet":
        assert pyarrow.parquet.read_table(path).num_rows == 0
    else:
        read = read_rows(path)
        assert (read if suffix == ".npy" else read["output"]).shape == (0, *shape)


@pytest.mark.parametrize("name", ["file", "allow_pickle", "args"])
def test_any_name_of_an_output_is_written(tmp_path: Path, name: str) -> None:
    """An output may bear the name of an argument of np.savez."""
    write(tmp_path / "y.npz", {name: np.ones(2), "other": np.zeros(2)})
    assert set(read_rows(tmp_path / "y.npz")) == {name, "other"}


def test_text_outputs_are_written_as_text(tmp_path: Path) -> None:
    """Text is written without pickle; longer text than the first has its place in a table only."""
    texts = [np.array([["a"], ["longer"]], object), np.array([["the longest of all"]], object)]
    write(tmp_path / "y.npy", texts[0])
    assert read_rows(tmp_path / "y.npy").tolist() == [["a"], ["longer"]]
    with pytest.raises(InvalidSample, match=r"Write text to \.csv or \.parquet"):
        write(tmp_path / "z.npy", *texts)
    for suffix in (".csv", ".parquet"):
        write(tmp_path / f"z{suffix}", *texts)
    read = pyarrow.parquet.read_table(tmp_path / "z.parquet").to_pydict()
    assert read == {"output": ["a", "longer", "the longest of all"]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["y.npy", "z.csv", "z.parquet"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bfloat16_is_written_as_float32(tmp_path: Path, suffix: str) -> None:
    """No kind of file has a name for bfloat16, and float32 holds each of its values."""
    import ml_dtypes

    path = tmp_path / f"y{suffix}"
    write(path, np.array([[0.1]], ml_dtypes.bfloat16))
    read = read_rows(path)
    value = read if suffix == ".npy" else read["output"]
    assert np.float32(value.reshape(())) == np.float32(ml_dtypes.bfloat16(0.1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_left_of_what_was_broken_off(tmp_path: Path, suffix: str) -> None:
    """An older file is as it was, and no other is there, when the outputs do not come to an end."""
    path = tmp_path / f"y{suffix}"
    write(path, np.ones((2, 1)))
    before = path.read_bytes()

    def break_off() -> None:
        with writing(path) as write_piece:
            write_piece(np.zeros((5, 1)), {})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_output_files_are_checked_before_work_begins(tmp_path: Path) -> None:
    """A wrong suffix, a missing folder, a folder, and too many outputs are told."""
    with pytest.raises(InvalidSample, match=r"written as \.npy, .*\.parquet, but got y\.txt"):
        check_output_file(Path("y.txt"))
    with pytest.raises(InvalidSample, match=r"kept in \.csv and \.parquet files, but got y\.npy"):
        check_output_file(Path("y.npy"), keeps=True)
    with pytest.raises(InvalidSample, match="folder of the output file does not exist"):
        check_output_file(tmp_path / "missing" / "y.npy")
    with pytest.raises(InvalidSample, match=r"2 outputs \(box, score\): write them to a \.npz"):
        write(tmp_path / "y.npy", OUTPUTS)
    with pytest.raises(InvalidSample, match="both named 'score': rename one"):
        write(tmp_path / "y.csv", OUTPUTS, kept=[{"score": ["1", "2"]}])
    with pytest.raises(InvalidSample, match="both named 'score': rename one"):
        write(tmp_path / "y.parquet", OUTPUTS, kept=[{"score": ["1", "2"]}])
    (tmp_path / "y.npy").mkdir()
    with pytest.raises(InvalidSample, match="is a folder"):
        write(tmp_path / "y.npy", np.zeros(1))
    assert [path.name for path in tmp_path.iterdir()] == ["y.npy"]


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    """Outputs of free length that differ from piece to piece fit into no array."""
    with pytest.raises(InvalidSample, match="pad the input rows to one length"):
        write(tmp_path / "y.npy", np.zeros((2, 3)), np.zeros((2, 4)))


def test_text_of_bytes_is_utf_8(tmp_path: Path) -> None:
    """TensorFlow's text is bytes, which need be no ASCII."""
    write(tmp_path / "x.csv", np.array([["café".encode()], [b"a"]]))
    assert rows_of(tmp_path / "x.csv")[1:] == [["café"], ["a"]]


def test_lists_of_one_length_are_kept_as_cells(tmp_path: Path) -> None:
    """A column of lists from Parquet is a cell a row in text."""
    lists = pyarrow.array([[1, 2], [3, 4]])
    write(tmp_path / "x.csv", np.array([[0.5], [1.5]]), kept=[{"pair": lists}])
    assert rows_of(tmp_path / "x.csv")[1:] == [["[1, 2]", "0.5"], ["[3, 4]", "1.5"]]
