"""Whatever NVML does, nothing raises or hangs, and the reason is known: pynvml on a fake driver."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pynvml
import pytest

from autotune import nvml, nvmlcalls
from autotune.nvml import Gpu
from tests.fake_driver import OTHER, WHOLE, FakeDriver, fresh_pynvml, need_compiler
from tests.fake_driver.campaign import (
    FUNCTIONS,
    Answers,
    ask_everything,
    break_call,
    impatience,
    prepare,
)

CODES = (1, 3, 4, 9, 12, 15, 18, 999)
NEWER = tuple(newer for newer in FUNCTIONS.values() if newer)


def test_free_memory_that_counts_the_reserve_is_put_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver whose `free` has the reserve in it does not mislead on an idle GPU."""
    memory = type("Memory", (), {"total": 100, "free": 100, "reserved": 30})
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda *_, **__: memory)
    assert nvmlcalls.QUESTIONS["memory"][0](pynvml, None) == (100, 70)


def test_a_call_that_fails_for_a_while_is_answered_again(fake_driver: FakeDriver) -> None:
    """A fault passes, and with it the reason."""
    handle = nvml.open_handle(WHOLE)
    assert handle is not None
    fake_driver.fail("nvmlDeviceGetMemoryInfo_v2", 13)
    fake_driver.fail("nvmlDeviceGetMemoryInfo", 999, calls="2 3")
    assert [handle.memory() is None for _ in range(4)] == [False, True, True, False]
    assert "memory" not in nvml.refused()


def test_an_older_driver_tells_as_much(fake_driver: FakeDriver, tmp_path: Path) -> None:
    """A library that lacks every newer function is asked through the older ones."""
    prepare(fake_driver)
    usual = ask_everything()
    older = tmp_path / "older"
    older.mkdir()
    with FakeDriver(older, without=NEWER).loaded() as driver:
        prepare(driver)
        assert ask_everything().missing(usual) == []
        assert not driver.functions() & set(NEWER)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (4, "no permission to ask the NVIDIA driver"),
        (9, "the NVIDIA driver is not loaded"),
        (12, "no NVIDIA driver: its library libnvidia-ml.so.1 was not found"),
        (18, "the NVIDIA driver and its library differ in version: restart the machine"),
        (77, "NVML error 77"),
        (999, "unknown error of the NVIDIA driver"),
    ],
)
def test_the_problem_is_told_in_words(fake_driver: FakeDriver, code: int, words: str) -> None:
    """Where NVML cannot be opened, one line says why, until it can."""
    fake_driver.fail("nvmlInitWithFlags", code)
    assert nvml.gpus() == []
    assert nvml.problem() == words
    fake_driver.heal()
    assert nvml.problem() == ""


def test_a_machine_without_gpus_has_a_problem(fake_driver: FakeDriver) -> None:
    """NVML that opens and lists nothing cannot be used either."""
    fake_driver.remove("gpu0")
    fake_driver.remove("gpu1")
    assert nvml.gpus() == []
    assert nvml.problem() == "no GPU"


def test_no_library_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a driver every answer is empty and the problem says why."""

    def not_found(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(pynvml, "CDLL", not_found)
    with fresh_pynvml():
        answers = ask_everything()
    assert (answers.gpus, answers.holders, answers.versions) == ([], None, {})
    assert (answers.whole, answers.memory) == (nvml.Reading(), None)
    assert answers.problem == "no NVIDIA driver: its library libnvidia-ml.so.1 was not found"


def test_no_pynvml_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is a problem like any other."""
    with fresh_pynvml():
        monkeypatch.setitem(sys.modules, "pynvml", None)
        answers = ask_everything()
    assert answers.gpus == []
    assert answers.problem.startswith("ModuleNotFoundError: import of pynvml halted")


def test_a_library_that_lacks_a_function_is_no_fault(tmp_path: Path) -> None:
    """What the library does not have at all is unknown, and the rest is told."""
    need_compiler()
    lacking = ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetPciInfo_v3")
    with FakeDriver(tmp_path, without=lacking).loaded():
        assert nvml.gpus()[0] == Gpu(WHOLE, "NVIDIA Fake 1", bus_id="")
        assert nvml.read(WHOLE).power_w is None
        assert nvml.refused()["power"] == "the NVIDIA driver is too old to tell"


def test_text_that_is_no_text_is_unknown(fake_driver: FakeDriver) -> None:
    """Bytes that are not UTF-8 cost no more than the name that they should be."""
    fake_driver.state("gpu1", name="NVIDIA \udcff")
    assert nvml.gpus()[1].name == "unknown NVIDIA GPU"
    assert nvml.refused()["name"].startswith("UnicodeDecodeError")
    assert nvml.find("\udcff") is None
    assert nvml.read("\udcff") == nvml.Reading()


def test_somebody_else_may_close_nvml(fake_driver: FakeDriver) -> None:
    """A library in the same process that closes NVML too often costs nothing."""
    before = nvml.read(WHOLE)
    pynvml.nvmlShutdown()
    assert nvml.read(WHOLE) == before


