"""The family: the children of one probe, one for each number of threads, and their memory.

Only one of them works at a time. What the others hold meanwhile is missing to it, though on a
machine in production it would not be: so they may be there only while that is little.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from autotune import host
from autotune.child import Child, ChildDied, Nursery
from autotune.units import format_bytes

START_TIMEOUT_S = 120.0  # importing a backend takes seconds
# Of the memory that is free without them, what idle children may hold. The limit of the one that
# works falls by that much: less than the tenth that `tuning` would lay on others' doing.
IDLE_SHARE = 0.08
# To read what a process has to itself takes as long as a short probe (13 ms for one that has
# TensorFlow loaded): it is read again where as much came or went, or after so many seconds.
NOTABLE_BYTES = 16 * 2**20
REMEMBERED_S = 5.0


class _Held(NamedTuple):
    """What a child held when that was last read."""

    private_bytes: int
    resident_bytes: int
    read_s: float


class Family:
    """The children of a probe, by the threads that one call has in each; None: the backend's own.

    Args:
        fork: As of a `Nursery`.
        scratch: As of a `Nursery`.
    """

    def __init__(self, *, fork: bool, scratch: Sequence[str]) -> None:
        self._fork = fork
        self._scratch = scratch
        self._nursery: Nursery | None = None
        self._children: dict[int | None, Child] = {}
        self._one_bytes = 0  # what a child holds that has done nothing but load the model
        self._kills: dict[int | None, int] = {}  # that the kernel had made when each last worked
        self._held: dict[int, _Held] = {}  # by process id

    @property
    def pids(self) -> dict[int | None, int]:
        """Process ids of the children."""
        return {threads: child.pid for threads, child in self._children.items()}

    def child(self, threads: int | None) -> Child | None:
        """Return the child with so many threads, if there is one.

        One that the kernel killed for memory while another worked is none: no candidate is to
        blame for that, and it is started again.
        """
        child = self._children.get(threads)
        if child and host.kernel_memory_kills() > self._kills[threads] and child.was_killed:
            self.end(threads)
            return None
        self._kills[threads] = host.kernel_memory_kills()
        return child

    def start(self, threads: int | None) -> Child:
        """Start a child.

        Raises:
            ChildDied: The keeper is gone, or took too long.
        """
        if self._nursery is not None and self._nursery.is_lost:
            self.close()
        if self._nursery is None:
            self._nursery = Nursery(fork=self._fork, scratch=self._scratch)
        try:
            child = self._nursery.start(START_TIMEOUT_S)
        except ChildDied:
            self.close()  # a child that comes late would be taken for the next one
            raise
        self._children[threads] = child
        self._kills[threads] = host.kernel_memory_kills()
        return child

    def end(self, threads: int | None) -> None:
        """End a child, if there is one, with all that it started."""
        child = self._children.pop(threads, None)
        if child is not None:
            self._held.pop(child.pid, None)
            child.end()

    def close(self) -> None:
        """End all children, whatever they are doing, and their keeper."""
        self._children.clear()
        self._held.clear()
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None

    def measure_one(self, child: Child) -> None:
        """See what a child holds that has just loaded the model."""
        self._one_bytes = host.private_bytes(child.pid)

    def why_no_room(self) -> str:
        """Say why there should not be one more child; "" where there may."""
        idle, free = len(self._children) * self._one_bytes, host.memory().free_bytes
        if idle <= IDLE_SHARE * (free + idle):
            return ""
        return (
            f"each holds {format_bytes(self._one_bytes)} with the model loaded, and those that "
            f"wait for their turn may hold {IDLE_SHARE:.0%} of the memory that is free, which is "
            f"{format_bytes(free)}."
        )

    def make_room(self, threads: int | None) -> int:
        """End the children that hold too much beside the one that is to work.

        Returns:
            Memory that the others hold which are left.
        """
        held = {t: self._held_by(child) for t, child in self._children.items() if t != threads}
        free = host.memory().free_bytes if held else 0
        while held and sum(held.values()) > IDLE_SHARE * (free + sum(held.values())):
            largest = max(held, key=lambda t: held[t])
            self.end(largest)
            free += held.pop(largest)
        return sum(held.values())

    def _held_by(self, child: Child) -> int:
        """What would be free if a child ended."""
        now_s, resident_bytes = time.monotonic(), host.resident_bytes(child.pid)
        held = self._held.get(child.pid)
        if (
            held is None
            or now_s - held.read_s > REMEMBERED_S
            or abs(resident_bytes - held.resident_bytes) > NOTABLE_BYTES
        ):
            held = _Held(host.private_bytes(child.pid), resident_bytes, now_s)
            self._held[child.pid] = held
        return held.private_bytes
