"""The checkup: what there is to run models on here, what can be seen of it, and what to mend."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence

from msgspec import Struct

from autotune import host, nvml
from autotune.child import ChildDied, Nursery
from autotune.units import format_bytes
from autotune.worker import Inspect, Inspected

LITTLE_BYTES = 2**30  # less free memory than that is not much for a framework and a model
START_S = 120.0  # for importing a backend
ANSWER_S = 60.0  # for starting it
PACKAGES = ("keras-autotune", "keras", "tensorflow", "jax", "torch", "numpy", "optuna")


class Holder(Struct, frozen=True):
    """A process that holds memory of a GPU; `bytes` is None where the driver does not tell."""

    pid: int
    bytes: int | None


class GpuCheck(Struct, frozen=True, kw_only=True):
    """A GPU, or a part of one, as NVML sees it; None for what it does not tell.

    Attributes:
        uuid: NVML's id.
        name: The product.
        bus_id: Its place on the PCI bus.
        total_bytes: Memory that there is.
        free_bytes: Memory that nobody holds.
        temperature_c: Degrees Celsius.
        power_w: Watts.
        clock_mhz: Clock of the multiprocessors.
        throttled: What slows that clock down, in words.
        lost: Why it cannot be used any more; "" where it can.
        holders: Who holds memory of it, as far as the driver tells.
    """

    uuid: str
    name: str
    bus_id: str
    total_bytes: int | None
    free_bytes: int | None
    temperature_c: int | None
    power_w: float | None
    clock_mhz: int | None
    throttled: tuple[str, ...]
    lost: str
    holders: tuple[Holder, ...] | None


class Limit(Struct, frozen=True):
    """A memory cgroup above this process that has a limit, and what is in use of it."""

    limit_bytes: int
    used_bytes: int


class HostCheck(Struct, frozen=True, kw_only=True):
    """The host, as this process may use it.

    Attributes:
        cpu: Name of the processor.
        cpu_count: Processors that this process may use, by its affinity.
        cpu_quota: Processors' worth of time that its cgroups allow; None for no quota.
        total_bytes: Memory: the machine's, or the least of its cgroups' limits.
        free_bytes: What may still be taken of it.
        limits: The cgroups' limits.
        is_killed_whole: Whether the kernel ends all of the container where memory runs out.
    """

    cpu: str
    cpu_count: int
    cpu_quota: float | None
    total_bytes: int
    free_bytes: int
    limits: tuple[Limit, ...]
    is_killed_whole: bool = False


class Checkup(Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        versions: Versions of the packages that matter, and of driver and NVML.
        host: The host.
        gpus: GPUs that NVML sees, whether this process may use them or not.
        nvml_problem: Why NVML sees none; "" where it does.
        backend: What Keras's backend says, asked in a child process; None where it did not start.
        backend_problem: Why it did not.
        advice: What is blind or in the way, and what to do about it.
    """

    versions: dict[str, str]
    host: HostCheck
    gpus: tuple[GpuCheck, ...]
    nvml_problem: str
    backend: Inspected | None
    backend_problem: str
    advice: tuple[str, ...]


def check_up() -> Checkup:
    """Look at everything; takes as long as importing the backend, and loads no model."""
    host_check, gpus, problem = _check_host(), tuple(_check_gpus()), nvml.problem()
    backend, backend_problem = _inspect_backend()
    return Checkup(
        versions=_versions(),
        host=host_check,
        gpus=gpus,
        nvml_problem=problem,
        backend=backend,
        backend_problem=backend_problem,
        advice=tuple(_advise(host_check, gpus, problem, backend)),
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | nvml.versions()


def _check_host() -> HostCheck:
    groups = host.memory_groups()
    memory = host.memory(groups)
    return HostCheck(
        cpu=host.cpu_name(),
        cpu_count=host.cpu_count(),
        cpu_quota=host.cpu_quota(),
        is_killed_whole=host.is_killed_whole(),
        total_bytes=memory.total_bytes,
        free_bytes=memory.free_bytes,
        limits=tuple(Limit(group.limit_bytes or 0, group.used_bytes or 0) for group in groups),
    )


def _check_gpus() -> Iterator[GpuCheck]:
    for gpu in nvml.gpus():
        reading, holders = nvml.read(gpu.uuid), nvml.holders(gpu.uuid)
        yield GpuCheck(
            uuid=gpu.uuid,
            name=gpu.name,
            bus_id=gpu.bus_id,
            total_bytes=reading.total_bytes,
            free_bytes=reading.free_bytes,
            temperature_c=reading.temperature_c,
            power_w=reading.power_w,
            clock_mhz=reading.clock_mhz,
            throttled=reading.throttled,
            lost=reading.lost,
            holders=None if holders is None else tuple(Holder(h.pid, h.bytes) for h in holders),
        )


def _inspect_backend() -> tuple[Inspected | None, str]:
    """Ask the backend in a child, so that it does not start here."""
    nursery = Nursery()
    try:
        reply = nursery.start(START_S).ask(Inspect(id=0), ANSWER_S)
    except ChildDied as death:
        return None, f"The child process {death.reason}. {death.log}".rstrip()
    finally:
        nursery.close()
    return reply.inspected, reply.error


def _advise(
    machine: HostCheck, gpus: Sequence[GpuCheck], nvml_problem: str, backend: Inspected | None
) -> Iterator[str]:
    if backend is None:
        yield "Keras's backend does not start: install one, such as tensorflow."
    elif backend.device_kind == "gpu" and backend.blind:
        yield (
            f"Memory and health of the GPU cannot be watched ({backend.blind}): what others take "
            "is not seen, so leave room. In a container, allow the driver's 'utility' capability."
        )
    elif backend.device_kind == "cpu" and gpus:
        yield (
            f"There are GPUs, but the {backend.backend} backend runs on the processor: install its "
            "GPU build, and see that CUDA_VISIBLE_DEVICES does not hide them."
        )
    elif backend.device_kind == "cpu" and nvml_problem:
        yield f"No GPU is watched ({nvml_problem}). Without an NVIDIA GPU that is as it should be."
    for gpu in gpus:
        if gpu.lost:
            yield f"{gpu.name} ({gpu.uuid}): {gpu.lost}. Reset it, or start the machine anew."
        elif gpu.throttled:
            yield f"{gpu.name} is slowed down ({', '.join(gpu.throttled)}): figures will be low."
    yield from _advise_on_host(machine)


def _advise_on_host(machine: HostCheck) -> Iterator[str]:
    if machine.free_bytes < LITTLE_BYTES:
        yield f"Only {format_bytes(machine.free_bytes)} of memory are free: little will fit."
    if machine.is_killed_whole:
        yield host.WHOLE_GROUP
    if machine.cpu_quota is not None and machine.cpu_quota < machine.cpu_count:
        yield (
            f"A CPU quota of {machine.cpu_quota:g} processors lies below the {machine.cpu_count} "
            "that a framework sees and makes threads for: limit those to the quota, for instance "
            f"with OMP_NUM_THREADS={max(1, int(machine.cpu_quota))}."
        )