def test_nvml_is_opened_once_and_closed_once(
    fake_driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many threads ask, NVML is opened once, and each gets its answer."""

    class Slow(nvmlcalls.Library):
        def __init__(self) -> None:
            time.sleep(0.05)  # until all have asked
            super().__init__()

    nvml.reset()
    monkeypatch.setattr(nvml, "Library", Slow)
    answers: list[list[Gpu]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(nvml.gpus()), name="asking")
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [nvml.gpus()] * 8
    nvml.reset()
    nvml.reset()
    called = [call.function for call in fake_driver.calls()]
    assert called.count("nvmlInitWithFlags") == called.count("nvmlShutdown") == 1


def test_every_function_of_the_campaign_is_called(fake_driver: FakeDriver) -> None:
    """The campaign below leaves out no function of NVML that this project calls."""
    prepare(fake_driver)
    ask_everything()
    for newer in NEWER:
        fake_driver.fail(newer, 13)
    ask_everything()
    assert fake_driver.functions() == set(FUNCTIONS)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What is answered while nothing fails."""
    need_compiler()
    with FakeDriver(tmp_path_factory.mktemp("usual")).loaded() as driver:
        prepare(driver)
        return ask_everything()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_error_of_nvml_goes_further(
    fake_driver: FakeDriver, usual: Answers, function: str, code: int
) -> None:
    """Whichever call fails how, all else is told, and what is missing has a reason."""
    prepare(fake_driver)
    break_call(fake_driver, function, f"code {code}")
    answers = ask_everything()
    assert not answers.missing(usual) or answers.has_reason(usual)
    assert bool(answers.problem) == (answers.gpus == [])
    for reading, was in ((answers.whole, usual.whole), (answers.part, usual.part)):
        assert reading.lost in ("", "GPU is lost")
        assert reading.lost == "" or code == 15
        assert reading.free_bytes in (None, was.free_bytes)
        assert reading.temperature_c in (None, was.temperature_c)
        assert reading.throttled in ((), was.throttled)
    assert {gpu.uuid for gpu in answers.gpus} <= {gpu.uuid for gpu in usual.gpus}
    assert answers.holders is None or {4242} <= {holder.pid for holder in answers.holders}
    fake_driver.heal()
    assert ask_everything() == usual


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_call_is_waited_for_for_ever(fake_driver: FakeDriver, function: str) -> None:
    """Whichever call hangs, every question comes back, and the reason is known."""
    prepare(fake_driver)
    break_call(fake_driver, function, "hang")
    with impatience(fake_driver):
        answers = ask_everything(directly=False)
    if function != "nvmlShutdown":  # by then all is answered
        assert answers.problem == "NVML did not answer within 5 s"


def test_nvml_that_comes_back_is_asked_again(fake_driver: FakeDriver) -> None:
    """While a call hangs no other is made; when it is over, NVML is as good as before."""
    fake_driver.fault("nvmlDeviceGetCount_v2", "hang")
    with impatience(fake_driver):
        assert nvml.gpus() == []
    asked = len(fake_driver.calls())
    assert nvml.read(WHOLE) == nvml.Reading()
    assert len(fake_driver.calls()) == asked
    fake_driver.heal()
    for thread in threading.enumerate():
        if thread.name == "nvml":
            threading.Thread.join(thread)
    assert nvml.problem() == ""
    assert len(nvml.gpus()) == 2


def test_a_slow_call_is_waited_for(fake_driver: FakeDriver) -> None:
    """A GPU that has to wake is no GPU that hangs."""
    fake_driver.fault("nvmlInitWithFlags", "hang 50")
    assert len(nvml.gpus()) == 2


def run_child(driver: FakeDriver, code: str) -> subprocess.CompletedProcess[str]:
    """Run a line of Python in a child that meets the driver, after `import nvml`."""
    return subprocess.run(
        [sys.executable, "-c", f"from autotune import nvml; {code}"],
        env={**os.environ, **driver.env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,  # what hangs, hangs for ever
    )


def test_a_child_process_meets_the_same_driver(tmp_path: Path) -> None:
    """In a child the loader finds the library by its name, as it would find NVIDIA's."""
    need_compiler()
    child = run_child(FakeDriver(tmp_path), "print([gpu.uuid for gpu in nvml.gpus()])")
    assert (child.stdout.strip(), child.stderr) == (str([WHOLE, OTHER]), "")


def test_a_child_whose_driver_hangs_still_ends(tmp_path: Path) -> None:
    """A call that never comes back does not keep the process from ending."""
    need_compiler()
    driver = FakeDriver(tmp_path)
    driver.fault("nvmlDeviceGetName", "hang")
    code = "from autotune import nvmlcalls; nvmlcalls.LIMIT_S = 0.02; print(nvml.problem())"
    child = run_child(driver, code)
    assert (child.stdout, child.stderr) == ("NVML did not answer within 0.02 s\n", "")


def test_a_crash_in_the_library_ends_the_process(tmp_path: Path) -> None:
    """This alone cannot be caught: it is why the probe runs in a child."""
    need_compiler()
    driver = FakeDriver(tmp_path)
    driver.fault("nvmlDeviceGetName", "crash")
    assert run_child(driver, "nvml.gpus()").returncode == -signal.SIGSEGV


def test_the_fake_is_gone_when_its_test_is_over(tmp_path: Path) -> None:
    """Neither pynvml nor the loader's list of names keeps the fake library."""
    need_compiler()
    before = pynvml.nvmlLib
    driver = FakeDriver(tmp_path)
    with driver.loaded():
        assert len(nvml.gpus()) == 2
    assert pynvml.nvmlLib is before
    asked = len(driver.calls())
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:  # no NVIDIA driver here
        return
    assert not hasattr(library, "fake_forget")
    nvml.gpus()
    assert len(driver.calls()) == asked
