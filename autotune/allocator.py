"""Peaks as the framework's own allocator counts them: exact, where watching from outside is not."""

from __future__ import annotations

import contextlib
from typing import Protocol


class Allocator(Protocol):
    """Counts the bytes that a framework holds on the device that runs the model."""

    def reset(self) -> None:
        """Begin to watch for a new peak."""
        ...

    def peak_bytes(self) -> int | None:
        """Highest number of bytes held at once since `reset`; None where nothing is counted."""
        ...


class NoAllocator:
    """For backends that keep no count that can be reset."""

    def reset(self) -> None:
        """Do nothing."""

    def peak_bytes(self) -> int | None:
        """Return None."""
        return None


class TensorFlowAllocator:
    """TensorFlow's allocator for one device.

    On a CPU it counts only while oneDNN is in use, although the documentation says never, and
    leaves out blocks below 256 KiB and NumPy's own arrays.

    Args:
        device: TensorFlow's name, such as "GPU:0".
    """

    def __init__(self, device: str) -> None:
        self._device = device

    def reset(self) -> None:
        """Begin to watch for a new peak."""
        import tensorflow as tf

        with contextlib.suppress(ValueError, tf.errors.OpError):
            tf.config.experimental.reset_memory_stats(self._device)

    def peak_bytes(self) -> int | None:
        """Highest number of bytes held at once since `reset`; None where nothing is counted."""
        import tensorflow as tf

        try:
            return int(tf.config.experimental.get_memory_info(self._device)["peak"])
        except (ValueError, tf.errors.OpError):
            return None


def allocator_of(backend: str, device_kind: str) -> Allocator:
    """Return the allocator of a Keras backend, for "cpu" or "gpu"."""
    if backend == "tensorflow":
        return TensorFlowAllocator("GPU:0" if device_kind == "gpu" else "CPU:0")
    return NoAllocator()
