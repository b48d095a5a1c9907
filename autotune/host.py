"""The host: memory and processors that this process may use, and what it takes of them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_NO_LIMIT = 2**62  # cgroup v1 writes about this number for "no limit"
_CGROUP = Path("/sys/fs/cgroup")
WHOLE_GROUP = (
    "Where memory runs out, the kernel ends all of this container, the tuner included "
    "(memory.oom.group is 1): what was found by then is in the study, if one was given."
)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that there are, and bytes that may still be taken."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A memory cgroup above this process that has a limit."""

    folder: Path
    v2: bool

    @property
    def limit_bytes(self) -> int | None:
        """What its processes may take together; None where the kernel does not limit them."""
        names = ["memory.limit_in_bytes"]
        if self.v2:  # above memory.high the kernel slows a process down until it hardly moves
            names = ["memory.max", "memory.high"]
        limits = [_read_int(self.folder / name) for name in names]
        limit = min((limit for limit in limits if limit is not None), default=_NO_LIMIT)
        return limit if limit < _NO_LIMIT else None

    @property
    def used_bytes(self) -> int | None:
        """What they hold, without the cached files that the kernel gives back."""
        used = _read_int(self.folder / ("memory.current" if self.v2 else "memory.usage_in_bytes"))
        return used and max(0, used - _inactive_file(self.folder / "memory.stat", self.v2))


def memory_groups() -> tuple[MemoryGroup, ...]:
    """Find the memory cgroups above this process that have a limit, innermost first."""
    groups = [MemoryGroup(folder, v2) for folder, v2 in cgroup_folders("memory")]
    return tuple(g for g in groups if g.limit_bytes is not None and g.used_bytes is not None)


def memory(groups: Iterable[MemoryGroup] | None = None) -> Memory:
    """Memory that this process may use: the machine's, or less where a container limits it.

    psutil sees the machine only, so each memory cgroup above the process is asked as well.

    Args:
        groups: What `memory_groups` found; looked up if None, which costs more than all the rest.
    """
    machine = psutil.virtual_memory()
    total, free = machine.total, machine.available
    for group in memory_groups() if groups is None else groups:
        limit, used = group.limit_bytes, group.used_bytes
        if limit is not None and used is not None:  # it may have lost its limit, or be gone
            total, free = min(total, limit), min(free, max(0, limit - used))
    return Memory(total, free)


def cgroup_folders(controller: str) -> tuple[tuple[Path, bool], ...]:
    """Folders of a controller's cgroups above this process, and whether they are of version 2.

    Beside version 1 a machine may have version 2 without this controller: its folders may come
    as well, but lack the controller's files or fields.
    """
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ()  # not Linux
    return _cgroup_folders(controller, tuple(lines), _CGROUP)


@functools.lru_cache(maxsize=16)  # asked for around each probe
def _cgroup_folders(
    controller: str, lines: tuple[str, ...], mounted: Path
) -> tuple[tuple[Path, bool], ...]:
    return tuple(_folders_of(controller, lines, mounted))


def _folders_of(
    controller: str, lines: tuple[str, ...], mounted: Path
) -> Iterator[tuple[Path, bool]]:
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            root, v2 = mounted, True
        elif controller in controllers.split(","):
            root, v2 = mounted / controller, False
        else:
            continue
        folder = root / own.lstrip("/")
        for above in (folder, *folder.parents):
            # Inside a container the path names folders of the host: those just do not exist.
            if above.is_relative_to(root) and above.is_dir():
                yield above, v2


def _read_int(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None


def _inactive_file(path: Path, v2: bool) -> int:
    key = "inactive_file" if v2 else "total_inactive_file"
    try:
        fields = dict(line.split(" ", 1) for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(fields.get(key, 0))


def is_killed_whole() -> bool:
    """Whether the kernel ends all of a cgroup above this process, when it is short of memory.

    `memory.oom.group` of version 2: then no process can volunteer for the others.
    """
    folders = [folder for folder, v2 in cgroup_folders("memory") if v2]
    return any(_read_int(folder / "memory.oom.group") == 1 for folder in folders)


def kernel_memory_kills() -> int:
    """How often the kernel killed a process of this cgroup for memory; 0 where it does not say."""
    kills = 0
    for folder, v2 in cgroup_folders("memory"):
        path = folder / ("memory.events" if v2 else "memory.oom_control")
        with contextlib.suppress(OSError, ValueError):
            fields = dict(line.split(" ", 1) for line in path.read_text().splitlines())
            kills = max(kills, int(fields.get("oom_kill", 0)))
    return kills


def cpu_count() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


def some_cpus() -> tuple[int, ...] | None:
    """Numbers of the processors that this process's threads may use; None where those are all.

    Each thread has its own: a runtime may bind the first one to a processor, and the others to
    the others.
    """
    if not hasattr(os, "sched_getaffinity"):  # not on macOS or Windows
        return None
    allowed = set(os.sched_getaffinity(0))
    for thread in psutil.Process().threads():
        with contextlib.suppress(OSError):  # it has ended
            allowed |= os.sched_getaffinity(thread.id)
    return tuple(sorted(allowed)) if len(allowed) < (os.cpu_count() or 1) else None


def cpu_quota() -> float | None:
    """How many processors' worth of time the cgroups above this process allow; None for no quota.

    Example: 0.5 is half of one processor's time.
    """
    quotas = []
    for folder, v2 in cgroup_folders("cpu"):
        with contextlib.suppress(OSError, ValueError):
            if v2:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            if int(quota) > 0:  # version 1 writes -1 for none, version 2 "max"
                quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def usable_cpus() -> int:
    """How many threads can run at once: processors of this process, or less where a quota is."""
    quota = cpu_quota()
    return cpu_count() if quota is None else max(1, min(cpu_count(), math.ceil(quota)))


def cpu_name() -> str:
    """Name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of this process now, or of another; 0 where that one is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def anonymous_bytes() -> int:
    """Resident memory of this process that is in no file; with those where it is not told apart."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resident_bytes()
    field = next((line.split() for line in lines if line.startswith("RssAnon:")), None)
    return int(field[1]) * 1024 if field else resident_bytes()


def give_back_free_memory() -> None:
    """Return to the system what the C library holds of freed memory, where it can do that."""
    with contextlib.suppress(OSError, AttributeError):  # of other libraries than glibc
        ctypes.CDLL(None).malloc_trim(0)


def private_bytes(pid: int) -> int:
    """Memory that would be free if a process ended; 0 where that cannot be read.

    What a forked process shares with others, such as its libraries, would stay; what it has read
    of files and not changed is free already.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it is gone, or this is not Linux
        return 0
    fields = [line.split() for line in lines if line.startswith("Private_Dirty")]
    return sum(int(field[1]) * 1024 for field in fields)


def peak_resident_bytes() -> int | None:
    """Highest resident memory of this process since `reset_peak_resident`; None off Linux."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    field = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(field.split()[1]) * 1024 if field else None


def reset_peak_resident() -> None:
    """Begin to watch for a new peak of resident memory."""
    with contextlib.suppress(OSError):  # not Linux, or a kernel that does not allow it
        Path("/proc/self/clear_refs").write_text("5")
