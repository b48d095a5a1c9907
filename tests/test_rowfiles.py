"""Rows in files, read at once: what is read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from autotune.errors import InvalidSample
from autotune.rowfiles import read_rows


def test_npz_keeps_the_names(tmp_path: Path) -> None:
    """Several arrays are inputs by name; one that nobody named is just an array."""
    np.savez(tmp_path / "x.npz", a=np.zeros(2), arr_0=np.ones(2))
    assert list(read_rows(tmp_path / "x.npz")) == ["a", "arr_0"]
    np.savez(tmp_path / "y.npz", np.ones(2))
    assert read_rows(tmp_path / "y.npz").tolist() == [1.0, 1.0]


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
    """A missing file, a folder and an unknown suffix are refused, the last with the known ones."""
    with pytest.raises(InvalidSample, match=r"Sample file not found: .*x\.npy"):
        read_rows(tmp_path / "x.npy")
    with pytest.raises(InvalidSample, match="is a folder"):
        read_rows(tmp_path)
    (tmp_path / "x.txt").write_text("1")
    with pytest.raises(InvalidSample, match=r"expected one of \.npy, \.npz, \.csv, \.parquet"):
        read_rows(tmp_path / "x.txt")
