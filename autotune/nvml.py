"""NVIDIA GPUs: which there are, what they hold, who holds it, and how they fare.

Nothing here raises: what NVML does not tell is None or empty, and `problem()` and `refused()` say
why. Nothing here waits for ever: a call that does not come back within `nvmlcalls.LIMIT_S` is
given up. The one exception is `Handle`, which is meant for a thread that nobody waits for.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import Any

from autotune import nvmlcalls
from autotune.nvmlcalls import LOST, Library, Refusal

# Bits of NVML's clock event reasons. Left out: an idle GPU (1), clocks that someone set (2, 256)
# and clocks tied to another GPU's (16) are no trouble of the moment.
_THROTTLE_WORDS = {
    4: "power cap",
    8: "hardware slowdown",
    32: "software thermal slowdown",
    64: "hardware thermal slowdown",
    128: "power brake",
}

_making = threading.Lock()


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds memory of a GPU.

    Attributes:
        pid: Its number as the host counts; in a container that is none of the numbers inside.
        bytes: What it holds; None where the driver does not tell.
    """

    pid: int
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or one of the parts that MIG cuts it into.

    Attributes:
        uuid: NVML's id, "GPU-..." or "MIG-...".
        name: The product; of a part, with the part's size.
        bus_id: Its place on the PCI bus, such as "00000000:07:00.0"; "" where NVML does not tell.
        parent: Of a part, the UUID of the whole GPU; else "".
    """

    uuid: str
    name: str
    bus_id: str
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A GPU, or a part of one, at one moment; None for what it does not tell.

    Attributes:
        total_bytes: Memory that there is.
        free_bytes: Memory that nobody holds, without what the driver keeps for itself.
        temperature_c: Degrees Celsius; of a part, as all below, of the whole GPU.
        power_w: Watts.
        clock_mhz: Clock of the multiprocessors.
        throttled: What slows that clock down, in words.
        lost: Why the GPU cannot be used any more; "" where it can.
    """

    total_bytes: int | None = None
    free_bytes: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    clock_mhz: int | None = None
    throttled: tuple[str, ...] = ()
    lost: str = ""


class Handle:
    """A GPU, or a part of one, to be asked again and again at short intervals.

    It asks NVML directly, without a thread and a limit for each call: if the driver hangs, so
    does the caller.
    """

    def __init__(self, library: Library, own: Any, whole: Any) -> None:
        self._library, self._own, self._whole = library, own, whole

    def memory(self) -> tuple[int, int] | None:
        """Total and free bytes; None where NVML does not tell."""
        memory: tuple[int, int] | None = self._library.tell("memory", self._own)
        return memory

    def health(self) -> Reading:
        """Everything that NVML tells at this moment."""
        sensors = ("temperature", "power", "clock", "throttle reasons")
        # A part has memory of its own; of its sensors it would say "not supported".
        answers = [self._library.ask("memory", self._own)]
        answers += [self._library.ask(what, self._whole) for what in sensors]
        memory, temperature, power, clock, reasons = (
            None if isinstance(answer, Refusal) else answer for answer in answers
        )
        total, free = memory or (None, None)
        return Reading(
            total_bytes=total,
            free_bytes=free,
            temperature_c=temperature,
            power_w=power,
            clock_mhz=clock,
            throttled=tuple(word for bit, word in _THROTTLE_WORDS.items() if (reasons or 0) & bit),
            lost=next((a.why for a in answers if isinstance(a, Refusal) and a.code in LOST), ""),
        )


def gpus() -> list[Gpu]:
    """Every GPU, and the parts of those that MIG cuts; none where `problem()` has a reason.

    CUDA_VISIBLE_DEVICES hides none of them; `cuda.devices()` are those that this process may use.
    """
    library = _library()
    return library.in_time(lambda: _list(library)) or []


def find(uuid: str = "", bus_id: str = "") -> Gpu | None:
    """The GPU with that UUID, else the one at that place on the PCI bus.

    Args:
        uuid: With or without the "GPU-" or "MIG-" that stands before it. Without "GPU-" it may
            be that of a part, and then no whole GPU is taken for it.
        bus_id: With a domain of four or eight digits. Of a GPU that is cut, this means the part
            if there is just one.

    Returns:
        None where there is none, or where it is not sure which one is meant.
    """
    known = gpus()
    same = [gpu for gpu in known if uuid and _bare(gpu.uuid) == _bare(uuid)]
    if same:
        return same[0]
    there = [gpu for gpu in known if bus_id and _place(gpu.bus_id) == _place(bus_id)]
    parts = [gpu for gpu in there if gpu.parent]
    is_whole = not parts and (not uuid or uuid.upper().startswith("GPU-"))
    usable = there if is_whole else parts  # no program runs on the whole of a GPU that is cut
    return usable[0] if len(usable) == 1 else None


