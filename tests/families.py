"""Families of simulated devices: `make(seed)` draws one, with the troubles of real ones.

Latency and memory come from one of the `FAMILIES`; noise, outliers, a neighbour, drift and first
calls are drawn alike for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tests.devices import MAX_ROWS, Device, Latency, Memory, Neighbour, Troubles


def between(random: np.random.Generator, low: float, high: float) -> float:
    """A number between two, all orders of magnitude alike."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _saturating(random: np.random.Generator, half: float | None = None) -> Latency:
    """Speed b / (b + half) of the most."""
    call_s = between(random, 5e-5, 2e-3)
    return Latency(call_s, call_s / (half or between(random, 4, 250)))


def _fitting(random: np.random.Generator, rows: float) -> tuple[Memory, int]:
    """Memory, and a limit, such that so many rows fit."""
    limit = between(random, 2**28, 2**36)
    base = limit * random.uniform(0.01, 0.3)
    return Memory(base, (limit - base) / (rows + 0.5)), int(limit)


def _device(random: np.random.Generator, latency: Latency, limited: float = 0.13) -> Device:
    """A device of that latency; a share of them runs into memory within the useful range."""
    max_rows = round(between(random, *USEFUL_ROWS))
    few = random.random() < limited
    rows = (
        between(random, max(300, max_rows / 8), max_rows)
        if few
        else max_rows * between(random, 1.01, 8)
    )
    memory, limit = _fitting(random, rows)
    return Device(latency, memory, limit, _troubles(random), max_rows)


def _troubles(random: np.random.Generator) -> Troubles:
    neighbour = None
    if random.random() < WITH_NEIGHBOUR:
        neighbour = Neighbour(
            between(random, 2, 20), between(random, 1, 5), random.uniform(1.3, 2.2)
        )
    return Troubles(
        noise=between(random, 0.005, 0.06),
        outliers=random.uniform(0, 0.02),
        neighbour=neighbour,
        drift=random.uniform(0, 0.04),
        drift_period_s=between(random, 30, 300),
        drift_phase=random.uniform(0, 2 * np.pi),
        compile_s=between(random, 0.001, 0.5) if random.random() < WITH_COMPILING else 0.0,
        out_of_memory_s=between(random, 1, 10),
    )


USEFUL_ROWS = 4_096, MAX_ROWS
WITH_NEIGHBOUR = 0.6  # share of the devices
WITH_COMPILING = 0.3


def smooth(random: np.random.Generator) -> Device:
    """Speed rises and levels off."""
    return _device(random, _saturating(random))


def tiles(random: np.random.Generator) -> Device:
    """Latency rises in steps of so many rows."""
    tile = int(random.choice([8, 16, 24, 32, 40, 64, 96, 128]))
    return _device(random, replace(_saturating(random), tile=tile))


def cliff(random: np.random.Generator) -> Device:
    """From some size on the rows no longer fit in a cache."""
    latency = _saturating(random)
    at = round(between(random, 32, 8_192))
    return _device(random, replace(latency, cliff_at=at, cliff=random.uniform(1.2, 2.5)))


def algorithms(random: np.random.Generator) -> Device:
    """At one to three sizes another algorithm takes over."""
    sizes = sorted(round(between(random, 8, 8_192)) for _ in range(random.integers(1, 4)))
    switches = tuple((size, *random.uniform(0.6, 1.3, 2).tolist()) for size in sizes)
    return _device(random, replace(_saturating(random), switches=switches))


def flat(random: np.random.Generator) -> Device:
    """Every size is nearly as fast as any other."""
    row_s = between(random, 2e-6, 6e-4)
    return _device(random, Latency(row_s * between(random, 0.003, 0.3), row_s))


def memory_bound(random: np.random.Generator) -> Device:
    """Memory ends while speed still rises."""
    rows = between(random, 200, 4_000)
    device = _device(random, _saturating(random, rows * between(random, 0.3, 4)))
    memory, limit = _fitting(random, rows)
    end = round(rows * between(random, 1.5, 8))
    return replace(device, memory=memory, memory_bytes=limit, max_rows=end)


def workspace(random: np.random.Generator) -> Device:
    """At some size a workspace raises the peak."""
    device = _device(random, _saturating(random), limited=0.3)
    fitting = (device.memory_bytes - device.memory.base_bytes) / device.memory.row_bytes
    at = round(fitting * between(random, 0.05, 1.0))
    memory = replace(device.memory, jump_at=at, jump=random.uniform(0.1, 0.6))
    return replace(device, memory=memory)


def floor(random: np.random.Generator) -> Device:
    """Small batches all take the same time."""
    floor_s, rows = between(random, 1e-4, 2e-3), between(random, 16, 400)
    row_s = floor_s / rows
    return _device(random, Latency(floor_s * random.uniform(0.02, 0.3), row_s, floor_s=floor_s))


FAMILIES: dict[str, Callable[[np.random.Generator], Device]] = {
    family.__name__: family
    for family in (smooth, tiles, cliff, algorithms, flat, memory_bound, workspace, floor)
}


def make(seed: int, *, tells_disturbance: bool = False) -> Device:
    """Draw a device: the seed chooses its family in turn, and everything else."""
    name = list(FAMILIES)[seed % len(FAMILIES)]
    device = FAMILIES[name](np.random.default_rng([seed, 0]))
    return replace(device, family=name, seed=seed, tells_disturbance=tells_disturbance)
