"""For guards: a device that is not watched, and a host whose free memory is what a test says."""

from __future__ import annotations

import pytest

from autotune import eyes, guard, host
from autotune.device import Device
from autotune.watch import Look
from tests.waiting import wait_until

GIB = 2**30


UNWATCHED = Device("cpu", "CPU", None, blind="nobody asked it to look")


class FreeMemory:
    """Free memory of a simulated device, which a test sets.

    Args:
        monkeypatch: Puts it in the host's place.
        free_bytes: At first.
        is_host: Whether it is told what this process holds of it; of a GPU it is not.

    Attributes:
        own_bytes: What this process holds.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, free_bytes: int, *, is_host: bool = True
    ) -> None:
        self.free_bytes = free_bytes
        self.own_bytes = 0

        def look(_: object) -> Look:
            return Look(self._read().free_bytes, self.own_bytes if is_host else None)

        monkeypatch.setattr(eyes.HostEyes, "look", look)
        self.looks = 0
        monkeypatch.setattr(host, "memory", self._read)
        monkeypatch.setattr(eyes, "HOST_EVERY_S", 0.002)
        monkeypatch.setattr(guard, "PATIENCE_S", 0.1)

    def _read(self, _: object = None) -> host.Memory:
        self.looks += 1
        return host.Memory(64 * GIB, self.free_bytes)

    def take(self, own_bytes: int) -> None:
        """Let this process take memory, or give it back where it is below 0."""
        self.own_bytes += own_bytes
        self.free_bytes -= own_bytes

    def is_seen(self) -> None:
        """Wait until it was looked at twice more: what it is now is known then."""
        wanted = self.looks + 2
        wait_until(lambda: self.looks >= wanted)
