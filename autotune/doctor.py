"""For people: what the checkup found, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from autotune.checkup import Checkup, GpuCheck, Holder
from autotune.report import printable
from autotune.units import format_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType


def summary(found: Checkup) -> RenderableType:
    """Return what was found and what to do about it, for rich's console."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text(printable(line)) for line in _facts(found)]
    notes = [Text(f"Note: {printable(note, 500)}", style="yellow") for note in found.advice]
    return Group(*lines, *notes)


def _facts(found: Checkup) -> Iterator[str]:
    backend = found.backend
    if backend is None:
        yield f"backend    none: {found.backend_problem}"
    else:
        yield f"backend    {backend.backend}, on {backend.device}"
    if backend and backend.device_kind == "gpu":
        known = f"NVML's {backend.device_id}" if backend.device_id else f"none: {backend.blind}"
        yield f"watched    {known}"
        taken = "all at once by default; in autotune's child it grows"
        yield f"GPU memory {taken if backend.preallocates else 'grows as it is needed'}"
    yield from _host(found)
    if found.nvml_problem:
        yield f"GPUs       none: {found.nvml_problem}"
    for gpu in found.gpus:
        yield from _gpu(gpu)
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    yield f"versions   {versions}"


def _host(found: Checkup) -> Iterator[str]:
    machine = found.host
    quota = "no quota" if machine.cpu_quota is None else f"a quota of {machine.cpu_quota:g}"
    yield f"processor  {machine.cpu}, {machine.cpu_count} of them to be used, {quota}"
    free, total = format_bytes(machine.free_bytes), format_bytes(machine.total_bytes)
    yield f"memory     {free} free of {total}"
    for limit in machine.limits:
        used = format_bytes(limit.used_bytes)
        yield f"           a cgroup's limit of {format_bytes(limit.limit_bytes)}, {used} in use"


def _gpu(gpu: GpuCheck) -> Iterator[str]:
    yield f"GPU        {gpu.name}, {gpu.uuid}, at {gpu.bus_id or 'an unknown place'}"
    if gpu.lost:
        yield f"           {gpu.lost}"
    if gpu.free_bytes is None or gpu.total_bytes is None:
        yield "           its memory is not told: it may use the host's"
    else:
        free, total = format_bytes(gpu.free_bytes), format_bytes(gpu.total_bytes)
        yield f"           {free} free of {total}; held by {_held(gpu.holders)}"
    sensors = [
        None if gpu.temperature_c is None else f"{gpu.temperature_c} °C",
        None if gpu.clock_mhz is None else f"{gpu.clock_mhz} MHz",
        None if gpu.power_w is None else f"{gpu.power_w:.0f} W",
        *(f"slowed down: {why}" for why in gpu.throttled),
    ]
    if any(sensors):
        yield "           " + ", ".join(sensor for sensor in sensors if sensor)


def _held(holders: tuple[Holder, ...] | None) -> str:
    if holders is None:
        return "whom the driver does not tell"
    if not holders:
        return "nobody that is seen from here"
    words = []
    for holder in holders:
        taken = "" if holder.bytes is None else f" ({format_bytes(holder.bytes)})"
        words.append(f"process {holder.pid}{taken}")
    return ", ".join(words)
