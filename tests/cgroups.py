"""Memory cgroups with a limit: the kernel's own way of running a few processes out of memory."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from autotune.host import cgroup_folders

_ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'  # so that nothing runs outside, ever
_REMOVAL_S = 10.0  # the kernel keeps a group busy for a moment after its last process has gone


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A memory cgroup.

    Attributes:
        folder: Where the kernel shows it.
        v2: Whether it is of version 2.
    """

    folder: Path
    v2: bool

    def command(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs `command` inside; its exit status is unchanged."""
        return ["sh", "-c", _ENTER, str(self.folder), *command]

    @property
    def kernel_kills(self) -> int:
        """How many processes inside the kernel has killed for memory."""
        text = (self.folder / ("memory.events" if self.v2 else "memory.oom_control")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])

    @property
    def peak_bytes(self) -> int:
        """Most memory in use at once, page cache included; 0 where the kernel is too old."""
        path = self.folder / ("memory.peak" if self.v2 else "memory.max_usage_in_bytes")
        return int(path.read_text()) if path.exists() else 0


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """Make a memory cgroup below the one of this process; at the end all inside is killed.

    Where that is not allowed, the test is skipped; where NO_SKIPS is set and root can do it,
    it fails instead.
    """
    found = _above()
    if found is None:
        pytest.skip("needs a memory cgroup that passes its controller on")
    above, v2 = found
    folder = above / f"autotune-{secrets.token_hex(4)}"
    try:
        folder.mkdir()
    except OSError as error:
        _give_up(above, error)
    try:
        try:
            _limit(folder, v2, limit_bytes)
        except OSError as error:
            _give_up(above, error)
        yield MemoryGroup(folder, v2)
    finally:
        _remove(folder)


def _above() -> tuple[Path, bool] | None:
    """The nearest group in which a new one has the memory controller, and its version."""
    for folder, v2 in cgroup_folders("memory"):
        if not v2 and (folder / "memory.limit_in_bytes").exists():
            return folder, False
        passed_on = folder / "cgroup.subtree_control"
        if v2 and passed_on.exists() and "memory" in passed_on.read_text().split():
            return folder, True
    return None


def _give_up(above: Path, error: OSError) -> NoReturn:
    # Containers show the tree to root as well, but read-only: that is no fault of the set-up.
    in_earnest = os.environ.get("NO_SKIPS") and os.geteuid() == 0 and os.access(above, os.W_OK)
    give_up = pytest.fail if in_earnest else pytest.skip
    give_up(f"needs to make a memory cgroup: {error}")


def _limit(folder: Path, v2: bool, limit_bytes: int) -> None:
    """Limit memory, and swap with it: what is swapped out is not out of memory."""
    names = ("memory.max",) if v2 else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    for name in names:
        if name == names[0] or (folder / name).exists():  # swap may not be counted
            (folder / name).write_text(str(limit_bytes))
    if v2 and (folder / "memory.swap.max").exists():
        (folder / "memory.swap.max").write_text("0")


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + _REMOVAL_S
    while True:
        for process in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
