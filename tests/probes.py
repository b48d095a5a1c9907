"""Probes in this process, as the tests of measuring make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autotune.allocator import Allocator
from autotune.device import Device
from autotune.lineup import LineUp
from autotune.measure import InProcessProbe
from autotune.workload import Workload


def probe_of(
    model: Any,
    workload: Workload,
    allocator: Allocator,
    names: Sequence[str],
    device: Device,
    *,
    threads: int | None = None,
) -> InProcessProbe:
    """A probe with these engines."""
    lineup = LineUp(model, workload, names, threads=threads)
    return InProcessProbe(lineup, workload, allocator, device)
