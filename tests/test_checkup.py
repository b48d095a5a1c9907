"""The checkup: what there is, what is blind, and what to do; and the command that shows it."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from autotune import checkup, cli
from autotune.checkup import Checkup, GpuCheck, Holder, HostCheck, Limit, check_up
from autotune.child import ChildDied, Nursery
from autotune.doctor import summary
from autotune.host import cpu_count, memory
from autotune.terminal import print_renderable
from autotune.worker import Inspected
from tests.fake_driver import OTHER, WHOLE, FakeDriver

GIB = 2**30
HOST = HostCheck(
    cpu="A processor",
    cpu_count=8,
    cpu_quota=None,
    total_bytes=64 * GIB,
    free_bytes=32 * GIB,
    limits=(),
)
ON_CPU = Inspected(
    backend="tensorflow",
    device="A processor",
    device_kind="cpu",
    device_id="",
    blind="",
    total_bytes=64 * GIB,
    preallocates=True,
)
GPU = GpuCheck(
    uuid=WHOLE,
    name="NVIDIA Fake",
    bus_id="00000000:07:00.0",
    total_bytes=16 * GIB,
    free_bytes=10 * GIB,
    temperature_c=41,
    power_w=70.5,
    clock_mhz=1410,
    throttled=(),
    lost="",
    holders=(Holder(4242, GIB), Holder(4243, None)),
)


def advice(host: HostCheck = HOST, gpus: tuple[GpuCheck, ...] = (), **backend: object) -> str:
    """What is advised, on one line."""
    return " ".join(checkup._advise(host, gpus, "", replace(ON_CPU, **backend)))


def test_this_machine_is_checked() -> None:
    """Backend, host and versions are those of this machine, asked without starting it here."""
    found = check_up()
    assert found.backend is not None
    assert found.backend.backend == "tensorflow"
    assert found.backend_problem == ""
    assert found.host.cpu_count == cpu_count()
    assert found.host.total_bytes == memory().total_bytes
    assert {"keras", "tensorflow", "keras-autotune"} <= set(found.versions)


def test_a_fake_gpu_is_checked(
    fake_driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each GPU that NVML tells of stands there with its memory, its holders and its health."""
    monkeypatch.setattr(checkup, "_inspect_backend", lambda: (ON_CPU, ""))
    fake_driver.state("gpu0", process=["4242 1e9"], reasons=4, temperature=93)
    assert cli.run(["doctor", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    first, second = found["gpus"]
    assert (first["uuid"], second["uuid"]) == (WHOLE, OTHER)
    assert first["holders"] == [{"pid": 4242, "bytes": 10**9}]
    assert first["throttled"] == ["power cap"]
    assert any("slowed down (power cap)" in note for note in found["advice"])
    assert any("There are GPUs, but" in note for note in found["advice"])
    assert cli.run(["doctor"]) == 0
    out = capfd.readouterr().out
    assert "process 4242" in out
    assert "93 °C" in out
    assert "slowed down: power cap" in out


def test_what_is_in_the_way_is_said_with_what_to_do() -> None:
    """Each finding has a sentence of its own, and a machine that is well has none."""
    assert advice() == ""
    assert "cannot be watched (no driver)" in advice(device_kind="gpu", blind="no driver")
    assert "install its GPU build" in advice(gpus=(GPU,))
    lost = replace(GPU, lost="GPU is lost")
    assert "Reset it" in advice(gpus=(lost,), device_kind="gpu")
    small = replace(HOST, free_bytes=GIB // 2, cpu_quota=1.5)
    assert "Only 512 MiB of memory are free" in advice(small)
    assert "OMP_NUM_THREADS=1" in advice(small)
    assert "ends all of this container" in advice(replace(HOST, is_killed_whole=True))


def test_a_backend_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's death is the reason; the rest is told all the same."""

    def no_child(self: Nursery, timeout_s: float) -> None:
        raise ChildDied("died of SIGSEGV", "no library")

    monkeypatch.setattr(Nursery, "start", no_child)
    found = check_up()
    assert found.backend is None
    assert "died of SIGSEGV. It last said: no library" in found.backend_problem
    assert "install one" in found.advice[0]


def test_the_words_hold_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    """On a machine with a GPU that is matched, a quota and a limit."""
    host = replace(HOST, cpu_quota=1.5, limits=(Limit(8 * GIB, GIB),))
    backend = Inspected(
        backend="torch",
        device="NVIDIA Fake",
        device_kind="gpu",
        device_id=WHOLE,
        blind="",
        total_bytes=16 * GIB,
        preallocates=False,
    )
    found = Checkup(
        versions={"keras": "3.15.1"},
        host=host,
        gpus=(GPU,),
        nvml_problem="",
        backend=backend,
        backend_problem="",
        advice=("Mend this.",),
    )
    print_renderable(summary(found))
    out = capsys.readouterr().out
    for words in (
        "torch, on NVIDIA Fake",
        WHOLE,
        "a quota of 1.5",
        "a cgroup's limit of 8",
        "process 4242 (1",
        "process 4243",
        "41 °C, 1410 MHz, 70 W",
        "keras 3.15.1",
        "Note: Mend this.",
    ):
        assert words in out, out
