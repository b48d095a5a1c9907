"""Files that are whole or not there: atomic writes, and hashes to tell whether one changed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from autotune.errors import EnvironmentFault

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
