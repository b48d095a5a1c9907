"""Records as tunings on several machines leave them, without tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from autotune import host
from autotune.goal import Goal
from autotune.outcomes import Candidate, Measurement
from autotune.recommend import recommend
from autotune.records import Input, Machine, ModelInfo, TuningRecord
from tests.blocks import standing_of

MODEL = ModelInfo(
    name="mlp",
    source="model.keras",
    sha256="0" * 64,
    inputs=(Input("x", (10,), "float32"),),
    parameters=193,
    dtype_policy="float32",
    jit_compile=False,
    backend="tensorflow",
)
XEON = Machine(
    device="Intel Xeon",
    device_kind="cpu",
    cpu="Intel Xeon",
    cpu_count=2,
    memory_bytes=8 * 2**30,
    device_memory_bytes=None,
    system="Linux",
    versions={"keras": "3.15.1", "tensorflow": "2.21.0", "numpy": "2.4.6"},
)
L4 = msgspec.structs.replace(
    XEON, device="NVIDIA L4", device_kind="gpu", device_memory_bytes=24 * 2**30
)

replaced = msgspec.structs.replace


def tuned_on(machine: Machine | None, model: ModelInfo | None = MODEL, **fields: Any) -> Any:
    """A record of one probe of 8 rows."""
    outcomes = (Measurement(Candidate(8), (0.1, 0.1)),)
    record = TuningRecord(
        goal=Goal(),
        outcomes=outcomes,
        recommendation=recommend(standing_of([outcomes])),
        model=model,
        machine=machine,
    )
    return replaced(record, **fields)


def with_peaks(
    peaks: dict[int, int],
    chosen: Candidate,
    *,
    kind: Literal["cpu", "gpu"] = "gpu",
    counted: bool = True,
    idle_bytes: int = 0,
    others: Sequence[Measurement] = (),
) -> TuningRecord:
    """A record that recommends a candidate, whose way of running took so many bytes by size."""
    measured = [
        Measurement(
            replaced(chosen, batch_size=size),
            (0.1, 0.1),
            device_peak_bytes=peak if counted else None,
            device_idle_bytes=idle_bytes if counted else None,
            host_peak_bytes=None if counted else peak,
            host_idle_bytes=None if counted else idle_bytes,
        )
        for size, peak in peaks.items()
    ]
    record = tuned_on(L4 if kind == "gpu" else XEON, outcomes=(*measured, *others))
    return recommending(record, chosen)


def recommending(record: TuningRecord, way: Candidate) -> TuningRecord:
    """The record, with that candidate recommended."""
    assert record.recommendation is not None
    recommendation = replaced(
        record.recommendation,
        batch_size=way.batch_size,
        engine=way.engine,
        concurrency=way.concurrency,
        threads=way.threads,
    )
    found: TuningRecord = replaced(record, recommendation=recommendation)
    return found


_OF_THE_MACHINE = (host.WHOLE_GROUP, "Memory was taken during the search", "Other work on the ")


def own(warnings: Sequence[str]) -> tuple[str, ...]:
    """Warnings but those of the machine that the tests run on."""
    return tuple(warning for warning in warnings if not warning.startswith(_OF_THE_MACHINE))
