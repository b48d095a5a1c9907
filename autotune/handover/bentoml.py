"""BentoML: a service whose batcher is given the measured numbers."""

from __future__ import annotations

import math
from pathlib import Path

from autotune import artifact
from autotune.errors import InvalidModel
from autotune.handover.order import Order
from autotune.handover.writing import fill, literal, values_of
from autotune.serving import ServingLimits

FILES = ("service.py", "bentofile.yaml", "requirements.txt", "README.md")
LEAST_BATCH = 2  # BentoML refuses 1; the predictor cuts the batch then


def write(order: Order, folder: Path) -> ServingLimits:
    """Write `service.py`, `bentofile.yaml`, `requirements.txt`, a README and the tuned directory.

    Raises:
        InvalidModel: The model has several inputs or outputs, which BentoML does not batch.
    """
    outputs = order.outputs()
    if len(order.inputs) > 1 or [output.name for output in outputs] != [""]:
        raise InvalidModel(
            f"BentoML batches one array into one array, but the model has {len(order.inputs)} "
            f"inputs and {len(outputs)} outputs, or names for them. The target fastapi takes any."
        )
    limits, (wanted,) = order.limits(), order.inputs
    artifact.copy(order.tuned, folder / "tuned")
    latency_ms = max(1, math.ceil(limits.deadline_s * 1e3))
    values = {
        "input": f"{literal(wanted.name)}, {literal(wanted.shape)}, {literal(wanted.dtype)}",
        "most_rows": max(LEAST_BATCH, limits.batch_size),
        "latency_ms": latency_ms,
        "timeout_s": math.ceil(latency_ms / 1e3) + 1,
    }
    for name in FILES:
        fill("bentoml", name, folder, values_of(order, limits) | values)
    return limits
