"""On a real GPU: it is matched, its other tenants are seen, and its memory does not run out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import Candidate, Goal, Measurement, OutOfMemory, backends, cuda, nvml, tune
from autotune.device import Device, device_of
from autotune.guard import Guard
from autotune.probe import IsolatedProbe
from autotune.worker import DrawnRows, FileSource, Load
from tests.gpu.tenant import tenant
from tests.waiting import wait_until

GIB = 2**30
pytestmark = pytest.mark.skipif(not cuda.devices(), reason="needs an NVIDIA GPU")


@pytest.fixture(scope="module")
def device() -> Device:
    """The device of Keras's backend, which takes no more memory than it needs."""
    backends.let_memory_grow()
    import keras

    found = device_of(keras.config.backend())
    if found.kind != "gpu":
        pytest.skip("the backend runs on the processor: install its GPU build")
    return found


@pytest.fixture
def unet(keras: Any, tmp_path: Path) -> Path:
    """A net whose memory grows fast with the batch: convolutions at full resolution."""
    layers = keras.layers
    inputs = keras.Input((256, 256, 3))
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    outputs = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
    path = tmp_path / "unet.keras"
    keras.Model(inputs, outputs, name="unet").save(path)
    return path


@pytest.fixture
def crowded(device: Device) -> Iterator[None]:
    """A GPU of which another tenant leaves 4 GiB."""
    assert device.gpu is not None
    free = nvml.read(device.gpu.uuid).free_bytes
    assert free is not None
    with tenant(max(0, free - 4 * GIB)):
        yield


def test_the_device_is_matched(device: Device) -> None:
    """NVML and the framework speak of the same GPU, and NVML tells of its memory."""
    assert device.blind == ""
    assert device.gpu is not None
    reading = nvml.read(device.gpu.uuid)
    print(device, reading, nvml.holders(device.gpu.uuid), nvml.versions(), nvml.refused())
    assert reading.lost == ""


def test_the_watch_sees_another_process_allocate(device: Device) -> None:
    """While a probe repeats its calls, memory that goes is laid on others."""
    guard = Guard(device, own_bytes=0)
    before = guard.limit_bytes
    assert before is not None
    with guard:
        guard.settle()
        time.sleep(0.2)
        with tenant(2 * GIB):
            wait_until(lambda: (guard.limit_bytes or 0) <= before - 2 * GIB)
    print(f"limit {before / GIB:.2f} GiB, beside the tenant {(guard.limit_bytes or 0) / GIB:.2f}")


@pytest.mark.usefixtures("crowded")
def test_memory_binds_and_does_not_run_out(unet: Path) -> None:
    """The tuned size is within a step of the largest that runs, and no probe ran out."""
    rows = np.random.default_rng(0).random((256, 256, 256, 3), np.float32)
    goal = Goal(tolerance=0.001)
    record = tune(unet, rows, goal, engines=("keras",), concurrency=(1,), budget_s=60).record
    assert not [o for o in record.outcomes if isinstance(o, OutOfMemory)]
    tried = [o for o in record.outcomes if isinstance(o, Measurement)]
    largest = max(o.candidate.batch_size for o in tried)
    true = largest_that_runs(unet, largest)
    print(f"recommended {record.recommendation}, largest tried {largest}, largest that runs {true}")
    for forecast in record.forecasts:
        print(forecast)
    assert true < 2 * largest


def largest_that_runs(path: Path, known: int) -> int:
    """Go up by eighths until the GPU's memory runs out."""
    request = Load(
        id=0,
        model=FileSource(str(path)),
        name="unet",
        sample=DrawnRows(64, {}),
        engines=("keras",),
    )
    with IsolatedProbe(request) as probe:
        size = known
        while isinstance(probe(Candidate(size + max(1, known // 8)), 0.1), Measurement):
            size += max(1, known // 8)
    return size


@pytest.mark.usefixtures("crowded")
def test_three_counts_of_memory_side_by_side(device: Device, unet: Path) -> None:
    """What NVML sees go is at least what the allocator counts."""
    assert device.gpu is not None
    handle = nvml.open_handle(device.gpu.uuid)
    assert handle is not None
    source = FileSource(str(unet))
    request = Load(id=0, model=source, name="unet", sample=DrawnRows(64, {}), engines=("keras",))
    with IsolatedProbe(request) as probe:
        probe.load()
        before = (handle.memory() or (0, 0))[1]
        for size in (1, 2, 4, 8, 16, 32):
            outcome = probe(Candidate(size), 0.1)
            after = (handle.memory() or (0, 0))[1]
            assert isinstance(outcome, Measurement), outcome
            counted = outcome.device_peak_bytes
            print(f"{size:4} rows: NVML {(before - after) / 2**20:8.1f} MiB, allocator {counted}")
            if counted is not None:
                assert before - after >= 0.5 * counted - 512 * 2**20
