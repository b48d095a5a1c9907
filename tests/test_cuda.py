"""Which GPU each ordinal of CUDA is, and that NVML finds the same one: on a fake driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotune import cuda, nvml
from autotune.cuda import CudaDevice
from tests.fake_driver import OTHER, PART, WHOLE, FakeDriver, need_compiler

OTHER_PART = "MIG-aa7e5f3a-2d4b-5a69-9c8d-7e6f5a4b3c53"
FUNCTIONS = (
    "cuInit",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetUuid",
    "cuDeviceGetUuid_v2",
    "cuDeviceGetPCIBusId",
)


def found() -> list[str]:
    """UUIDs of the GPUs that NVML finds for CUDA's devices, in CUDA's order."""
    return [
        gpu.uuid if gpu else "none"
        for gpu in (nvml.find(device.uuid, device.bus_id) for device in cuda.devices())
    ]


def test_devices_come_in_cuda_s_order(fake_driver: FakeDriver) -> None:
    """Each device has the ordinal that frameworks use, and what NVML knows it by."""
    assert cuda.devices() == [
        CudaDevice(0, "NVIDIA Fake 2", OTHER, "0000:0b:00.0"),
        CudaDevice(1, "NVIDIA Fake 1", WHOLE, "0000:07:00.0"),
    ]


@pytest.mark.parametrize(
    ("order", "visible", "uuids"),
    [
        (None, None, [OTHER, WHOLE]),
        ("FASTEST_FIRST", None, [OTHER, WHOLE]),
        ("PCI_BUS_ID", None, [WHOLE, OTHER]),
        (None, "0", [OTHER]),
        (None, "1", [WHOLE]),
        (None, "1,0", [WHOLE, OTHER]),
        ("PCI_BUS_ID", "1", [OTHER]),
        ("PCI_BUS_ID", "1,0", [OTHER, WHOLE]),
        (None, WHOLE, [WHOLE]),
        (None, f"{WHOLE},{OTHER}", [WHOLE, OTHER]),
        (None, WHOLE[:8], [WHOLE]),
        (None, "GPU-", []),  # both begin so
        (None, "1,7,0", [WHOLE]),  # what is not there ends the list
        (None, "0,-1,1", [OTHER]),
        (None, "0,0", []),
        (None, "", []),
    ],
)
def test_nvml_finds_the_gpus_that_cuda_shows(
    fake_driver: FakeDriver,
    monkeypatch: pytest.MonkeyPatch,
    order: str | None,
    visible: str | None,
    uuids: list[str],
) -> None:
    """Whatever hides or sorts CUDA's devices, each has the handle of the same GPU."""
    for name, value in (("CUDA_DEVICE_ORDER", order), ("CUDA_VISIBLE_DEVICES", visible)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert found() == uuids
    assert [gpu.uuid for gpu in nvml.gpus()] == [WHOLE, OTHER]


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, [PART]),  # the faster GPU stands for its first part, and one part is all
        ("0", [PART]),
        ("1", [WHOLE]),
        ("1,0", [WHOLE]),
        (PART, [PART]),
        (OTHER_PART, [OTHER_PART]),
        (f"{OTHER_PART},{PART}", [OTHER_PART]),
        (OTHER, [PART]),
        ("MIG-00000000-0000-0000-0000-000000000000", []),
    ],
)
def test_nvml_finds_the_part_that_cuda_shows(
    fake_driver: FakeDriver,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    uuids: list[str],
) -> None:
    """A part of a GPU is known by its own UUID, not by that of the whole."""
    fake_driver.cut("gpu1", PART, number=1)
    fake_driver.cut("gpu1", OTHER_PART, number=4)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert found() == uuids


def test_the_uuid_of_a_part_has_no_prefix(fake_driver: FakeDriver) -> None:
    """CUDA tells 16 bytes, and NVML writes those of a part otherwise than those of a GPU."""
    fake_driver.cut("gpu1")
    (device,) = cuda.devices()
    assert device == CudaDevice(0, "gpu1 MIG 1g.4gb", PART[4:], "0000:0b:00.0")


