"""What NVML tells of GPUs and their parts: the real pynvml on a fake driver."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from autotune import nvml
from autotune.nvml import Gpu, Holder
from tests.fake_driver import GIB, OTHER, PART, WHOLE, FakeDriver

OTHER_PART = "MIG-aa7e5f3a-2d4b-5a69-9c8d-7e6f5a4b3c53"
ABSENT = "GPU-00000000-0000-0000-0000-000000000000"


def test_every_gpu_is_listed_in_nvml_s_order(fake_driver: FakeDriver) -> None:
    """Each GPU has its UUID, its name and its place, and none is a part."""
    assert nvml.gpus() == [
        Gpu(WHOLE, "NVIDIA Fake 1", "00000000:07:00.0"),
        Gpu(OTHER, "NVIDIA Fake 2", "00000000:0B:00.0"),
    ]
    assert nvml.problem() == ""


def test_parts_follow_the_gpu_that_they_are_cut_from(fake_driver: FakeDriver) -> None:
    """Parts are found though numbers before them are free, and they know their GPU."""
    fake_driver.cut("gpu0", number=1)
    fake_driver.cut("gpu0", OTHER_PART, number=5)
    whole, part, other_part, other = nvml.gpus()
    assert (whole.uuid, other.uuid) == (WHOLE, OTHER)
    assert part == Gpu(PART, "gpu0 MIG 1g.4gb", whole.bus_id, parent=WHOLE)
    assert other_part == Gpu(OTHER_PART, "gpu0 MIG 1g.4gb", whole.bus_id, parent=WHOLE)


def test_a_gpu_that_knows_no_mig_has_no_parts(fake_driver: FakeDriver) -> None:
    """An older GPU refuses to tell its MIG mode; it is listed all the same."""
    for gpu in ("gpu0", "gpu1"):
        fake_driver.state(gpu, mig="n/a")
    assert [gpu.uuid for gpu in nvml.gpus()] == [WHOLE, OTHER]
    assert nvml.refused() == {"MIG mode": "not supported"}


def test_a_reading_has_all_that_a_gpu_tells(fake_driver: FakeDriver) -> None:
    """Memory in bytes, degrees, watts and MHz, each of the GPU that was asked for."""
    fake_driver.state("gpu0", temperature=81, power=71.5, clock=1200)
    assert nvml.read(WHOLE) == nvml.Reading(
        total_bytes=16 * GIB,
        free_bytes=16 * GIB - GIB - GIB // 2,
        temperature_c=81,
        power_w=71.5,
        clock_mhz=1200,
    )
    assert nvml.read(OTHER).temperature_c == 40


def test_a_part_has_its_own_memory_and_its_gpu_s_sensors(fake_driver: FakeDriver) -> None:
    """A part refuses to tell of its sensors, so the whole GPU is asked."""
    fake_driver.cut("gpu1", total=4 * GIB, used=GIB)
    fake_driver.state("gpu1", temperature=77, reasons=4)
    part = nvml.read(PART)
    assert (part.total_bytes, part.free_bytes) == (4 * GIB, 3 * GIB)
    assert (part.temperature_c, part.throttled) == (77, ("power cap",))


def test_a_part_tells_its_memory_where_its_gpu_is_out_of_reach(fake_driver: FakeDriver) -> None:
    """In a container the whole GPU may be forbidden; the memory of the part is what matters."""
    fake_driver.cut("gpu1")
    fake_driver.fail("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", 4)
    part = nvml.read(PART)
    assert part == nvml.Reading(4 * GIB, 3 * GIB)
    assert nvml.refused()["temperature"] == "no permission to ask the NVIDIA driver"


@pytest.mark.parametrize("newest", ["known", "unknown"])
def test_what_the_driver_reserves_is_not_free(fake_driver: FakeDriver, newest: str) -> None:
    """Neither version of NVML's memory figures counts reserved memory as free."""
    if newest == "unknown":
        fake_driver.fail("nvmlDeviceGetMemoryInfo_v2", 13)
    fake_driver.state("gpu0", total=8 * GIB, used=2 * GIB, reserved=GIB)
    reading = nvml.read(WHOLE)
    assert (reading.total_bytes, reading.free_bytes) == (8 * GIB, 5 * GIB)


