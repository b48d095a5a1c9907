"""Calls of NVIDIA's management library (NVML): none of them raises, and none hangs its caller."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

LIMIT_S = 5.0  # a driver wakes a sleeping GPU in about two seconds; after more it hangs

LOST = (15, 16)  # NVML's codes for a GPU that cannot be used any more
_CLOSED = 1  # NVML's code where it is not open, or somebody else in this process closed it
_WORDS = {
    _CLOSED: "NVML is not open",
    2: "NVML does not know what it was asked for",
    3: "not supported",
    4: "no permission to ask the NVIDIA driver",
    6: "not found",
    9: "the NVIDIA driver is not loaded",
    10: "the NVIDIA driver took too long",
    12: "no NVIDIA driver: its library libnvidia-ml.so.1 was not found",
    13: "the NVIDIA driver is too old to tell",
    15: "GPU is lost",
    16: "GPU requires reset",
    17: "the operating system forbids it",
    18: "the NVIDIA driver and its library differ in version: restart the machine",
    20: "the NVIDIA driver is out of memory",
    25: "the NVIDIA driver is too old to tell",
    999: "unknown error of the NVIDIA driver",
}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why NVML did not answer.

    Attributes:
        code: NVML's; 0 where something else went wrong.
        why: In words.
    """

    code: int
    why: str


def _import() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the deprecated `pynvml` package warns
        import pynvml
    module: ModuleType = pynvml
    return module


def _memory_v2(nvml: Any, gpu: Any) -> tuple[int, int]:
    # Documents disagree on what `used` counts. `free` leaves out what the driver reserved on
    # every GPU known; the minimum holds that where a driver should count otherwise.
    memory = nvml.nvmlDeviceGetMemoryInfo(gpu, version=nvml.nvmlMemory_v2)
    return int(memory.total), int(min(memory.free, memory.total - memory.reserved))


def _memory_v1(nvml: Any, gpu: Any) -> tuple[int, int]:
    memory = nvml.nvmlDeviceGetMemoryInfo(gpu)  # counts what is reserved as used
    return int(memory.total), int(memory.free)


def _processes(processes: Any) -> list[tuple[int, int | None]]:
    return [(int(process.pid), process.usedGpuMemory) for process in processes]


# What NVML can be asked. Of several calls the first that answers counts: a driver may be too old
# for the new one, or so new that the old one is gone.
QUESTIONS: dict[str, tuple[Callable[..., Any], ...]] = {
    "import": (lambda _: _import(),),
    "open": (lambda nvml: nvml.nvmlInit(),),
    "close": (lambda nvml: nvml.nvmlShutdown(),),
    "driver version": (lambda nvml: str(nvml.nvmlSystemGetDriverVersion()),),
    "nvml version": (lambda nvml: str(nvml.nvmlSystemGetNVMLVersion()),),
    "number of GPUs": (lambda nvml: int(nvml.nvmlDeviceGetCount()),),
    "GPU": (lambda nvml, index: nvml.nvmlDeviceGetHandleByIndex(index),),
    "GPU of a UUID": (lambda nvml, uuid: nvml.nvmlDeviceGetHandleByUUID(uuid.encode()),),
    "UUID": (lambda nvml, gpu: str(nvml.nvmlDeviceGetUUID(gpu)),),
    "name": (lambda nvml, gpu: str(nvml.nvmlDeviceGetName(gpu)),),
    "bus id": (lambda nvml, gpu: str(nvml.nvmlDeviceGetPciInfo_v3(gpu).busId),),
    "MIG mode": (lambda nvml, gpu: bool(nvml.nvmlDeviceGetMigMode(gpu)[0]),),
    "most MIG parts": (lambda nvml, gpu: int(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)),),
    "MIG part": (lambda nvml, gpu, index: nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index),),
    "whole of a MIG part": (
        lambda nvml, part: nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part),
    ),
    "memory": (_memory_v2, _memory_v1),
    "temperature": (
        lambda nvml, gpu: int(nvml.nvmlDeviceGetTemperatureV(gpu, nvml.NVML_TEMPERATURE_GPU)),
        lambda nvml, gpu: int(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
    ),
    "power": (lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,),  # from milliwatts
    "clock": (lambda nvml, gpu: int(nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),),
    "throttle reasons": (
        lambda nvml, gpu: int(nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)),
        lambda nvml, gpu: int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)),
    ),
    "computing processes": (
        lambda nvml, gpu: _processes(nvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu)),
        lambda nvml, gpu: _processes(nvml.nvmlDeviceGetComputeRunningProcesses_v2(gpu)),
    ),
    "drawing processes": (
        lambda nvml, gpu: _processes(nvml.nvmlDeviceGetGraphicsRunningProcesses_v3(gpu)),
    ),
}