@pytest.mark.parametrize("lacking", ["cuDeviceGetUuid", "cuDeviceGetUuid_v2"])
def test_either_function_tells_the_uuid_of_a_whole_gpu(tmp_path: Path, lacking: str) -> None:
    """Drivers before CUDA 11.4 lack the second, and a coming one may lack the first."""
    need_compiler()
    with FakeDriver(tmp_path, without=(lacking,)).loaded():
        assert found() == [OTHER, WHOLE]


def test_a_part_without_uuid_is_found_by_its_place(fake_driver: FakeDriver) -> None:
    """Where CUDA tells no UUID, the only part at that place is meant; of two, neither."""
    fake_driver.cut("gpu1")
    for function in ("cuDeviceGetUuid", "cuDeviceGetUuid_v2"):
        fake_driver.fail(function, 999)
    assert [device.uuid for device in cuda.devices()] == [""]
    assert found() == [PART]
    fake_driver.cut("gpu1", OTHER_PART, number=2)
    assert found() == ["none"]


def test_a_uuid_that_nvml_does_not_know_is_found_by_its_place(fake_driver: FakeDriver) -> None:
    """Where NVML tells other UUIDs than CUDA, the place on the bus decides."""
    devices = cuda.devices()
    fake_driver.state("gpu0", uuid="GPU-another-form/0")
    assert [device.uuid for device in devices] == [OTHER, WHOLE]
    gpus = [nvml.find(device.uuid, device.bus_id) for device in devices]
    assert [gpu.uuid for gpu in gpus if gpu] == [OTHER, "GPU-another-form/0"]


def test_a_machine_without_driver_has_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library there is nothing to ask."""
    monkeypatch.setattr(cuda, "_LIBRARY", "libcuda-that-is-not-there.so.1")
    assert cuda.devices() == []


def test_a_machine_without_gpus_has_no_devices(fake_driver: FakeDriver) -> None:
    """A driver that finds no GPU says so when it is made ready."""
    fake_driver.remove("gpu0")
    fake_driver.remove("gpu1")
    assert cuda.devices() == []


def test_every_function_below_is_called(fake_driver: FakeDriver) -> None:
    """The table leaves out no function of the driver that this project calls."""
    cuda.devices()
    assert fake_driver.functions() == set(FUNCTIONS)


@pytest.mark.parametrize("code", [3, 35, 100, 101, 201, 803, 999])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_error_of_the_driver_goes_further(
    fake_driver: FakeDriver, function: str, code: int
) -> None:
    """Whichever call fails how, there are devices or there are none, and the rest is told."""
    usual = cuda.devices()
    fake_driver.fail(function, code)
    devices = cuda.devices()
    assert (devices == []) == (function in ("cuInit", "cuDeviceGetCount"))
    for device, was in zip(devices, usual, strict=False):
        assert device.ordinal == was.ordinal
        assert device.name in ("", was.name)
        assert device.uuid in ("", was.uuid)
        assert device.bus_id in ("", was.bus_id)
    if devices and function != "cuDeviceGet":
        assert found() == [OTHER, WHOLE]


@pytest.mark.parametrize("lacking", FUNCTIONS)
def test_a_driver_that_lacks_a_function_is_no_fault(tmp_path: Path, lacking: str) -> None:
    """A library without a function is as one in which it fails."""
    need_compiler()
    with FakeDriver(tmp_path, without=(lacking,)).loaded():
        assert len(cuda.devices()) == (0 if lacking in ("cuInit", "cuDeviceGetCount") else 2)


def test_a_child_process_sees_what_its_environment_shows(tmp_path: Path) -> None:
    """In a child the loader finds both libraries by their names, as it would find NVIDIA's."""
    need_compiler()
    driver = FakeDriver(tmp_path)
    code = (
        "from autotune import cuda, nvml; (device,) = cuda.devices();"
        "print(device.ordinal, nvml.find(device.uuid, device.bus_id).uuid, len(nvml.gpus()))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **driver.env, "CUDA_VISIBLE_DEVICES": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.stdout, child.stderr) == (f"0 {WHOLE} 2\n", "")


def test_the_real_driver_is_asked() -> None:
    """Here, with a GPU or without, devices are counted from 0."""
    code = "from autotune import cuda; print([device.ordinal for device in cuda.devices()])"
    child = subprocess.run(  # the driver must not be made ready in the process of all tests
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    ordinals = json.loads(child.stdout)
    assert ordinals == list(range(len(ordinals)))
