"""Kinds of devices in a cluster: machines of one kind share a tuning."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.fingerprint import Here
from autotune.matching import memory_of, same_machine
from autotune.records import Machine, TuningRecord


@dataclass(frozen=True, slots=True)
class Kind:
    """What a recommendation holds for; told apart as `autotune.load` does it.

    Attributes:
        machine: One machine of the kind.
        backend: Keras's backend there.
    """

    machine: Machine
    backend: str

    def __str__(self) -> str:
        gib = round((memory_of(self.machine) or 0) / 2**30)
        processors = f"{self.machine.cpu_count} processor{'s' * (self.machine.cpu_count > 1)}"
        return f"{self.machine.device}, {gib} GiB, {processors}, {self.backend}"

    def is_like(self, other: Kind) -> bool:
        """Whether what was tuned on one holds on the other."""
        return self.backend == other.backend and same_machine(self.machine, other.machine)

    def has(self, record: TuningRecord) -> bool:
        """Whether a record was tuned on such a device."""
        backend = record.model.backend if record.model else self.backend
        return backend == self.backend and same_machine(record.machine, self.machine)


def kind_of(here: Here, backend: str = "") -> Kind | None:
    """Return the kind of this device; None where the machine cannot be described.

    Args:
        here: What was seen of it.
        backend: Keras's backend, where it was not looked for.
    """
    return Kind(here.machine, here.backend or backend) if here.machine else None
