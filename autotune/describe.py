"""Put a model and the machine that runs it into words for the record."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from autotune import device
from autotune.models import fingerprint, input_specs
from autotune.records import Input, Machine, ModelInfo
from autotune.workload import Spec

if TYPE_CHECKING:
    import keras

_PACKAGES = ("keras-autotune", "keras", "tensorflow", "jax", "torch", "numpy", "optuna")


def device_kind(backend: str) -> Literal["cpu", "gpu"]:
    """Tell whether a Keras backend runs models on a GPU here; starts the backend."""
    if backend == "tensorflow":
        import tensorflow as tf

        return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    if backend == "jax":
        import jax

        return "gpu" if jax.default_backend() in ("gpu", "cuda", "rocm") else "cpu"
    if backend == "torch":
        import torch

        return "gpu" if torch.cuda.is_available() else "cpu"
    return "cpu"


def describe_machine(backend: str) -> Machine:
    """Describe the machine, and the device on which a Keras backend runs models."""
    kind = device_kind(backend)
    gpus = device.gpus() if kind == "gpu" else []
    # With several GPUs it is not known here which one the backend took: their order differs
    # from NVML's, so only a single one is named.
    gpu = gpus[0] if len(gpus) == 1 else None
    name = device.cpu_name() if kind == "cpu" else (gpu.name if gpu else "NVIDIA GPU")
    return Machine(
        device=name,
        device_kind=kind,
        cpu=device.cpu_name(),
        cpu_count=device.cpu_count(),
        memory_bytes=device.host_memory().total_bytes,
        device_memory_bytes=gpu.memory.total_bytes if gpu else None,
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
