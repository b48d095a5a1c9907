"""Files that are whole or not there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import EnvironmentFault
from autotune.files import cannot_write, exchange, replacing, sha256_of, write_bytes


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file with content, alone in its folder."""
    path = tmp_path / "file"
    path.write_text("old")
    return path


def write_half(path: Path, error: type[BaseException]) -> None:
    """Begin to replace a file, and raise."""
    with replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise error


@given(data=st.binary())
def test_the_hash_is_sha256_of_the_content(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """What is written is read back, and its hash is the one that hashlib gives."""
    path = tmp_path_factory.mktemp("files") / "file"
    write_bytes(path, data)
    assert path.read_bytes() == data
    assert sha256_of(path) == hashlib.sha256(data).hexdigest()


def test_the_old_content_stands_until_the_block_ends(old: Path) -> None:
    """A reader sees the old content while the new is being written, and then the new."""
    with replacing(old) as temporary:
        temporary.write_text("new")
        assert old.read_text() == "old"
    assert old.read_text() == "new"
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file_alone(
    old: Path, error: type[BaseException]
) -> None:
    """When the block raises, the file is as it was and nothing lies beside it."""
    with pytest.raises(error):
        write_half(old, error)
    assert old.read_text() == "old"
    assert list(old.parent.iterdir()) == [old]


def test_a_fault_while_writing_says_which_file(old: Path) -> None:
    """An OSError in the block becomes one line with the path and the reason."""
    with (
        pytest.raises(EnvironmentFault, match=f"Cannot write {old}: No space left on device"),
        replacing(old),
    ):
        raise OSError(28, "No space left on device")
    assert list(old.parent.iterdir()) == [old]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    """A file cannot be written into a folder that does not exist."""
    with pytest.raises(EnvironmentFault, match=r"Cannot write .*No such file or directory"):
        write_bytes(tmp_path / "missing" / "file", b"")


def test_a_file_is_no_folder(old: Path) -> None:
    """A file cannot be written below another file."""
    with pytest.raises(EnvironmentFault, match=r"Cannot write .*Not a directory"):
        write_bytes(old / "file", b"")


def test_a_folder_is_not_replaced_by_a_file(old: Path) -> None:
    """A folder in the file's place stays, with all it holds."""
    with pytest.raises(EnvironmentFault, match=r"Cannot write .*[Ii]s a directory"):
        write_bytes(old.parent, b"new")
    assert not list(old.parent.parent.glob(f".{old.parent.name}*"))
    assert old.read_text() == "old"


@pytest.mark.parametrize("name", [".", "/"])
def test_a_path_without_a_name_cannot_be_written(name: str) -> None:
    """A path that names no file is a fault like any other, not a traceback."""
    with pytest.raises(EnvironmentFault, match="Cannot write"):
        write_bytes(Path(name), b"")


def test_a_long_name_is_written_all_the_same(tmp_path: Path) -> None:
    """The temporary name beside a name of the greatest length is not too long."""
    path = tmp_path / ("n" * 255)
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_fault_is_not_wrapped_twice() -> None:
    """An EnvironmentFault that is met again stays the same error."""
    fault = EnvironmentFault("Cannot write a: no.")
    assert cannot_write(Path("b"), fault) is fault


def test_two_folders_change_places(tmp_path: Path) -> None:
    """What was in the one is in the other, and neither is gone."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / f"was {folder.name}").touch()
    assert exchange(one, other)
    assert [path.name for path in one.iterdir()] == ["was other"]
    assert [path.name for path in other.iterdir()] == ["was one"]


def test_what_is_not_there_changes_no_place(tmp_path: Path) -> None:
    """The fault is the system's own."""
    with pytest.raises(FileNotFoundError, match="nothing"):
        exchange(tmp_path, tmp_path / "nothing")
