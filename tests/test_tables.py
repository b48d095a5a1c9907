"""Tables in files, and how their columns become a model's inputs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from autotune.errors import InvalidSample
from autotune.nesting import Nested
from autotune.rowfiles import read_rows
from autotune.tables import to_inputs
from autotune.workload import Spec, Table

WriteCsv = Callable[[str], Path]


@pytest.fixture
def csv_file(tmp_path: Path) -> WriteCsv:
    """Write text to a `.csv` file of this test."""

    def write(text: str) -> Path:
        path = tmp_path / "rows.csv"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return path

    return write


def parquet_file(path: Path, **columns: Any) -> Path:
    """Write columns to a `.parquet` file."""
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def columns_of(table: Nested) -> dict[str, list[Any]]:
    """The columns of what must be a table, as lists."""
    assert isinstance(table, Table)
    return {name: column.tolist() for name, column in table.items()}


def test_csv_with_names(csv_file: WriteCsv) -> None:
    """A first line that is no numbers names the columns; a byte-order mark is not a name."""
    table = read_rows(csv_file('\ufeffa,"b c"\n1,2\n3,4.5\n'))
    assert columns_of(table) == {"a": [1.0, 3.0], "b c": [2.0, 4.5]}


def test_csv_without_names(csv_file: WriteCsv) -> None:
    """Where the first line is numbers it is a row, and columns are named by position."""
    assert columns_of(read_rows(csv_file("1,2\n3,-4e2\n"))) == {"0": [1.0, 3.0], "1": [2.0, -400.0]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a,b\n", "no rows below its line of column names"),
        ("a,b\n1,two\n", "could not convert string 'two'.*row 0, column 2"),
        ("1,2\n3\n", "number of columns changed from 2 to 1 at row 2"),
        ("a,b,c\n1,2\n", "3 column names.*2 columns"),
        ("a,a\n1,2\n", "'a'.*twice"),
        ("1,,3\n4,5,6\n", "column 2"),
        ("a" * 200_000, "field larger than field limit"),
        ("a,b\n1,\udcff\n", "can't decode byte 0xff"),
    ],
)
def test_bad_csv_is_refused(csv_file: WriteCsv, text: str, words: str) -> None:
    """No row and no column of a damaged table is lost in silence: it is refused."""
    with pytest.raises(InvalidSample, match=words):
        read_rows(csv_file(text))


def test_parquet_lists_become_an_axis(tmp_path: Path) -> None:
    """A column of lists of one length is an array of rows."""
    path = parquet_file(tmp_path / "x.parquet", a=[1, 2], b=[[1.0, 2.0], [3.0, 4.0]])
    assert columns_of(read_rows(path)) == {"a": [1, 2], "b": [[1.0, 2.0], [3.0, 4.0]]}


@pytest.mark.parametrize("lists", [[[1.0], [2.0, 3.0]], [[1.0], None], [None, [1.0]]])
def test_parquet_lists_of_unequal_length_are_refused(tmp_path: Path, lists: list[Any]) -> None:
    """Lists that differ in length are no axis; the message names the column."""
    path = parquet_file(tmp_path / "x.parquet", b=lists)
    with pytest.raises(InvalidSample, match="Column 'b' holds lists of unequal length: pad"):
        read_rows(path)


def test_parquet_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where pyarrow is missing, the message has the command that brings it."""
    path = parquet_file(tmp_path / "x.parquet", a=[1])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidSample, match=r"pip install 'keras-autotune\[parquet\]'"):
        read_rows(path)


def test_columns_with_the_names_of_inputs_become_these() -> None:
    """Inputs take their columns by name and dtype; other columns are left."""
    table = Table(b=np.array([3.0]), a=np.array([[1.0, 2.0]]), other=np.array([9.0]))
    inputs = to_inputs(table, [Spec("a", (2,), "float32"), Spec("b", (1,), "int32")])
    assert {k: (v.tolist(), v.dtype.name) for k, v in inputs.items()} == {
        "a": ([[1.0, 2.0]], "float32"),
        "b": ([[3]], "int32"),
    }


def test_one_input_takes_all_columns_as_the_values_of_a_row() -> None:
    """A model with one input takes every column, lists too, in the order of the file."""
    table = Table(p=np.array([1, 2]), q=np.array([[3.0, 4.0], [5.0, 6.0]]))
    rows = to_inputs(table, [Spec("x", (3,), "float32")])
    assert rows.tolist() == [[1.0, 3.0, 4.0], [2.0, 5.0, 6.0]]


@pytest.mark.parametrize(
    ("shape", "expected"), [((2, 3), (4, 2, 3)), ((None, 3), (4, 2, 3)), ((6, 1), (4, 6, 1))]
)
def test_values_take_the_shape_of_the_input(
    shape: tuple[int | None, ...], expected: tuple[int, ...]
) -> None:
    """The values of a row are arranged in the input's shape; one free axis is worked out."""
    table = Table((str(index), np.arange(4.0)) for index in range(6))
    assert to_inputs(table, [Spec("x", shape, "float32")]).shape == expected


