"""For guards: a device that is not watched, and a host whose free memory is what a test says."""

from __future__ import annotations

import pytest

from autotune import guard, host
from autotune.device import Device
from tests.waiting import wait_until

GIB = 2**30


UNWATCHED = Device("cpu", "CPU", None, blind="nobody asked it to look")


class FreeMemory:
    """Free memory of a simulated host, which a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
        self.free_bytes = free_bytes
        self.looks = 0
        monkeypatch.setattr(host, "memory", self._read)
        monkeypatch.setattr(guard, "HOST_EVERY_S", 0.002)
        monkeypatch.setattr(guard, "PATIENCE_S", 0.1)

    def _read(self, _: object = None) -> host.Memory:
        self.looks += 1
        return host.Memory(64 * GIB, self.free_bytes)

    def is_seen(self) -> None:
        """Wait until it was looked at twice more: what it is now is known then."""
        wanted = self.looks + 2
        wait_until(lambda: self.looks >= wanted)
