"""Everything that `autotune.nvml` can be asked, while one call of NVML after the other fails."""

from __future__ import annotations

import contextlib
import threading
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields
from unittest import mock

import pynvml

from autotune import nvml, nvmlcalls
from tests.fake_driver import OTHER, PART, WHOLE, FakeDriver

# Each function that is called, and the newer one that is asked before it, if there is one.
_FUNCTIONS = {
    "nvmlInitWithFlags": "",
    "nvmlShutdown": "",
    "nvmlSystemGetDriverVersion": "",
    "nvmlSystemGetNVMLVersion": "",
    "nvmlDeviceGetCount_v2": "",
    "nvmlDeviceGetHandleByIndex_v2": "",
    "nvmlDeviceGetHandleByUUID": "",
    "nvmlDeviceGetUUID": "",
    "nvmlDeviceGetName": "",
    "nvmlDeviceGetPciInfo_v3": "",
    "nvmlDeviceGetMigMode": "",
    "nvmlDeviceGetMaxMigDeviceCount": "",
    "nvmlDeviceGetMigDeviceHandleByIndex": "",
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": "",
    "nvmlDeviceGetMemoryInfo_v2": "",
    "nvmlDeviceGetMemoryInfo": "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetTemperatureV": "",
    "nvmlDeviceGetTemperature": "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetPowerUsage": "",
    "nvmlDeviceGetClockInfo": "",
    "nvmlDeviceGetCurrentClocksEventReasons": "",
    "nvmlDeviceGetCurrentClocksThrottleReasons": "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetComputeRunningProcesses_v3": "",
    "nvmlDeviceGetComputeRunningProcesses_v2": "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3": "",
}
_LATE = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetComputeRunningProcesses_v2")
# An early `pynvml` of version 12 cannot call those, and then nobody does.
FUNCTIONS = {
    function: newer
    for function, newer in _FUNCTIONS.items()
    if function not in _LATE or hasattr(pynvml, function)
}

# What NVML may answer to any of them; 77 is no code of NVML's.
CODES = {
    1: "uninitialized",
    2: "invalid argument",
    3: "not supported",
    4: "no permission",
    7: "insufficient size",
    9: "driver not loaded",
    10: "timeout",
    12: "library not found",
    13: "function not found",
    15: "GPU is lost",
    16: "reset required",
    17: "operating system",
    18: "version mismatch",
    20: "out of memory",
    25: "argument version",
    77: "unheard of",
    999: "unknown",
}


@dataclass(frozen=True, slots=True)
class Answers:
    """All that was asked, and what came of it."""

    gpus: list[nvml.Gpu]
    by_uuid: nvml.Gpu | None
    by_bus_id: nvml.Gpu | None
    whole: nvml.Reading
    part: nvml.Reading
    memory: tuple[int, int] | None
    health: nvml.Reading | None
    holders: list[nvml.Holder] | None
    versions: dict[str, str]
    refused: dict[str, str]
    problem: str

    def missing(self, usual: Answers) -> list[str]:
        """Names of what differs from the usual answers, reasons left out."""
        names = [field.name for field in fields(self)][:-2]
        return [name for name in names if getattr(self, name) != getattr(usual, name)]

    def has_reason(self, usual: Answers) -> bool:
        """Whether one who misses something can learn why."""
        return bool(self.problem) or self.refused.items() - usual.refused.items() != set()


def prepare(driver: FakeDriver) -> None:
    """Have something to be told of everything: a GPU with processes, and one that is cut."""
    driver.state("gpu0", process=["4242 1e9"], graphics=["4243 2e9"], reasons=8, power=71.5)
    driver.cut("gpu1")


def break_call(driver: FakeDriver, function: str, fault: str) -> None:
    """Let one function fail; where it is the older of two, the newer is not known."""
    if FUNCTIONS[function]:
        driver.fail(FUNCTIONS[function], 13)
    driver.fault(function, fault)


def ask_everything(directly: bool = True) -> Answers:
    """Open NVML, ask all there is to ask, and close it.

    Args:
        directly: Ask a `Handle` as well; it hangs if the driver does.
    """
    nvml.reset()
    handle = nvml.open_handle(WHOLE) if directly else None
    answers = Answers(
        gpus=nvml.gpus(),
        by_uuid=nvml.find(OTHER),
        by_bus_id=nvml.find(bus_id="0000:0b:00.0"),
        whole=nvml.read(WHOLE),
        part=nvml.read(PART),
        memory=handle.memory() if handle else None,
        health=handle.health() if handle else None,
        holders=nvml.holders(WHOLE),
        versions=nvml.versions(),
        refused=nvml.refused(),
        problem=nvml.problem(),
    )
    nvml.reset()
    return answers


@contextlib.contextmanager
def impatience(driver: FakeDriver) -> Iterator[None]:
    """Have a call given up as soon as it hangs, and no call that does not, however slow."""

    class Thread(threading.Thread):
        def join(self, timeout: float | None = None) -> None:  # noqa: ARG002 - not by the clock
            while self.is_alive() and not driver.is_hanging():
                time.sleep(0.001)

    hasty = types.SimpleNamespace(Thread=Thread, Lock=threading.Lock)
    with mock.patch.object(nvmlcalls, "threading", hasty):
        yield
