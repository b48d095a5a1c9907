"""Peaks as TensorFlow's allocator counts them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from autotune.allocator import JaxAllocator, NoAllocator, TensorFlowAllocator, allocator_of

MIB = 2**20


@pytest.fixture
def allocator() -> TensorFlowAllocator:
    """TensorFlow's allocator for the CPU, where it counts."""
    import tensorflow as tf

    allocator = TensorFlowAllocator("CPU:0")
    _ = tf.random.uniform((MIB,)) + 1.0
    if allocator.peak_bytes() is None:
        pytest.skip("TensorFlow's allocator keeps no count on this CPU: needs oneDNN")
    return allocator


def test_a_peak_is_seen_after_it_is_over(allocator: TensorFlowAllocator) -> None:
    """Memory that was held only for a moment is in the peak."""
    import tensorflow as tf

    allocator.reset()
    before = allocator.peak_bytes() or 0
    _ = tf.random.uniform((16 * MIB,))  # 64 MiB, given back at once
    after = allocator.peak_bytes() or 0
    assert after - before == pytest.approx(64 * MIB, abs=MIB)


def test_reset_forgets_the_peak(allocator: TensorFlowAllocator) -> None:
    """After a reset, what was given back before it is not in the peak."""
    import tensorflow as tf

    _ = np.asarray(tf.random.uniform((16 * MIB,)))
    del _
    high = allocator.peak_bytes() or 0
    allocator.reset()
    assert (allocator.peak_bytes() or 0) <= high - 32 * MIB


def test_a_device_that_does_not_exist_counts_nothing() -> None:
    """Where TensorFlow will not tell, the peak is None and a reset does no harm."""
    missing = TensorFlowAllocator("GPU:7")
    missing.reset()
    assert missing.peak_bytes() is None


def test_no_allocator_counts_nothing() -> None:
    """Where nothing is counted, a reset does no harm and the peak is None."""
    allocator = NoAllocator()
    allocator.reset()
    assert allocator.peak_bytes() is None


def test_each_backend_has_its_allocator() -> None:
    """TensorFlow has an allocator that counts, for the device that runs the model."""
    on_cpu, on_gpu = allocator_of("tensorflow", "cpu"), allocator_of("tensorflow", "gpu")
    assert isinstance(on_cpu, TensorFlowAllocator)
    assert isinstance(on_gpu, TensorFlowAllocator)
    assert (on_cpu._device, on_gpu._device) == ("CPU:0", "GPU:0")
    assert isinstance(allocator_of("jax", "cpu"), NoAllocator)


def test_peaks_that_cannot_be_reset_are_the_highest_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of JAX a smaller batch after a larger one has the larger one's, and never the process's."""
    jax = pytest.importorskip("jax")
    figures = {"peak_bytes_in_use": 100, "bytes_in_use": 40}
    device = SimpleNamespace(memory_stats=lambda: figures)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    allocator = JaxAllocator()
    allocator.reset()
    assert (allocator.held_bytes(), allocator.peak_bytes()) == (40, 100)
    figures["peak_bytes_in_use"] = 160
    assert (allocator.held_bytes(), allocator.peak_bytes()) == (40, 160)
    figures.clear()
    assert (allocator.held_bytes(), allocator.peak_bytes()) == (None, None)


def test_what_is_held_now_is_told(allocator: TensorFlowAllocator) -> None:
    """TensorFlow's count of now is what its peak is after a reset."""
    allocator.reset()
    assert allocator.held_bytes() == allocator.peak_bytes() is not None