@pytest.mark.parametrize("shape", [(5,), (None, 4), (None, None, 6)])
def test_values_that_do_not_fit_are_refused(shape: tuple[int | None, ...]) -> None:
    """The message has the values of a row and what the model wants."""
    table = Table((str(index), np.arange(4.0)) for index in range(6))
    with pytest.raises(InvalidSample, match=r"gives 6 values a row, but .* input 'x' is \(rows"):
        to_inputs(table, [Spec("x", shape, "float32")])


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (2**31, "int32"),
        (-(2**31) - 1, "int32"),
        (-1, "uint8"),
        (256.0, "uint8"),
        (np.float32(2**31), "int32"),
        (np.float32(2**32), "uint32"),
        (np.float16(2**15), "int16"),
    ],
)
def test_numbers_that_the_input_cannot_hold_are_refused(value: Any, dtype: str) -> None:
    """No number becomes another one; the largest and the smallest that fit are taken."""
    held = np.iinfo(dtype)
    within = Table(x=np.array([held.min, held.max]))
    assert to_inputs(within, [Spec("x", (1,), dtype)]).ravel().tolist() == [held.min, held.max]
    with pytest.raises(InvalidSample, match=f"but input 'x' is .*that holds {held.min} to"):
        to_inputs(Table(x=np.array([value, value * 0])), [Spec("x", (1,), dtype)])


def test_the_message_tells_numbers_of_the_table() -> None:
    """And no others: a zero that nobody wrote would be looked for."""
    with pytest.raises(InvalidSample, match="numbers from 5 to 300, but"):
        to_inputs(Table(x=np.array([5, 300])), [Spec("x", (1,), "uint8")])


def test_bfloat16_numbers_are_held_to_the_same() -> None:
    """NumPy knows them by another package, and not that they are numbers."""
    import ml_dtypes

    rows = np.array([1, 2], ml_dtypes.bfloat16)
    assert to_inputs(Table(x=rows), [Spec("x", (1,), "int32")]).ravel().tolist() == [1, 2]
    for wrong in (np.nan, 300):
        column = np.array([wrong, 1], ml_dtypes.bfloat16)
        with pytest.raises(InvalidSample, match=r"NaN cells|that holds 0 to 255"):
            to_inputs(Table(x=column), [Spec("x", (1,), "uint8")])


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_integers_cannot_be_nan(dtype: str, value: float) -> None:
    """A cell that is no number has no meaning as an integer."""
    table = Table(x=np.array([1.0, value]))
    with pytest.raises(InvalidSample, match="empty or NaN cells, but input 'x' is"):
        to_inputs(table, [Spec("x", (1,), dtype)])
    assert np.isnan(to_inputs(Table(x=np.array([np.nan])), [Spec("x", (1,), "float32")])).all()


def test_a_missing_column_is_named_with_those_there_are() -> None:
    """Several inputs need a column each; the message lists no more than ten columns."""
    table = Table((f"c{index}", np.zeros(1)) for index in range(12))
    specs = [Spec("c0", (1,), "float32"), Spec("b", (1,), "float32")]
    with pytest.raises(InvalidSample, match=r"input 'b' \(columns: 'c0', .*'c9', \.\.\.\)"):
        to_inputs(table, specs)


def test_text_is_an_input_of_text() -> None:
    """A column of text becomes the input of a model that takes text."""
    rows = to_inputs(Table(x=np.array(["a", "b"], object)), [Spec("x", (1,), "string")])
    assert rows.tolist() == [["a"], ["b"]]


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_text_is_not_taken_for_numbers(dtype: str) -> None:
    """A column of text does not fit an input of numbers; the message names the input."""
    with pytest.raises(InvalidSample, match="'x'"):
        to_inputs(Table(x=np.array(["a", "b"], object)), [Spec("x", (1,), dtype)])


def test_a_table_without_rows_becomes_inputs_without_rows() -> None:
    """Zero rows keep the shape of a row."""
    assert to_inputs(Table(x=np.zeros(0)), [Spec("x", (1,), "int32")]).shape == (0, 1)


def test_whole_numbers_are_read_as_they_are_or_refused(csv_file: WriteCsv) -> None:
    """A float64 has no 2**53 + 1: another id would go to the model."""
    ids = [Spec("id", (), "int64")]
    rows = to_inputs(read_rows(csv_file(f"id\n{2**53 - 1}\n7\n")), ids)
    assert rows.tolist() == [2**53 - 1, 7]
    for text in (f"{2**53 + 1}", "1e20", "-1e20"):
        with pytest.raises(InvalidSample, match=r"2\*\*53 or more"):
            to_inputs(read_rows(csv_file(f"id\n{text}\n7\n")), ids)


def test_bytes_are_text_in_utf_8(tmp_path: Path) -> None:
    """A binary column may be text; other bytes are refused in a line."""
    path = parquet_file(tmp_path / "x.parquet", word=pyarrow.array([b"caf\xc3\xa9", b"a"]))
    word = [Spec("word", (), "string")]
    assert to_inputs(read_rows(path), word).tolist() == ["café", "a"]
    parquet_file(tmp_path / "x.parquet", word=pyarrow.array([b"\xff", b"a"]))
    with pytest.raises(InvalidSample, match="no UTF-8"):
        to_inputs(read_rows(path), word)


def test_a_table_may_become_bfloat16() -> None:
    """NumPy knows that dtype by another package only."""
    found = to_inputs(Table({"x": np.array([1.5, 2.5])}), [Spec("x", (), "bfloat16")])
    assert (found.dtype.name, found.astype(float).tolist()) == ("bfloat16", [1.5, 2.5])
