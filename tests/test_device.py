"""The device that runs the model, matched with NVML's, and watched: on a fake driver."""

from __future__ import annotations

import pytest

from autotune import backends
from autotune.backends import Choice
from autotune.device import Device, device_of, match
from autotune.guard import RESERVE, Guard
from tests.fake_driver import GIB, OTHER, PART, WHOLE, FakeDriver
from tests.waiting import wait_until


def uuid_of(ordinal: int, count: int, name: str = "") -> str:
    """NVML's id of a framework's GPU, or why there is none."""
    found = match(Choice(ordinal, count, name))
    return found if isinstance(found, str) else found.uuid


@pytest.fixture
def on_gpu(fake_driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """A backend that says it runs on the first of two GPUs, which is NVML's second."""
    monkeypatch.setattr(backends, "kind_of", lambda _: "gpu")
    monkeypatch.setattr(backends, "gpu_of", lambda _: Choice(0, 2, "NVIDIA Fake 2"))
    return fake_driver


def test_a_gpu_is_matched_by_what_both_call_it(fake_driver: FakeDriver) -> None:
    """CUDA counts the fastest first, NVML by place; names are compared where both tell one."""
    assert uuid_of(0, 2) == OTHER
    assert uuid_of(1, 2) == WHOLE
    assert uuid_of(0, 2, "NVIDIA Fake 2") == OTHER


def test_what_is_not_certain_is_not_matched(fake_driver: FakeDriver) -> None:
    """Another number or another name of GPUs, or no driver, is a reason."""
    assert uuid_of(0, 1) == "the framework sees 1 GPUs and the CUDA driver 2"
    assert "calls GPU 0 'NVIDIA Fake 1', CUDA 'NVIDIA Fake 2'" in uuid_of(0, 2, "NVIDIA Fake 1")
    fake_driver.fail("cuInit", 100)
    assert uuid_of(0, 2) == "the CUDA driver does not tell which GPUs this process may use"


def test_without_nvml_the_guard_says_so_and_stands_down(on_gpu: FakeDriver) -> None:
    """The GPU is named as the framework does, there is no limit, and the reason is told."""
    on_gpu.fail("nvmlInitWithFlags", 9)
    device = device_of("tensorflow")
    assert (device.kind, device.name, device.gpu) == ("gpu", "NVIDIA Fake 2", None)
    assert "driver is not loaded" in device.blind
    guard = Guard(device, own_bytes=0)
    with guard:
        assert not guard.alarm
    assert guard.blind == device.blind
    assert guard.limit_bytes is None


def test_a_gpu_is_watched(on_gpu: FakeDriver) -> None:
    """Its memory is the limit's measure; what others take while a probe runs lowers it."""
    device = device_of("tensorflow")
    assert device.gpu is not None
    assert device.gpu.uuid == OTHER
    assert device.total_bytes == 16 * GIB
    guard = Guard(device, own_bytes=GIB)
    free = 16 * GIB - GIB - GIB // 2  # the driver keeps some for itself
    assert guard.limit_bytes == int((1 - RESERVE) * free) + GIB
    with guard:
        guard.settle()
        wait_for_looks(on_gpu)
        on_gpu.state("gpu0", used=12 * GIB)  # the other GPU: nobody cares
        wait_for_looks(on_gpu)
        assert not guard.is_alarmed()
        on_gpu.state("gpu1", used=5 * GIB)
        before = guard.limit_bytes
        wait_until(lambda: (guard.limit_bytes or 0) <= (before or 0) - 4 * GIB)
        on_gpu.state("gpu1", used=15 * GIB + GIB // 4)
        wait_until(guard.is_alarmed)
    assert "256 MiB are left" in guard.alarm


def wait_for_looks(driver: FakeDriver) -> None:
    """Wait until the watch has looked a few times more."""
    wanted = len(driver.calls()) + 20
    wait_until(lambda: len(driver.calls()) >= wanted)


def test_heat_is_told_and_a_lost_gpu_stops_the_probe(on_gpu: FakeDriver) -> None:
    """What slows the clock down is a disturbance; a GPU that is lost is an alarm."""
    on_gpu.state("gpu1", reasons=64)
    guard = Guard(device_of("tensorflow"), own_bytes=0)
    with guard:
        wait_until(lambda: "hardware thermal slowdown" in guard.throttled())
        assert not guard.is_alarmed()
        on_gpu.fail("*", 15, "gpu1")
        wait_until(guard.is_alarmed)
    assert "lost" in guard.alarm


def test_a_gpu_that_uses_the_hosts_memory_is_held_to_it(on_gpu: FakeDriver) -> None:
    """Where NVML does not tell of memory, the host's is what there is."""
    on_gpu.fail("nvmlDeviceGetMemoryInfo_v2", 3, "gpu1")
    on_gpu.fail("nvmlDeviceGetMemoryInfo", 3, "gpu1")
    device = device_of("tensorflow")
    assert device.shares_host_memory
    guard = Guard(device, own_bytes=0)
    assert guard.limit_bytes
    assert guard.blind == ""


def test_a_part_of_a_gpu_is_matched_and_watched(
    on_gpu: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part has memory of its own, and its whole GPU's health."""
    on_gpu.cut("gpu1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", PART)
    monkeypatch.setattr(backends, "gpu_of", lambda _: Choice(0, 1, ""))
    device = device_of("tensorflow")
    assert device.gpu is not None
    assert (device.gpu.uuid, device.gpu.parent) == (PART, OTHER)
    assert Guard(device, own_bytes=0).limit_bytes


def test_on_a_processor_nothing_of_this_is_asked(fake_driver: FakeDriver) -> None:
    """TensorFlow without a GPU runs on the processor, with the host's memory."""
    device = device_of("tensorflow")
    if device.kind == "gpu":
        pytest.skip("there is a GPU")
    assert device == Device("cpu", device.name, device.total_bytes)
    assert fake_driver.calls() == []
