"""Mapped arrays: their memory is given back, and what was written is there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import mapped

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/smaps")

ROWS, WIDTH = 50_000, 10  # 2 MB


def resident_kib(path: Path) -> int:
    """How much of a file's mappings is in this process's memory."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counts = line.endswith(str(path))
        elif counts and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of rows that are all different."""
    numbers = np.arange(ROWS * WIDTH, dtype=np.float32)
    numbers.tofile(tmp_path / "rows")
    return tmp_path / "rows"


def opened(path: Path, mode: Any, **options: Any) -> Any:
    """The file, mapped."""
    return np.memmap(path, np.float32, mode, shape=(ROWS, WIDTH), **options)


@linux
@pytest.mark.parametrize("view", [lambda a: a, np.asarray, lambda a: np.asarray(a)[:].reshape(-1)])
def test_what_was_read_leaves_memory(path: Path, view: Any) -> None:
    """An array, a plain view of it and a view of that are given back, and can be read again."""
    array = opened(path, "r")
    total = array.sum(dtype=np.float64)
    before = resident_kib(path)
    mapped.release(view(array))
    assert before > 1900
    assert resident_kib(path) <= 4
    assert array.sum(dtype=np.float64) == total


@linux
@pytest.mark.parametrize("rows", [3, 77, 500, 5000])
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_batches_one_after_the_other_leave_nothing_behind(path: Path, rows: int, mode: str) -> None:
    """Nothing stays where batches meet in the middle of a page, be they smaller than one."""
    array = opened(path, mode)
    for start in range(0, ROWS, rows):
        batch = array[start : start + rows]
        if mode == "r+":
            batch += 1
        else:
            batch.sum()
        mapped.release(batch)
    assert resident_kib(path) <= 8


@linux
def test_what_was_written_stays_written(path: Path, tmp_path: Path) -> None:
    """Through this mapping, through another, and after the file is opened again."""
    array, other = opened(path, "r+"), opened(path, "r")
    for start in range(0, ROWS, 300):
        array[start : start + 300] = start
        mapped.release(array[start : start + 300])
    assert resident_kib(path) <= 8
    expected = np.repeat(np.arange(0, ROWS, 300), 300)[:ROWS]
    for found in (array, other):
        np.testing.assert_array_equal(found[:, 3], expected)
    del array, other, found
    np.testing.assert_array_equal(opened(path, "r")[:, 9], expected)
    new = np.lib.format.open_memmap(tmp_path / "new.npy", "w+", np.float32, (ROWS, 2))
    new[:] = expected[:, None]
    mapped.release(new)
    assert resident_kib(tmp_path / "new.npy") <= 4
    del new
    np.testing.assert_array_equal(np.load(tmp_path / "new.npy")[:, 1], expected)


def test_a_private_mapping_is_left_alone(path: Path) -> None:
    """What was written to one is nowhere else, and stays."""
    array = opened(path, "c")
    array[:] = 7
    mapped.release(array)
    mapped.release(np.asarray(array)[5:100])
    assert (np.asarray(array) == 7).all()
    assert opened(path, "r")[1, 0] == WIDTH


@linux
def test_a_mapping_that_begins_within_the_file_keeps_its_beginning(path: Path) -> None:
    """With an offset into the file, what is released is what was meant."""
    array = np.memmap(path, np.float32, "r+", offset=4 * WIDTH * 1234, shape=(40_000, WIDTH))
    array += 1
    assert resident_kib(path) > 1500
    mapped.release(array[:30_000])
    assert 380 <= resident_kib(path) <= 400
    mapped.release(array[30_000:])
    assert resident_kib(path) <= 4
    assert array[0, 0] == 1234 * WIDTH + 1
    assert array[-1, 0] == (1234 + 39_999) * WIDTH + 1


@linux
def test_what_does_not_lie_together_is_left(path: Path) -> None:
    """Columns, every second row and rows in turn cannot be given back alone."""
    array = opened(path, "r")
    array.sum()
    for view in (array[:, :5], array[::2], array[::-1], array.T):
        mapped.release(view)
    assert resident_kib(path) > 1900


@pytest.mark.parametrize(
    "array", [np.ones(100_000), np.ones((0, 3)), np.frombuffer(b"ab" * 9, "u1")]
)
def test_other_arrays_are_left_alone(array: Any) -> None:
    """An array that is not mapped from a file is as it was."""
    before = array.copy()
    mapped.release(array)
    np.testing.assert_array_equal(array, before)


def test_a_copy_of_mapped_rows_is_no_mapping(path: Path) -> None:
    """Rows that were picked or cast are an array of their own, though of the same class."""
    array = opened(path, "r+")
    picked, cast = array[[1, 5, 2]], array[:9].astype(np.float64)
    picked[:], cast[:] = 3, 4
    mapped.release(picked)
    mapped.release(cast)
    mapped.release(array[:0])
    assert (picked == 3).all()
    assert (cast == 4).all()
