"""Ray Serve: a deployment that collects batches with `@serve.batch`."""

from __future__ import annotations

from pathlib import Path

from autotune import artifact
from autotune.handover.order import Order
from autotune.handover.writing import fill, values_of
from autotune.serving import ServingLimits

FILES = ("app.py", "requirements.txt", "README.md")


def write(order: Order, folder: Path) -> ServingLimits:
    """Write `app.py`, `requirements.txt`, a README and the tuned directory."""
    limits = order.limits()
    artifact.copy(order.tuned, folder / "tuned")
    # Those that run, and a batch more that gathers: with fewer let in no batch would be full.
    values = {"ongoing": limits.batch_size * (limits.concurrency + 1)}
    for name in FILES:
        fill("rayserve", name, folder, values_of(order, limits) | values)
    return limits