def test_memory_that_a_gpu_shares_with_the_host_is_unknown(fake_driver: FakeDriver) -> None:
    """A GPU without memory of its own refuses; all else is told."""
    fake_driver.state("gpu0", total="n/a")
    reading = nvml.read(WHOLE)
    assert (reading.total_bytes, reading.free_bytes) == (None, None)
    assert reading.temperature_c == 40
    assert nvml.refused()["memory"] == "not supported"


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0, ()),
        (1 | 2 | 16 | 256, ()),
        (4, ("power cap",)),
        (8, ("hardware slowdown",)),
        (32 | 64, ("software thermal slowdown", "hardware thermal slowdown")),
        (128 | 1, ("power brake",)),
    ],
)
def test_throttle_reasons_are_words(
    fake_driver: FakeDriver, bits: int, words: tuple[str, ...]
) -> None:
    """What slows the clock is told; idleness and clocks that someone set are no trouble."""
    fake_driver.state("gpu0", reasons=bits)
    assert nvml.read(WHOLE).throttled == words


def test_holders_are_the_processes_of_that_gpu(fake_driver: FakeDriver) -> None:
    """Who computes and who draws both hold memory; who does both is named once."""
    fake_driver.state("gpu0", process=["4242 1e9", "77 -"], graphics=["4242 1e9", "99 2e6"])
    held = nvml.holders(WHOLE)
    assert held is not None
    assert sorted(held, key=lambda holder: holder.pid) == [
        Holder(77, None),
        Holder(99, 2_000_000),
        Holder(4242, 1_000_000_000),
    ]
    assert nvml.holders(OTHER) == []
    assert nvml.read(OTHER).free_bytes == 16 * GIB - GIB - GIB // 2


def test_holders_are_unknown_where_nvml_does_not_tell(fake_driver: FakeDriver) -> None:
    """Unknown is not the same as nobody."""
    for version in ("v2", "v3"):
        fake_driver.fail(f"nvmlDeviceGetComputeRunningProcesses_{version}", 4)
    fake_driver.state("gpu0", graphics="99 2e6")
    assert nvml.holders(WHOLE) is None
    assert nvml.holders(ABSENT) is None


def test_a_part_has_holders_though_it_never_draws(fake_driver: FakeDriver) -> None:
    """NVML does not tell who draws on a part, and who computes is known all the same."""
    fake_driver.cut("gpu1", process="5 1e6")
    assert nvml.holders(PART) == [Holder(5, 1_000_000)]


def test_versions_are_those_of_the_driver_and_of_nvml(fake_driver: FakeDriver) -> None:
    """Both are told as NVML writes them, and one that is unknown is left out."""
    assert nvml.versions() == {"driver": "570.86.15", "nvml": "12.570.86.15"}
    fake_driver.fail("nvmlSystemGetNVMLVersion", 999)
    assert nvml.versions() == {"driver": "570.86.15"}


@pytest.mark.parametrize("prefix", ["GPU-", "MIG-", ""])
@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_a_gpu_is_found_by_its_uuid_with_any_prefix(
    fake_driver: FakeDriver, prefix: str, spelling: Callable[[str], str]
) -> None:
    """CUDA does not say whether a UUID is that of a GPU or of a part."""
    fake_driver.cut("gpu1")
    for uuid in (WHOLE, PART):
        found = nvml.find(prefix + spelling(uuid[4:]))
        assert found is not None
        assert found.uuid == uuid


@pytest.mark.parametrize("bus_id", ["00000000:0B:00.0", "0000:0b:00.0", "0b:00.0"])
def test_a_gpu_is_found_by_its_place_in_any_spelling(fake_driver: FakeDriver, bus_id: str) -> None:
    """CUDA writes the domain with four digits, NVML with eight, people with none."""
    found = nvml.find(ABSENT, bus_id)
    assert found is not None
    assert found.uuid == OTHER


@pytest.mark.parametrize(
    ("uuid", "bus_id"), [("", ""), (ABSENT, ""), (ABSENT, "0000:ff:00.0"), ("", "1:0b:00.0")]
)
def test_what_is_not_there_is_not_found(fake_driver: FakeDriver, uuid: str, bus_id: str) -> None:
    """No GPU is taken for another."""
    assert nvml.find(uuid, bus_id) is None


def test_a_uuid_counts_for_more_than_a_place(fake_driver: FakeDriver) -> None:
    """Where both are given and contradict each other, the UUID says which GPU it is."""
    found = nvml.find(WHOLE, "0000:0b:00.0")
    assert found is not None
    assert found.uuid == WHOLE


def test_a_place_with_several_parts_is_not_enough(fake_driver: FakeDriver) -> None:
    """A place means the only part of a GPU; among several nobody knows which."""
    fake_driver.cut("gpu1")
    only = nvml.find(bus_id="0000:0b:00.0")
    assert only is not None
    assert only.uuid == PART
    fake_driver.cut("gpu1", OTHER_PART, number=3)
    assert nvml.find(bus_id="0000:0b:00.0") is None


