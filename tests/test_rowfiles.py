"""Rows in files: what is read, how a table becomes inputs, what is written."""

from __future__ import annotations

from collections.abc import Callable
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
from autotune.rowfiles import check_output_file, read_rows, write_rows


@given(array=arrays_of.arrays(st.sampled_from(["f4", "i8", "?", "U3"]), (3, 2)))
def test_one_array_is_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray[Any, Any]
) -> None:
    """An array comes back from `.npy` and `.npz` with its values and its dtype."""
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder / "y.npy", array)
    write_rows(folder / "y.npz", array)
    np.savez(folder / "x.npz", array)
    read = [read_rows(folder / "y.npy"), read_rows(folder / "y.npz")["output"]]
    for other in (*read, read_rows(folder / "x.npz")):
        np.testing.assert_array_equal(other, array)
        assert other.dtype == array.dtype


def test_npz_keeps_the_names(tmp_path: Path) -> None:
    """Several arrays are inputs by name; nested outputs are named by their place."""
    np.savez(tmp_path / "x.npz", a=np.zeros(2), arr_0=np.ones(2))
    assert list(read_rows(tmp_path / "x.npz")) == ["a", "arr_0"]
    write_rows(tmp_path / "y.npz", {"score": np.zeros(2), "parts": [np.ones(2), np.ones(2)]})
    assert sorted(read_rows(tmp_path / "y.npz")) == ["parts.0", "parts.1", "score"]


@pytest.mark.parametrize("name", ["file", "allow_pickle", "args"])
def test_any_name_of_an_output_is_written(tmp_path: Path, name: str) -> None:
    """An output may bear the name of an argument of np.savez."""
    write_rows(tmp_path / "y.npz", {name: np.ones(2), "other": np.zeros(2)})
    assert set(read_rows(tmp_path / "y.npz")) == {name, "other"}


def test_text_outputs_are_written_as_text(tmp_path: Path) -> None:
    """Text that was joined from batches is written without pickle."""
    write_rows(tmp_path / "y.npy", np.array(["a", "longer"], object))
    assert read_rows(tmp_path / "y.npy").tolist() == ["a", "longer"]


def test_npy_is_mapped_into_memory(tmp_path: Path) -> None:
    """Rows of a `.npy` file are read when they are used, not before."""
    np.save(tmp_path / "x.npy", np.zeros((4, 2)))
    rows = read_rows(tmp_path / "x.npy")
    assert isinstance(rows.base, np.memmap)


def test_pickles_are_refused(tmp_path: Path) -> None:
    """Python objects in a file would run code when read: they are not read."""
    objects = np.array([{}, 1], object)
    np.save(tmp_path / "x.npy", objects)
    np.savez(tmp_path / "x.npz", objects)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(InvalidSample, match="Python objects"):
            read_rows(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
@pytest.mark.parametrize("data", [b"", b"hello\n", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
def test_other_content_is_refused(tmp_path: Path, suffix: str, data: bytes) -> None:
    """A file that is not what its suffix says is refused with its path."""
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    with pytest.raises(InvalidSample, match=f"{path} cannot be read as rows"):
        read_rows(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    """A file that lost its end, or whose first bytes were changed, is refused as what it is."""
    path, values = tmp_path / f"x{suffix}", np.random.default_rng(0).random(200).round(1)
    writers: dict[str, Callable[[], object]] = {
        ".npy": lambda: np.save(path, values),
        ".npz": lambda: np.savez_compressed(path, a=values),
        ".parquet": lambda: pyarrow.parquet.write_table(pyarrow.table({"a": values}), path),
    }
    writers[suffix]()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidSample, match="cannot be read as rows"):
        read_rows(path)
    path.write_bytes(whole[:60] + bytes(byte ^ 255 for byte in whole[60:100]) + whole[100:])
    with pytest.raises(InvalidSample, match="cannot be read as rows"):
        read_rows(path)


def test_only_files_of_rows_are_read(tmp_path: Path) -> None:
    """A missing file and an unknown suffix are refused, the latter with the known ones."""
    with pytest.raises(InvalidSample, match=r"Sample file not found: .*x\.npy"):
        read_rows(tmp_path / "x.npy")
    (tmp_path / "x.txt").write_text("1")
    with pytest.raises(InvalidSample, match=r"expected one of \.npy, \.npz, \.csv, \.parquet"):
        read_rows(tmp_path / "x.txt")


def test_output_files_are_checked_before_work_begins(tmp_path: Path) -> None:
    """A wrong suffix, a missing folder and too many outputs are told."""
    with pytest.raises(InvalidSample, match=r"written as \.npy or \.npz, but got y\.csv"):
        check_output_file(Path("y.csv"))
    with pytest.raises(InvalidSample, match="folder of the output file does not exist"):
        check_output_file(tmp_path / "missing" / "y.npy")
    with pytest.raises(InvalidSample, match=r"2 outputs: write them to a \.npz file"):
        write_rows(tmp_path / "y.npy", [np.zeros(1), np.zeros(1)])
    (tmp_path / "y.npy").mkdir()
    with pytest.raises(InvalidSample, match="is a folder"):
        write_rows(tmp_path / "y.npy", np.zeros(1))
    assert [path.name for path in tmp_path.iterdir()] == ["y.npy"]
