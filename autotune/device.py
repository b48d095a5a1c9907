"""The device that runs the model, and the same device as NVML knows it.

A framework numbers GPUs as CUDA gives them to the process, which CUDA_VISIBLE_DEVICES and
CUDA_DEVICE_ORDER decide; NVML numbers all there are, by their place on the bus. So they are
matched by UUID, which both tell, and never by number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autotune import backends, cuda, host, nvml


@dataclass(frozen=True, slots=True)
class Device:
    """What runs the model.

    Attributes:
        kind: "cpu" or "gpu".
        name: The product's name.
        total_bytes: Memory that there is; None where that is not known.
        gpu: The GPU as NVML knows it; None on a CPU, and where it is not surely the same.
        blind: Why memory and health of the GPU cannot be watched; "" where they can.
    """

    kind: Literal["cpu", "gpu"]
    name: str
    total_bytes: int | None
    gpu: nvml.Gpu | None = None
    blind: str = ""

    @property
    def shares_host_memory(self) -> bool:
        """Whether the GPU tells of no memory of its own, as those that use the host's do."""
        return self.gpu is not None and self.total_bytes is None


def device_of(backend: str) -> Device:
    """Return the device on which a Keras backend runs models; starts the backend."""
    if backends.kind_of(backend) == "cpu":
        return Device("cpu", host.cpu_name(), host.memory().total_bytes)
    choice = backends.gpu_of(backend)
    gpu = match(choice) if choice else f"the {backend} backend does not tell which GPU it uses"
    if isinstance(gpu, str):
        name = choice.name if choice and choice.name else "NVIDIA GPU"
        return Device("gpu", name, None, blind=gpu)
    return Device("gpu", gpu.name, nvml.read(gpu.uuid).total_bytes, gpu)


def match(choice: backends.Choice) -> nvml.Gpu | str:
    """Find the GPU of a framework in NVML's list; or the reason why that is not certain."""
    given = cuda.devices()
    if not given:
        return "the CUDA driver does not tell which GPUs this process may use"
    if choice.count != len(given):
        return f"the framework sees {choice.count} GPUs and the CUDA driver {len(given)}"
    found = given[choice.ordinal]
    if choice.name and choice.name != found.name:
        return f"the framework calls GPU {choice.ordinal} {choice.name!r}, CUDA {found.name!r}"
    gpu = nvml.find(found.uuid, found.bus_id)
    return gpu or nvml.problem() or f"NVML does not know the GPU {found.uuid}"
