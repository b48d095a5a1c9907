"""Put a model and the machine that runs it into words for the record."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autotune import host
from autotune.device import Device
from autotune.models import fingerprint, input_specs
from autotune.records import Input, Machine, ModelInfo
from autotune.workload import Spec

if TYPE_CHECKING:
    import keras

_PACKAGES = (
    *("keras-autotune", "keras", "tensorflow", "jax", "torch", "onnxruntime", "openvino"),
    *("numpy", "optuna", "msgspec", "optree", "psutil", "ml-dtypes", "nvidia-ml-py"),
)


def describe_machine(device: Device) -> Machine:
    """Describe the machine, and the device on which models run."""
    return Machine(
        device=device.name,
        device_kind=device.kind,
        device_id=device.gpu.uuid if device.gpu else "",
        cpu=host.cpu_name(),
        cpu_count=host.cpu_count(),
        cpu_quota=host.cpu_quota(),
        memory_bytes=host.memory().total_bytes,
        device_memory_bytes=device.total_bytes if device.kind == "gpu" else None,
        system=platform.platform(),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_model(model: keras.Model, source: str, sample: Sequence[Spec]) -> ModelInfo:
    """Describe a model; inputs that it does not tell are taken from the sample's rows."""
    import keras

    return ModelInfo(
        name=model.name,
        source=source,
        sha256=fingerprint(model),
        inputs=tuple(
            Input(spec.name, spec.shape, spec.dtype) for spec in input_specs(model) or sample
        ),
        parameters=model.count_params(),
        dtype_policy=model.dtype_policy.name,
        jit_compile=bool(model.jit_compile),
        backend=keras.config.backend(),
    )
