"""Files of rows as blocks for Ray: every row in its place, under one set of columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.errors import InvalidSample
from tests.rays import ON_RAY

pytestmark = ON_RAY


def write(path: Path, **columns: Any) -> None:
    """Write a Parquet file, and the folders above it."""
    import pyarrow as pa
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.table(columns), path)


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    """All rows that tasks read, or that are there already, in order."""
    from autotune.on_ray import reading

    source = reading.read(path, **options)
    if isinstance(source, list):
        return [row for block in source for row in block.to_pylist()]
    return [
        row for task in source.get_read_tasks(1) for table in task() for row in table.to_pylist()
    ]


def test_columns_have_one_order_in_all_files(tmp_path: Path) -> None:
    """Values of an input go by their columns' order: a file in another order must not mix them."""
    write(tmp_path / "1.parquet", a=[1], b=[2])
    write(tmp_path / "2.PARQUET", b=[4], a=[3])
    rows = rows_of(tmp_path)
    assert rows == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert [list(row) for row in rows] == [["a", "b"], ["a", "b"]]
    write(tmp_path / "3.parquet", a=[5])
    with pytest.raises(
        InvalidSample, match=r"3\.parquet and .*1\.parquet have not both a column 'b'"
    ):
        rows_of(tmp_path)


def test_types_that_hold_all_files_values_are_found(tmp_path: Path) -> None:
    """Pandas writes whole numbers as floats where a cell is empty; text is no number."""
    write(tmp_path / "1.parquet", x=[1, 2])
    write(tmp_path / "2.parquet", x=[0.5, None])
    assert rows_of(tmp_path) == [{"x": 1.0}, {"x": 2.0}, {"x": 0.5}, {"x": None}]
    write(tmp_path / "3.parquet", x=["text"])
    with pytest.raises(InvalidSample, match="columns of other types"):
        rows_of(tmp_path)


def test_folders_tell_columns_as_hive_has_them(tmp_path: Path) -> None:
    """Whole numbers where all are, text else, nothing where there is none; a file's own win."""
    write(tmp_path / "day=1" / "kind=a%20b" / "x.parquet", x=[1.0])
    write(tmp_path / "day=2" / "kind=7" / "x.parquet", x=[2.0])
    write(tmp_path / "day=__HIVE_DEFAULT_PARTITION__" / "kind=8" / "x.parquet", x=[3.0])
    assert rows_of(tmp_path) == [
        {"x": 1.0, "day": 1, "kind": "a b"},
        {"x": 2.0, "day": 2, "kind": "7"},
        {"x": 3.0, "day": None, "kind": "8"},
    ]
    write(tmp_path / "own" / "day=1" / "x.parquet", day=[5], x=[1.0])
    assert rows_of(tmp_path / "own") == [{"day": 5, "x": 1.0}]


def test_only_files_of_rows_are_read(tmp_path: Path) -> None:
    """Folders that are called like files are folders, and what is hidden is left out."""
    write(tmp_path / "day1.parquet" / "part-0.parquet", x=[1])
    write(tmp_path / ".unfinished" / "part-1.parquet", x=[2])
    write(tmp_path / "_old.parquet", x=[3])
    (tmp_path / "notes.txt").write_text("no rows")
    assert rows_of(tmp_path) == [{"x": 1}]


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">i2", ">f8"])
@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_bytes_in_another_order_are_the_same_numbers(
    tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    """An array from a machine with its bytes the other way round."""
    rows = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / "rows.npy", rows)
    found = [row["data"] for row in rows_of(tmp_path / "rows.npy")]
    np.testing.assert_array_equal(found, rows)


def test_what_is_kept_of_a_text_file_is_as_it_is(tmp_path: Path) -> None:
    """An id is no number: neither rounded nor refused."""
    path = tmp_path / "rows.csv"
    path.write_text("id,a,b\n9007199254740993,1,2\nx7,3,4\n")
    assert rows_of(path, keep=["id"]) == [
        {"id": "9007199254740993", "a": 1.0, "b": 2.0},
        {"id": "x7", "a": 3.0, "b": 4.0},
    ]
    path.write_text("x,y\n007,1\n")
    assert rows_of(path, keep=["x"], inputs=["x", "y"]) == [{"x": "007", "y": 1.0}]
    path.write_text("id,a,b\nx7,3,4\n")
    write(tmp_path / "rows.parquet", id=[1])
    for name in ("rows.csv", "rows.parquet"):
        with pytest.raises(InvalidSample, match="no column 'no' to keep"):
            rows_of(tmp_path / name, keep=["no"])
    with pytest.raises(InvalidSample, match="none is left for the model"):
        rows_of(tmp_path / "rows.parquet", keep=["id"])


def test_arrays_that_are_no_rows_are_refused(tmp_path: Path) -> None:
    """A number alone, and inputs of unequal length, also where a block ends with the shorter."""
    np.save(tmp_path / "one.npy", np.float32(1))
    a, b = np.zeros(2**14, np.float32), np.asfortranarray(np.zeros((2**14 + 5, 2), np.float32))
    np.savez(tmp_path / "unequal.npz", a=a, b=b)
    for name in ("one.npy", "unequal.npz"):
        with pytest.raises(InvalidSample, match="have not the same number of rows"):
            rows_of(tmp_path / name)
