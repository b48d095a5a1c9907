"""Files that are whole or not there: atomic writes, and hashes to tell whether one changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from autotune.errors import EnvironmentFault


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


def cannot_write(path: Path, error: OSError) -> EnvironmentFault:
    """Say in one line that `path` cannot be written, and why."""
    if isinstance(error, EnvironmentFault):
        return error
    return EnvironmentFault(f"Cannot write {path}: {error.strerror or error}.")