@pytest.mark.parametrize("function", ["MigMode", "MaxMigDeviceCount", "MigDeviceHandleByIndex"])
def test_a_whole_gpu_is_never_taken_for_its_part(fake_driver: FakeDriver, function: str) -> None:
    """Where NVML does not tell the parts, a part that CUDA knows is found nowhere."""
    fake_driver.cut("gpu1")
    fake_driver.fail(f"nvmlDeviceGet{function}", 4)
    assert nvml.find(PART[4:], "0000:0b:00.0") is None
    assert nvml.find(PART, "0000:0b:00.0") is None


def test_a_lost_gpu_does_not_hide_the_other(fake_driver: FakeDriver) -> None:
    """The reading of the lost one says so, and the other one is listed and read."""
    handle = nvml.open_handle(WHOLE)
    fake_driver.fail("*", 15, gpu="gpu0")
    assert [gpu.uuid for gpu in nvml.gpus()] == [OTHER]
    assert nvml.read(WHOLE) == nvml.Reading(lost="GPU is lost")
    assert nvml.read(OTHER).lost == ""
    assert nvml.open_handle(WHOLE) is None
    assert handle is not None
    assert handle.memory() is None
    assert handle.health() == nvml.Reading(lost="GPU is lost")


def test_a_gpu_that_falls_off_the_bus_is_lost(fake_driver: FakeDriver) -> None:
    """A handle that was good says why it no longer is."""
    handle = nvml.open_handle(WHOLE)
    assert handle is not None
    assert handle.health().lost == ""
    fake_driver.remove("gpu0")
    assert handle.health().lost == "GPU is lost"
    assert nvml.problem() == ""


def test_a_gpu_that_requires_a_reset_says_so(fake_driver: FakeDriver) -> None:
    """One call that demands a reset is enough, and the rest of the reading still counts."""
    fake_driver.fail("nvmlDeviceGetPowerUsage", 16, gpu="gpu0")
    reading = nvml.read(WHOLE)
    assert reading.lost == "GPU requires reset"
    assert reading.total_bytes == 16 * GIB


def test_a_handle_sees_memory_change(fake_driver: FakeDriver) -> None:
    """Each question is asked anew: steps, ramps and a neighbour who comes are all seen."""
    fake_driver.state("gpu0", reserved=0, used="steps 1e9 2e9")
    handle = nvml.open_handle(WHOLE)
    assert handle is not None
    total = 16 * GIB
    readings = [handle.memory() for _ in range(3)]
    assert readings == [(total, total - 10**9), *[(total, total - 2 * 10**9)] * 2]
    fake_driver.state("gpu0", used="ramp -2 3e9 -1 5e9")  # it is over
    assert handle.memory() == (total, total - 5 * 10**9)
    fake_driver.state("gpu0", process="4242 1e9")
    assert handle.memory() == (total, total - 6 * 10**9)


def test_a_ramp_rises_between_its_points(fake_driver: FakeDriver) -> None:
    """Between two moments memory in use grows, and never beyond the later value."""
    fake_driver.state("gpu0", reserved=0, used="ramp 0 0 3600000 16e9")
    handle = nvml.open_handle(WHOLE)
    assert handle is not None
    seen = [memory[1] for memory in (handle.memory() for _ in range(20)) if memory]
    assert len(seen) == 20
    assert seen == sorted(seen, reverse=True)
    assert 16 * GIB - 16 * 10**9 < seen[-1] < 16 * GIB


def test_a_handle_needs_no_thread(fake_driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handle asks in the thread of its owner."""
    handle = nvml.open_handle(WHOLE)
    assert handle is not None

    def refuse(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert handle.memory() == (16 * GIB, 16 * GIB - GIB - GIB // 2)
    assert handle.health().total_bytes == 16 * GIB
    assert nvml.gpus() == []  # these need one: that there is none is no reason to raise


def test_an_unknown_gpu_has_an_empty_reading(fake_driver: FakeDriver) -> None:
    """What is asked of a UUID that no GPU has is not known."""
    assert nvml.read(ABSENT) == nvml.Reading()
    assert nvml.open_handle(ABSENT) is None
    assert nvml.refused()["GPU of a UUID"] == "not found"


def test_the_real_nvml_is_asked_without_a_warning() -> None:
    """Here, with a GPU or without, there is a list of GPUs or a reason why not."""
    known = nvml.gpus()
    assert bool(known) != bool(nvml.problem())
    for gpu in known:
        reading = nvml.read(gpu.uuid)
        assert nvml.find(gpu.uuid) == gpu
        assert (reading.free_bytes or 0) <= (reading.total_bytes or 0)
    nvml.reset()
