"""Peaks as the framework's own allocator counts them: exact, where watching from outside is not."""

from __future__ import annotations

import contextlib
from typing import Protocol


class Allocator(Protocol):
    """Counts the bytes that a framework holds on the device that runs the model."""

    waste_bytes: int
    """What it may leave unused of a chunk, and count as in use, rather than split the chunk."""

    def reset(self) -> None:
        """Begin to watch for a new peak."""
        ...

    def peak_bytes(self) -> int | None:
        """Highest number of bytes held at once since `reset`; None where nothing is counted."""
        ...

    def held_bytes(self) -> int | None:
        """Number of bytes held now; None where nothing is counted."""
        ...


class NoAllocator:
    """For backends that keep no count that can be reset."""

    waste_bytes = 0

    def reset(self) -> None:
        """Do nothing."""

    def peak_bytes(self) -> int | None:
        """Return None."""
        return None

    def held_bytes(self) -> int | None:
        """Return None."""
        return None


class TensorFlowAllocator:
    """TensorFlow's allocator for one device.

    On a CPU it counts only while oneDNN is in use, although the documentation says never, and
    leaves out blocks below 256 KiB and NumPy's own arrays.

    Args:
        device: TensorFlow's name, such as "GPU:0".
    """

    # Its kMaxInternalFragmentation. Seen with two convolutions, whose peak rose from 264 MiB at
    # 128 rows to 392 MiB at 136.
    waste_bytes = 128 * 2**20

    def __init__(self, device: str) -> None:
        self._device = device

    def reset(self) -> None:
        """Begin to watch for a new peak."""
        import tensorflow as tf

        with contextlib.suppress(ValueError, tf.errors.OpError):
            tf.config.experimental.reset_memory_stats(self._device)

    def peak_bytes(self) -> int | None:
        """Highest number of bytes held at once since `reset`; None where nothing is counted."""
        return self._statistic("peak")

    def held_bytes(self) -> int | None:
        """Number of bytes held now; None where nothing is counted."""
        return self._statistic("current")

    def _statistic(self, name: str) -> int | None:
        import tensorflow as tf

        try:
            return int(tf.config.experimental.get_memory_info(self._device)[name])
        except (ValueError, tf.errors.OpError):
            return None


class TorchAllocator:
    """PyTorch's allocator for the current GPU."""

    waste_bytes = 20 * 2**20  # its kLargeBuffer

    def reset(self) -> None:
        """Begin to watch for a new peak."""
        import torch

        torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int | None:
        """Highest number of bytes held at once since `reset`."""
        import torch

        return int(torch.cuda.max_memory_allocated())

    def held_bytes(self) -> int | None:
        """Number of bytes held now."""
        import torch

        return int(torch.cuda.memory_allocated())


class JaxAllocator:
    """JAX's allocator for the first GPU, whose peak cannot be reset.

    So where a peak is no new one, as of a smaller batch after a larger one, the highest so far
    stands for it, which may be more: what is forecast from it errs to the safe side.
    """

    waste_bytes = TensorFlowAllocator.waste_bytes  # XLA's is the same

    def reset(self) -> None:
        """Do nothing."""

    def peak_bytes(self) -> int | None:
        """Highest number of bytes ever held at once; None where nothing is counted."""
        return self._statistic("peak_bytes_in_use")

    def held_bytes(self) -> int | None:
        """Number of bytes held now; None where nothing is counted."""
        return self._statistic("bytes_in_use")

    @staticmethod
    def _statistic(name: str) -> int | None:
        import jax

        return (jax.local_devices()[0].memory_stats() or {}).get(name)


def allocator_of(backend: str, device_kind: str) -> Allocator:
    """Return the allocator of a Keras backend, for "cpu" or "gpu"."""
    if backend == "tensorflow":
        return TensorFlowAllocator("GPU:0" if device_kind == "gpu" else "CPU:0")
    if backend == "torch" and device_kind == "gpu":
        return TorchAllocator()
    if backend == "jax" and device_kind == "gpu":
        return JaxAllocator()
    return NoAllocator()
