"""Which record of several holds for this machine, and when two machines count as one."""

from __future__ import annotations

from collections.abc import Sequence

from autotune.records import Machine, TuningRecord

# Kernel, driver and firmware keep a little more or less of the same memory for themselves: machines
# of one kind differ by about 1 %. The next size that is sold, or that a container gets, by more.
MEMORY_TOLERANCE = 0.05


def memory_of(machine: Machine) -> int | None:
    """Memory of the device that ran the model, in bytes; None where that is not known."""
    return machine.memory_bytes if machine.device_kind == "cpu" else machine.device_memory_bytes


def same_memory(one: int | None, other: int | None) -> bool:
    """Whether two sizes, in bytes, are of one class; what is not known is not held against it."""
    return not one or not other or abs(one - other) <= MEMORY_TOLERANCE * max(one, other)


def same_machine(one: Machine | None, other: Machine | None) -> bool:
    """Whether what was tuned on one holds on the other: device, its memory, and processors."""
    if one is None or other is None:
        return one is other
    return _kind(one) == _kind(other) and same_memory(memory_of(one), memory_of(other))


def _kind(machine: Machine) -> tuple[str, str, int, float | None]:
    return machine.device_kind, machine.device, machine.cpu_count, machine.cpu_quota


def same_model(one: TuningRecord, other: TuningRecord) -> bool:
    """Whether two records are surely of one model: by the hash of its layers and weights."""
    if one.model is None or other.model is None:
        return False
    return one.model.sha256 == other.model.sha256


def same_device(one: TuningRecord, other: TuningRecord) -> bool:
    """Whether two records were tuned on machines that count as one, with one backend."""
    return _backend(one) == _backend(other) and same_machine(one.machine, other.machine)


def _backend(record: TuningRecord) -> str:
    return record.model.backend if record.model else ""


def best_for(
    records: Sequence[TuningRecord], machine: Machine | None, backend: str
) -> TuningRecord:
    """Choose the record for a machine.

    Args:
        records: At least one.
        machine: The machine; None where it is not known.
        backend: Keras's backend there.

    Returns:
        The one that was tuned on such a machine with that backend; else on the same kind of
        device, "cpu" or "gpu", with that backend; else any. Of several the newest.
    """

    def fitness(record: TuningRecord) -> tuple[bool, bool, str]:
        right = machine is not None and _backend(record) == backend
        exact = right and same_machine(record.machine, machine)
        alike = right and _device_kind(record.machine) == _device_kind(machine)
        return exact, alike, record.created  # ISO 8601 in UTC: sorts as text

    return max(records, key=fitness)


def _device_kind(machine: Machine | None) -> str:
    return machine.device_kind if machine else ""
