"""Arrays that are mapped from files: give their memory back once it has been read or written."""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np

from autotune.nesting import Array, Nested, leaves_of

_SHARED = ("r", "r+", "w+")  # in a private mapping, "c", it would undo what was written
# With a page that is read, Linux may map all of the piece of its cache that the page lies in, some
# of which was given back before: up to a huge page. With 64 KiB a third stayed (Linux 6.18, ext4).
_AROUND = 2**21


def release(array: Array) -> None:
    """Take the pages of a mapped array out of this process's memory.

    The kernel keeps them in its cache while there is room, and what was written stays written.
    Pages before the array go as well, so that none stays where arrays that follow each other
    meet; whoever needs them still gets them back from the cache. Does nothing for other arrays,
    and where the system cannot do it.
    """
    mapping = _mapping_of(array)
    if mapping is None or not array.flags.c_contiguous or not array.nbytes:
        return
    if not hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        return
    begin = _address(np.frombuffer(mapping, np.uint8))
    start, stop = _address(array) - begin, _address(array) - begin + array.nbytes
    start = max(0, start - _AROUND) // mmap.PAGESIZE * mmap.PAGESIZE
    stop = stop // mmap.PAGESIZE * mmap.PAGESIZE  # the last page may hold rows that come next
    if stop > start:
        with contextlib.suppress(OSError):
            mapping.madvise(mmap.MADV_DONTNEED, start, stop - start)


def read_in(nested: Nested) -> None:
    """Read a byte of each page of mapped arrays: nobody later is charged with the reading."""
    for leaf in leaves_of(nested):
        if _mapping_of(leaf) is not None and leaf.flags.c_contiguous and leaf.nbytes:
            leaf.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE].max()


def is_mapped(nested: Nested) -> bool:
    """Whether an array of a nesting is mapped from a file, so that its memory can be given back."""
    return any(_mapping_of(leaf) is not None for leaf in leaves_of(nested))


def _mapping_of(array: Array) -> mmap.mmap | None:
    """The file's mapping that an array is a view of, if it is one that is shared."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        mapping = getattr(owner, "_mmap", None)
        if isinstance(mapping, mmap.mmap):
            return mapping if getattr(owner, "mode", "") in _SHARED else None
        owner = owner.base
    return None


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