def read(uuid: str) -> Reading:
    """Everything that NVML tells of a GPU or a part; an empty reading where it tells nothing."""
    library = _library()

    def ask() -> Reading:
        own = library.ask("GPU of a UUID", uuid)
        return _handle(library, uuid, own).health()  # one that is lost may be refused already

    return library.in_time(ask) or Reading()


def open_handle(uuid: str) -> Handle | None:
    """A handle of a GPU or a part; None where NVML does not give one."""
    library = _library()

    def ask() -> Handle | None:
        own = library.tell("GPU of a UUID", uuid)
        return _handle(library, uuid, own) if own is not None else None

    return library.in_time(ask)


def holders(uuid: str) -> list[Holder] | None:
    """The processes that hold memory of a GPU or a part; None where NVML does not tell."""
    library = _library()

    def ask() -> list[Holder] | None:
        gpu = library.ask("GPU of a UUID", uuid)
        computing = library.tell("computing processes", gpu)
        drawing = library.tell("drawing processes", gpu)  # of a part NVML does not tell these
        if computing is None:
            return None
        # Who does both stands in both lists, with the same bytes.
        return [Holder(pid, held) for pid, held in dict((drawing or []) + computing).items()]

    return library.in_time(ask)


def versions() -> dict[str, str]:
    """Versions of the NVIDIA "driver" and of "nvml"; what is unknown is left out."""
    library = _library()

    def ask() -> dict[str, str]:
        told = {name: library.tell(f"{name} version") for name in ("driver", "nvml")}
        return {name: version for name, version in told.items() if version}

    return library.in_time(ask) or {}


def problem() -> str:
    """Why NVML cannot be used here, in words; "" where it lists at least one GPU."""
    library = _library()
    if library.in_time(lambda: _list(library)):
        return ""
    if library.is_stuck():
        return f"NVML did not answer within {nvmlcalls.LIMIT_S:g} s"
    needed = ("import", "open", "number of GPUs", "GPU", "UUID")
    return next((library.refused[what] for what in needed if what in library.refused), "no GPU")


def refused() -> dict[str, str]:
    """What NVML did not tell when it was last asked for it, and why.

    Some of it is usual: many GPUs refuse "MIG mode", and a part refuses "drawing processes".
    """
    return dict(_library().refused)


def reset() -> None:
    """Close NVML and forget what is known of it, for tests."""
    if _made.cache_info().currsize:
        _library().close()
        _made.cache_clear()


def _library() -> Library:
    with _making:  # two threads that ask first would make, and open, one each
        return _made()


@functools.cache
def _made() -> Library:
    return Library()


def _handle(library: Library, uuid: str, own: Any) -> Handle:
    whole = library.ask("whole of a MIG part", own) if uuid.startswith("MIG-") else own
    return Handle(library, own, whole)


def _list(library: Library) -> list[Gpu]:
    found: list[Gpu] = []
    for index in range(library.tell("number of GPUs") or 0):
        handle = library.ask("GPU", index)
        whole = _describe(library, handle)
        if whole is not None:  # one that is lost must not hide the others
            found += [whole, *_parts(library, handle, whole)]
    return found


def _parts(library: Library, handle: Any, whole: Gpu) -> list[Gpu]:
    most = library.tell("most MIG parts", handle) if library.tell("MIG mode", handle) else 0
    parts = [
        _describe(library, library.ask("MIG part", handle, index), whole)
        for index in range(most or 0)
    ]
    return [part for part in parts if part is not None]  # few GPUs have all that they may have


def _describe(library: Library, handle: Any, whole: Gpu | None = None) -> Gpu | None:
    """Look at a GPU, or at a part of `whole`; None where it has no UUID to know it by."""
    uuid = library.tell("UUID", handle)
    if not uuid:
        return None
    name = library.tell("name", handle) or "unknown NVIDIA GPU"
    if whole is not None:
        return Gpu(uuid, name, whole.bus_id, whole.uuid)
    return Gpu(uuid, name, library.tell("bus id", handle) or "")


def _bare(uuid: str) -> str:
    return uuid.lower().removeprefix("mig-").removeprefix("gpu-")


def _place(bus_id: str) -> str:
    """A bus id without the zeros before its domain: CUDA writes four digits, NVML eight."""
    return bus_id.lower().lstrip("0") if bus_id.count(":") == 2 else f":{bus_id.lower()}"
