"""Set up the bench: see that model and rows fit each other, and make the probe that measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autotune import device, engines
from autotune.allocator import allocator_of
from autotune.batchable import check_rows_independent, refuse_unbatchable
from autotune.describe import describe_machine, describe_model
from autotune.inputs import fit_sample
from autotune.measure import InProcessProbe
from autotune.records import Loaded
from autotune.workload import Synthetic, Workload

if TYPE_CHECKING:
    import keras


def set_up(
    model: keras.Model,
    sample: Workload | Synthetic,
    names: Sequence[str] | None,
    source: str,
    seed: int,
) -> tuple[InProcessProbe, Loaded]:
    """Check that model and rows fit each other, and make the probe, in whatever process this is.

    Args:
        model: The model.
        sample: Rows, or how to draw them.
        names: Engines to make ready; None for all.
        source: How the record calls the place that the model came from.
        seed: Seed for drawn rows.

    Raises:
        InvalidModel: The model cannot be cut into batches.
        InvalidSample: The rows do not fit the model.
    """
    import keras

    refuse_unbatchable(model)
    workload = fit_sample(model, sample, seed)
    warnings = check_rows_independent(model, workload)
    machine = describe_machine(keras.config.backend())
    allocator = allocator_of(keras.config.backend(), machine.device_kind)
    gpus = device.gpus() if machine.device_kind == "gpu" else []
    gpu_uuid = gpus[0].uuid if len(gpus) == 1 else None  # with several, nobody knows which
    probe = InProcessProbe(
        model, workload, allocator, (*(names or engines.NAMES), engines.BASELINE), gpu_uuid
    )
    loaded = Loaded(
        model=describe_model(model, source, workload.specs),
        machine=machine,
        engines=probe.engines,
        unavailable=probe.unavailable,
        sample_rows=workload.rows,
        counts_device_peaks=allocator.peak_bytes() is not None,
        resident_bytes=device.resident_bytes(),
        warnings=tuple(warnings),
    )
    return probe, loaded
