"""See whether something else on the machine disturbed a stretch of timed calls.

The system counts processor time in ticks of 1/100 s: a stretch shorter than about 30 ms cannot
be judged, so read at intervals of 30 ms or more.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from autotune import host

if sys.platform != "win32":
    import resource

# Shares are of one processor's time. Measured on 2 processors, this process busy on both, as
# others_s / wall_s in stretches of 50, 100 and 250 ms. At rest (300, 300 and 80 stretches; no
# other process took 2 %) 99 % lay below 0.18, 0.07 and 0.05; beside a busy process
# (180 to 200 of each) 99 % above 0.29, 0.31 and 0.46.
TAKEN_SHARE = 0.2
# On a machine with many processors somebody always does something, and there is room for it.
MACHINE_SHARE = 0.05  # of all processors' time
# Time is taken in ticks and own time is exact, so two ticks show as about 0.015 s or more; at
# rest nothing above 0.012 s was seen in 50 ms. Below 75 ms this decides: of 290 blocks of 30 ms
# beside a busy process 288 were told to be disturbed, of 325 at rest 3; of 50 ms 290 and 6.
MIN_TAKEN_S = 0.015
# Measured: 0 where there is a quota that is not reached; 0.05 and more, mostly 0.09, where a
# process that wants 2 processors may have 1.9.
THROTTLED_SHARE = 0.01

_BUSY = ("user", "nice", "system", "irq", "softirq")  # a guest's time is inside user and nice


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What else happened on the machine while this process worked.

    Attributes:
        wall_s: Length of the stretch, in seconds.
        others_s: Processor seconds that other processes took, this process's children included.
        steal_s: Processor seconds that the hypervisor gave to others.
        throttled_s: Seconds that the CPU quota of a cgroup above this process held it back,
            added over processors. The kernel tells only when it lets go, up to 0.1 s later.
        switches: Involuntary context switches of this process; 0 on Windows.
        gpu: What slowed the GPU's clock down; () where nothing is known.
        cpus: On how many processors; None for those that this process may use.
    """

    wall_s: float
    others_s: float
    steal_s: float
    throttled_s: float
    switches: int
    gpu: tuple[str, ...] = ()
    cpus: int | None = None

    @property
    def is_disturbed(self) -> bool:
        """Whether calls timed in this stretch may have been slower than they are alone."""
        return bool(self.reasons)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What may have slowed them down, in words."""
        share = max(TAKEN_SHARE, MACHINE_SHARE * (self.cpus or host.cpu_count()))
        taken_s = max(MIN_TAKEN_S, share * self.wall_s)
        found = [
            (self.others_s > taken_s, "other processes were busy"),
            (self.steal_s > taken_s, "the hypervisor gave processor time to others"),
            (self.throttled_s > THROTTLED_SHARE * self.wall_s, "a CPU quota held it back"),
        ]
        return (*(words for is_so, words in found if is_so), *(f"GPU: {why}" for why in self.gpu))


class _Counters(NamedTuple):
    """Seconds and counts since some moment in the past."""

    wall_s: float
    busy_s: float
    own_s: float
    steal_s: float
    throttled_s: float
    switches: int


class Meter:
    """Reads the counters; each `read()` tells of the time since the last one.

    Args:
        throttled: Tells what slowed the GPU down since it was last asked, in words.
    """

    def __init__(self, throttled: Callable[[], tuple[str, ...]] = tuple) -> None:
        self._throttled = throttled
        self._throttles = list(_throttle_files())  # looked for once: a read has to be quick
        self._processors = host.some_cpus()
        self._last = self._count()

    def read(self) -> Disturbance:
        """Tell of the time since the last read, or since the meter was made."""
        gpu = self._throttled()
        last, now = self._last, self._count()
        self._last = now
        # Own time is exact and busy time is sampled; and counters of virtual machines may go back.
        return Disturbance(
            wall_s=now.wall_s - last.wall_s,
            others_s=max(0.0, now.busy_s - last.busy_s - (now.own_s - last.own_s)),
            steal_s=max(0.0, now.steal_s - last.steal_s),
            throttled_s=max(0.0, now.throttled_s - last.throttled_s),
            switches=now.switches - last.switches,
            gpu=gpu,
            cpus=len(self._processors) if self._processors else os.cpu_count(),
        )

    def _cpu_times(self) -> list[Any]:
        """Times of the processors that this process may use: on others nobody is in its way."""
        if self._processors is None:
            return [psutil.cpu_times()]
        every: list[Any] = psutil.cpu_times(percpu=True)
        if self._processors[-1] >= len(every):  # some are offline: the numbers are not the places
            return every
        return [every[number] for number in self._processors]

    def _count(self) -> _Counters:
        system = self._cpu_times()
        return _Counters(
            wall_s=time.perf_counter(),
            busy_s=sum(getattr(cpu, field, 0.0) for field in _BUSY for cpu in system),
            own_s=time.process_time(),  # of all threads
            steal_s=sum(getattr(cpu, "steal", 0.0) for cpu in system),
            throttled_s=sum(_throttled_s(path, v2) or 0.0 for path, v2 in self._throttles),
            switches=_switches(),
        )


def _switches() -> int:
    if sys.platform != "win32":
        return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    return 0


def _throttle_files() -> Iterator[tuple[Path, bool]]:
    """Files that tell how long a quota held this process back; whether they are of version 2."""
    for folder, v2 in host.cgroup_folders("cpu"):
        path = folder / "cpu.stat"
        if _throttled_s(path, v2) is not None:  # the topmost group of version 2 does not tell
            yield path, v2


def _throttled_s(path: Path, v2: bool) -> float | None:
    try:
        fields = dict(line.split(" ", 1) for line in path.read_text().splitlines())
        return int(fields["throttled_usec"]) / 1e6 if v2 else int(fields["throttled_time"]) / 1e9
    except (OSError, ValueError, KeyError):
        return None
