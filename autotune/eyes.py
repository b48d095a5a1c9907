"""What looks at a device's memory and health, and how often."""

from __future__ import annotations

from collections.abc import Callable

from autotune import host, nvml
from autotune.device import Device
from autotune.watch import Look

GPU_EVERY_S, HOST_EVERY_S = 0.02, 0.1  # each wake costs short calls 0.2 ms of two cores
HEALTH_EVERY = 7  # looks at a GPU: clocks change slowly, and five more questions cost more


def eyes_of(device: Device) -> tuple[Callable[[], Look], float]:
    """Return what looks at a device, and the seconds between looks."""
    if device.blind:
        return Look, HOST_EVERY_S
    if device.gpu is None:
        return HostEyes().look, HOST_EVERY_S
    handle = nvml.open_handle(device.gpu.uuid)
    if handle is None:
        return Look, HOST_EVERY_S
    return GpuEyes(handle, device.shares_host_memory).look, GPU_EVERY_S


class HostEyes:
    """Looks at the host's memory, within the limits that were found at first."""

    def __init__(self) -> None:
        self._groups = host.memory_groups()

    def look(self) -> Look:
        """Look once."""
        return Look(host.memory(self._groups).free_bytes, host.anonymous_bytes())


class GpuEyes:
    """Looks at a GPU: at its memory each time, at its health now and then."""

    def __init__(self, handle: nvml.Handle, shares_host_memory: bool) -> None:
        self._handle = handle
        self._host = HostEyes() if shares_host_memory else None
        self._looks = 0

    def look(self) -> Look:
        """Look once."""
        self._looks += 1
        health = nvml.Reading()
        if self._looks % HEALTH_EVERY == 1:
            health = self._handle.health()
        if self._host:
            free = self._host.look().free_bytes  # what it holds of it the host does not tell
        else:
            memory = self._handle.memory()
            free = memory[1] if memory else None
        return Look(free, throttled=health.throttled, lost=health.lost)
