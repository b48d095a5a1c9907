"""FastAPI: a service around a `MicroBatcher`, with its container."""

from __future__ import annotations

from pathlib import Path

from autotune import artifact
from autotune.handover.order import Order
from autotune.handover.writing import fill, values_of
from autotune.serving import ServingLimits

FILES = ("app.py", "Dockerfile", "requirements.txt", "README.md")


def write(order: Order, folder: Path) -> ServingLimits:
    """Write `app.py`, `Dockerfile`, `requirements.txt`, a README and the tuned directory."""
    limits = order.limits()
    artifact.copy(order.tuned, folder / "tuned")
    for name in FILES:
        fill("fastapi", name, folder, values_of(order, limits))
    return limits
