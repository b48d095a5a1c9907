"""Files and folders that are whole or not there, and hashes to tell whether one changed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from autotune.errors import EnvironmentFault, InvalidInput

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE: renameat2(2)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, it takes `path`'s place.

    A reader sees the old content or the new, never half of it: the temporary file is synced
    to disk, renamed, and the folder synced. If the block raises, `path` is as it was.

    Raises:
        EnvironmentFault: The folder cannot be written, or the disk is full.
    """
    temporary = path.parent / f".{path.name[:50]}.{secrets.token_hex(6)}"
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically.

    Raises:
        EnvironmentFault: The folder cannot be written, or the disk is full.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing_folder(folder: Path, marker: str) -> Iterator[Path]:
    """Give a new folder beside `folder`; when the block ends well, it takes `folder`'s place.

    An older one is there until that moment, or comes back. If the block raises, all is as it was.

    Args:
        folder: Where; folders above it are made.
        marker: The file by which such a folder is known for what it is. Of an older one it goes
            first: nobody shall take what is half removed for one.

    Raises:
        EnvironmentFault: It cannot be written, or the disk is full.
    """
    folder = folder.absolute()
    new = folder.with_name(f".{folder.name[:80]}.{secrets.token_hex(6)}")
    made = [above for above in folder.parents if not above.exists()]
    try:
        new.mkdir(parents=True)
        yield new
        for path in (*new.rglob("*"), new):
            sync(path)
        _put_in_place(new, folder, marker)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        for above in made:  # those that hold something now stay
            with contextlib.suppress(OSError):
                above.rmdir()


def _put_in_place(new: Path, folder: Path, marker: str) -> None:
    """Rename `new` to `folder`; an older one is there until that moment, or comes back."""
    old = new.with_name(f"{new.name}.old")
    if folder.exists() and exchange(new, folder):
        old = new
    else:
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    sync(folder.parent)
    (old / marker).unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written, or cannot be made, before any work is done.

    Raises:
        InvalidInput: It cannot.
    """
    existing = next(above for above in (folder, *folder.absolute().parents) if above.exists())
    trial = existing / f".autotune.{secrets.token_hex(6)}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        raise InvalidInput(f"{cannot_write(folder, error)} Give another folder.") from error


def files_in(folder: Path) -> list[Path]:
    """List all that is no folder below a folder, links to folders too, in order."""
    return sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def sync(path: Path) -> None:
    """Have the kernel write a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step, so that at no moment either is missing.

    Returns:
        False where the system or the file system cannot do that, and nothing was done.

    Raises:
        OSError: One of them is not there, or must not be moved.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # Linux has it
    if rename is None:
        return False
    names = os.fsencode(one.absolute()), os.fsencode(other.absolute())
    if rename(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0:
        return True
    error = ctypes.get_errno()
    if error in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
        return False
    raise OSError(error, os.strerror(error), str(other))


def cannot_write(path: Path, error: OSError) -> EnvironmentFault:
    """Say in one line that `path` cannot be written, and why."""
    if isinstance(error, EnvironmentFault):
        return error
    return EnvironmentFault(f"Cannot write {path}: {error.strerror or error}.")
