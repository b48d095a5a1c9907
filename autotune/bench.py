"""Set up the bench: see that model and rows fit each other, and make the probe that measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autotune import engines, host
from autotune.allocator import allocator_of
from autotune.batchable import check_rows_independent, refuse_unbatchable
from autotune.describe import describe_machine, describe_model
from autotune.device import device_of
from autotune.inputs import fit_sample
from autotune.lineup import LineUp
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
    *,
    exports: Path | None = None,
    threads: int | None = None,
    siblings_bytes: int = 0,
    precision: str = "",
) -> tuple[InProcessProbe, Loaded]:
    """Check that model and rows fit each other, and make the probe, in whatever process this is.

    Args:
        model: The model.
        sample: Rows, or how to draw them.
        names: Engines to make ready; None for all.
        source: How the record calls the place that the model came from.
        seed: Seed for drawn rows.
        exports: Where exported models are put; None for a folder that goes with the probe.
        threads: What the backend's threads of one call were set to; None for its default.
        siblings_bytes: What the tuner's other children hold by now.
        precision: Lower precision that engines may compute in; "" for none.

    Raises:
        InvalidModel: The model cannot be cut into batches.
        InvalidSample: The rows do not fit the model.
    """
    import keras

    refuse_unbatchable(model)
    workload = fit_sample(model, sample, seed)
    warnings = check_rows_independent(model, workload)
    backend = keras.config.backend()
    device = device_of(backend)
    allocator = allocator_of(backend, device.kind)
    names = (*(names or engines.NAMES), engines.BASELINE)
    if threads is not None:  # the others are told their threads, in the process without
        names = tuple(filter(engines.threads_are_the_process, names))
    elsewhere = [name for name in names if name in engines.FORMATS and device.kind != "cpu"]
    names = tuple(name for name in names if name not in elsewhere)
    lineup = LineUp(model, workload, names, exports, threads, precision)
    why = f"It runs on the processor, and the model on {device.name}: hide that one to tune it."
    lineup.unavailable |= dict.fromkeys(elsewhere, why)
    probe = InProcessProbe(lineup, workload, allocator, device, siblings_bytes=siblings_bytes)
    if probe.guard.blind:
        warnings.append(f"Memory of {device.name} is not watched: {probe.guard.blind}.")
    if host.is_killed_whole():
        warnings.append(host.WHOLE_GROUP)
    loaded = Loaded(
        model=describe_model(model, source, workload.specs),
        machine=describe_machine(device),
        engines=probe.engines,
        unavailable=probe.unavailable,
        sets_threads=tuple(n for n in probe.engines if not engines.threads_are_the_process(n)),
        sample_rows=workload.rows,
        counts_device_peaks=allocator.peak_bytes() is not None,
        resident_bytes=host.resident_bytes(),
        memory_limit_bytes=probe.guard.limit_bytes,
        warnings=tuple(warnings),
    )
    return probe, loaded