class Library:
    """NVML, opened when it is first asked and left open: opening it looks at every GPU anew.

    Nor is it closed at exit: a driver that hangs would keep the process from ending, and the
    system closes it anyway.

    Attributes:
        refused: Why the last attempt to learn something failed, by the key in `QUESTIONS`.
    """

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self._opening = threading.Lock()
        self._is_open = False
        self._stuck: threading.Thread | None = None
        self._nvml: Any = None
        self._nvml = self.ask("import")

    def ask(self, what: str, *arguments: Any) -> Any:
        """Ask one of the questions; every call of NVML goes through here.

        Args:
            what: A key of `QUESTIONS`.
            arguments: Of the question. If one is a refusal, that is the answer.

        Returns:
            The answer, or a `Refusal`.
        """
        answer = self._first_answer(what, arguments)
        if not isinstance(answer, Refusal):
            self.refused.pop(what, None)
            return answer
        self.refused[what] = answer.why
        if answer.code == _CLOSED:
            self._is_open = False
        return answer

    def tell(self, what: str, *arguments: Any) -> Any:
        """Ask as `ask` does, but return None for a refusal."""
        answer = self.ask(what, *arguments)
        return None if isinstance(answer, Refusal) else answer

    def in_time(self, asking: Callable[[], _T]) -> _T | None:
        """Open NVML and return what `asking` returns; None where it cannot be opened or hangs."""
        if self.is_stuck():
            return None  # another thread would only hang beside it
        answers: list[_T] = []

        def run() -> None:
            if self._open():
                answer = asking()
                if not self._is_open and self._open():  # somebody in this process had closed it
                    answer = asking()
                answers.append(answer)

        thread = threading.Thread(target=run, daemon=True, name="nvml")
        with contextlib.suppress(RuntimeError):  # the system has no thread to give
            thread.start()
            thread.join(LIMIT_S)
        if thread.is_alive():
            self._stuck = thread
        return answers[0] if answers else None

    def is_stuck(self) -> bool:
        """Whether a call that was given up has still not come back."""
        return self._stuck is not None and self._stuck.is_alive()

    def close(self) -> None:
        """Close NVML if it is open and does not hang."""
        if self._is_open:
            self.in_time(lambda: self.ask("close"))

    def _first_answer(self, what: str, arguments: tuple[Any, ...]) -> Any:
        answer: Any = next((given for given in arguments if isinstance(given, Refusal)), None)
        for question in QUESTIONS[what] if answer is None else ():
            try:
                return question(self._nvml, *arguments)
            except Exception as error:  # whatever the driver does, the tuner goes on
                answer = _refusal(error)
        return answer

    def _open(self) -> bool:
        with self._opening:
            if not self._is_open:
                self._is_open = not isinstance(self.ask("open"), Refusal)
            return self._is_open


def _refusal(error: Exception) -> Refusal:
    code = getattr(error, "value", None)  # of pynvml's errors; their text would ask NVML again
    if isinstance(code, int):
        return Refusal(code, _WORDS.get(code, f"NVML error {code}"))
    return Refusal(0, f"{type(error).__name__}: {error}")
