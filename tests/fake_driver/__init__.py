"""NVIDIA's two libraries, NVML and CUDA's driver, as fakes: any GPUs, any answer, any fault.

They are two small C libraries, so that what is tested is the real `pynvml` and the real ctypes
calls. Both are told what to answer by one text file (`state.h` has its format), which a
`FakeDriver` writes; a call that is under way already sees the new one.

A child process finds them through `FakeDriver.env`. In this process `FakeDriver.loaded()` hands
them to `pynvml` and `autotune.cuda` by their paths and takes them away again. They bear no
soname, or else the loader would give them to everybody who asks for "libnvidia-ml.so.1" later.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pynvml
import pytest

from autotune import cuda, nvml

NVML, CUDA = "libnvidia-ml.so.1", "libcuda.so.1"
WHOLE = "GPU-4fd2a1c0-9b1e-4c57-8f0a-6e1d2c3b4a50"
OTHER = "GPU-90bb21d7-33aa-4e0f-a5c4-0d9e8f7a6b51"
PART = "MIG-1c7e5f3a-2d4b-5a69-9c8d-7e6f5a4b3c52"
GIB = 2**30

_HANGS = -1
_SOURCES = Path(__file__).parent
_FLAGS = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-fvisibility=hidden")


class Call(NamedTuple):
    """A line of the log: a function; "gpu0", "gpu0.1" or "-"; and the code that it returned."""

    function: str
    device: str
    code: int


def need_compiler() -> None:
    """Skip the test where the libraries cannot be built; where NO_SKIPS is set, fail it."""
    if not sys.platform.startswith("linux") or shutil.which("gcc") is None:
        give_up = pytest.fail if os.environ.get("NO_SKIPS") else pytest.skip
        give_up("needs Linux and gcc, to build the fake driver")


@functools.cache
def build(without: tuple[str, ...] = ()) -> Path:
    """Build both libraries, once for this process, and return their folder.

    Args:
        without: Functions that they shall lack, as the library of an older driver does: the
            linker makes them local.

    Raises:
        subprocess.CalledProcessError: The compiler does not like them.
    """
    folder, objects = _folder(), _compile()
    hidden = folder / "hidden.map"
    hidden.write_text("".join(["{ local: ", *(f"{name}; " for name in ("none", *without)), "};"]))
    for source, library in (("nvml", NVML), ("cuda", CUDA)):
        parts = [str(objects / f"{name}.o") for name in (source, "state")]
        _gcc("-shared", f"-Wl,--version-script={hidden}", *parts, "-o", str(folder / library))
    return folder


@functools.cache
def _compile() -> Path:
    folder = _folder()
    for name in ("nvml", "cuda", "state"):
        _gcc("-c", *_FLAGS, str(_SOURCES / f"{name}.c"), "-o", str(folder / f"{name}.o"))
    return folder


def _gcc(*arguments: str) -> None:
    subprocess.run([shutil.which("gcc") or "gcc", "-pthread", *arguments], check=True)


def _folder() -> Path:
    """A new folder that is gone when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="fake-driver-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class FakeDriver:
    """Two GPUs, the first of which is the slower one, until it is told otherwise.

    Args:
        folder: Where its state and its log are written.
        without: Functions that its libraries lack.

    Attributes:
        env: What a child process needs in its environment to meet this driver.
    """

    def __init__(self, folder: Path, without: tuple[str, ...] = ()) -> None:
        self._folder = build(without)
        self._state, self._log = folder / "state", folder / "log"
        self._facts: dict[str, dict[str, object]] = {}
        self._faults: list[str] = []
        self.env = {"FAKE_DRIVER": str(self._state), "LD_LIBRARY_PATH": str(self._folder)}
        self.state("host", log=self._log, driver="570.86.15", nvml="12.570.86.15")
        for gpu, uuid, bus, speed in (("gpu0", WHOLE, "07", 1), ("gpu1", OTHER, "0B", 2)):
            name, bus_id = f"NVIDIA Fake {speed}", f"00000000:{bus}:00.0"
            self.state(gpu, uuid=uuid, name=name, bus=bus_id, speed=speed, mig=0)
            self.state(gpu, total=16 * GIB, used=GIB, reserved=GIB // 2)

    def state(self, subject: str, **facts: object) -> None:
        """State facts of the host or of a GPU; a list is one fact for each of its items."""
        self._facts.setdefault(subject, {}).update(facts)
        self._write()

    def cut(self, gpu: str, part: str = PART, number: int = 0, **facts: object) -> None:
        """Switch MIG on and make a part of 4 GiB."""
        self.state(gpu, mig=1)
        usual: Mapping[str, object] = {"total": 4 * GIB, "used": GIB}
        self.state(f"{gpu}.{number}", uuid=part, name=f"{gpu} MIG 1g.4gb", **{**usual, **facts})

    def remove(self, gpu: str) -> None:
        """Take a GPU or a part away, as if it fell off the bus."""
        del self._facts[gpu]
        self._write()

    def fail(self, function: str, code: int, gpu: str = "*", calls: str = "") -> None:
        """Let a function fail with a code; `calls` may name the first and the last call: "3 4"."""
        self.fault(function, f"code {code} {calls}", gpu)

    def fault(self, function: str, what: str, gpu: str = "*") -> None:
        """Let a function do what `state.h` has under "fault": "hang", "hang 300" or "crash"."""
        self._faults.append(f"{function} {gpu} {what}")
        self._write()

    def heal(self) -> None:
        """Take all faults away; calls that hang come back."""
        self._faults.clear()
        self._write()

    def calls(self) -> list[Call]:
        """All calls that came back until now, and those that hang."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        rows = [line.split() for line in lines]
        return [Call(function, device, int(code)) for function, device, code in rows]

    def is_hanging(self) -> bool:
        """Whether a call has begun to hang without end."""
        return any(call.code == _HANGS for call in self.calls())

    def functions(self) -> set[str]:
        """Names of the functions that were called."""
        return {call.function for call in self.calls()}

    @contextlib.contextmanager
    def loaded(self, **environment: str) -> Iterator[FakeDriver]:
        """Have this process meet the driver, with these environment variables besides."""
        libraries = [ctypes.CDLL(str(self._folder / name)) for name in (NVML, CUDA)]
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ, {**self.env, **environment}))
            for name in {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"} - environment.keys():
                os.environ.pop(name, None)
            stack.enter_context(mock.patch.object(cuda, "_LIBRARY", str(self._folder / CUDA)))
            stack.enter_context(fresh_pynvml(libraries[0]))
            for library in libraries:
                library.fake_forget()
            stack.callback(self._leave)
            yield self

    def _leave(self) -> None:
        self.heal()
        for thread in threading.enumerate():
            if thread.name == "nvml":  # it was given up; nothing of it shall reach another test
                threading.Thread.join(thread)

    def _write(self) -> None:
        lines = [f"fault {fault}" for fault in self._faults]
        for subject, facts in self._facts.items():
            for key, value in facts.items():
                values = value if isinstance(value, list) else [value]
                lines += [f"{subject} {key} {one}" for one in values]
        fresh = self._state.with_suffix(".new")
        fresh.write_text("\n".join([*lines, ""]), errors="surrogateescape")
        fresh.replace(self._state)


@contextlib.contextmanager
def fresh_pynvml(library: Any = None) -> Iterator[None]:
    """Let `pynvml` use this library, or load one by itself; afterwards, all is as before."""
    nvml.reset()
    with (
        mock.patch.object(pynvml, "nvmlLib", library),
        mock.patch.object(pynvml, "_nvmlLib_refcount", 0),
        mock.patch.dict(pynvml._nvmlGetFunctionPointer_cache, clear=True),
    ):
        try:
            yield
        finally:
            nvml.reset()
