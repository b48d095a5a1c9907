"""Memory and processors of the host, asked of the real one where it can answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from autotune import host

MIB = 2**20
SetLimits = Callable[..., None]

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs /proc, which Linux has"
)


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetLimits:
    """Put the root of both cgroup versions into a folder of this test, with the given files."""
    if not list(host.cgroup_folders("memory")):
        pytest.skip("needs memory cgroups, which Linux has")
    monkeypatch.setattr(host, "_CGROUP", tmp_path)

    def write(limit: object, used: int, cache: int = 0, kills: int = 0) -> None:
        (tmp_path / "memory").mkdir(exist_ok=True)
        files = {
            "memory.max": limit,
            "memory.current": used,
            "memory.stat": f"anon 1\ninactive_file {cache}",
            "memory.events": f"oom 0\noom_kill {kills}",
            "memory/memory.limit_in_bytes": 2**63 - 4096 if limit == "max" else limit,
            "memory/memory.usage_in_bytes": used,
            "memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {cache}",
            "memory/memory.oom_control": f"under_oom 0\noom_kill {kills}",
        }
        for name, value in files.items():
            (tmp_path / name).write_text(f"{value}\n")

    return write


def test_the_limit_is_never_above_the_machine() -> None:
    """A process cannot have more memory than the machine has, nor more free than in all."""
    memory = host.memory()
    assert 0 < memory.total_bytes <= psutil.virtual_memory().total
    assert 0 <= memory.free_bytes <= memory.total_bytes


def test_a_container_that_is_ended_whole_is_seen(cgroup: SetLimits, tmp_path: Path) -> None:
    """Where one process of it is killed for memory, all of its processes are."""
    cgroup(limit=100 * MIB, used=60 * MIB)
    assert not host.is_killed_whole()
    for value, is_so in ((0, False), (1, True)):
        (tmp_path / "memory.oom.group").write_text(f"{value}\n")
        assert host.is_killed_whole() == is_so


def test_the_processors_of_a_pinned_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told where they are not all."""
    every = set(range(os.cpu_count() or 1))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: every, raising=False)
    assert host.some_cpus() is None
    monkeypatch.setattr(os, "cpu_count", lambda: len(every) + 1)
    assert host.some_cpus() == tuple(sorted(every))


def test_a_container_limits_the_memory(cgroup: SetLimits) -> None:
    """The container's limit is the total; cache that the kernel gives back counts as free."""
    cgroup(limit=100 * MIB, used=60 * MIB, cache=20 * MIB)
    assert host.memory() == host.Memory(100 * MIB, 60 * MIB)


def test_a_container_over_its_limit_has_nothing_free(cgroup: SetLimits) -> None:
    """More used than allowed is 0 bytes free, not fewer."""
    cgroup(limit=10 * MIB, used=60 * MIB)
    assert host.memory() == host.Memory(10 * MIB, 0)


@pytest.mark.parametrize("limit", ["max", 2**61])
def test_a_container_without_a_limit_has_the_machine(cgroup: SetLimits, limit: object) -> None:
    """No limit, or one that is larger than the machine, leaves the machine's memory."""
    cgroup(limit=limit, used=60 * MIB)
    assert host.memory().total_bytes == psutil.virtual_memory().total


def test_groups_that_were_found_are_read_anew(cgroup: SetLimits) -> None:
    """What was found once tells what is used now, also after its limit has gone."""
    cgroup(limit=100 * MIB, used=60 * MIB)
    groups = host.memory_groups()
    assert {group.limit_bytes for group in groups} == {100 * MIB}
    cgroup(limit=100 * MIB, used=90 * MIB)
    assert host.memory(groups) == host.Memory(100 * MIB, 10 * MIB)
    cgroup(limit="max", used=90 * MIB)
    assert host.memory(groups).total_bytes == psutil.virtual_memory().total


def test_kills_of_the_kernel_are_counted(cgroup: SetLimits) -> None:
    """The kernel's count of processes killed for memory is read; none is 0."""
    cgroup(limit="max", used=0, kills=3)
    assert host.kernel_memory_kills() == 3
    cgroup(limit="max", used=0)
    assert host.kernel_memory_kills() == 0


def test_files_that_are_missing_are_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel tells nothing, the machine's memory counts."""
    monkeypatch.setattr(host, "_CGROUP", tmp_path)
    assert host.memory().total_bytes == psutil.virtual_memory().total
    assert host.kernel_memory_kills() == 0


def test_processors_are_those_of_this_process() -> None:
    """There is at least one processor, and none that the machine has not."""
    assert 1 <= host.cpu_count() <= (os.cpu_count() or 1)


def test_the_processor_has_a_name_on_one_line() -> None:
    """The name is text that a report can show."""
    assert host.cpu_name().strip()
    assert host.cpu_name().isprintable()


@needs_proc
def test_the_peak_sees_memory_that_was_given_back() -> None:
    """Memory that was taken and freed again is in the peak, until the peak is reset."""
    host.reset_peak_resident()
    before = host.resident_bytes()
    np.ones(64 * MIB, np.uint8)
    peak = host.peak_resident_bytes()
    assert peak is not None
    assert peak >= before + 60 * MIB
    assert host.resident_bytes() < peak
