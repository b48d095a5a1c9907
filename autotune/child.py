"""One child process and the channel to it: start, ask, time out, and learn how it ended."""

from __future__ import annotations

import collections
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec

import autotune
from autotune.worker import Reply, Request

MAX_REPLY_BYTES = 8 << 20
LOG_TAIL_BYTES = 4096

_GREETING = re.compile(r"[IWE]\d{4} |WARNING: All log messages|To enable the following")

# What the child is told of the environment: no tokens, no keys.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONUTF8")
_ENVIRONMENT_PREFIXES = (
    *("LC_", "CUDA_", "NVIDIA_", "TF_", "XLA_", "JAX_", "KERAS_"),
    *("OMP_", "OPENBLAS_", "MKL_"),
)


class ChildDied(Exception):
    """The child is gone, or had to be ended."""

    def __init__(self, reason: str, log: str, *, killed: bool = False, timed_out: bool = False):
        super().__init__(reason)
        self.reason = reason
        self.log = f"It last said: {log}" if log else ""
        self.killed = killed
        self.timed_out = timed_out


class Child:
    """One child process, and the channel to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "autotune.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is the tuner's business; one killpg reaches all
        )
        theirs.close()
        self._channel = ours
        self._buffer = bytearray()
        self._log: collections.deque[bytes] = collections.deque(maxlen=8)
        self._drain = threading.Thread(target=self._drain_output, daemon=True)
        self._drain.start()
        self._last_id = 0

    def ask(self, request: Request, timeout_s: float) -> Reply:
        """Send a request and wait for its answer.

        Raises:
            ChildDied: It died, took too long, or answered rubbish; it is gone now.
        """
        self._last_id += 1
        request = msgspec.structs.replace(request, id=self._last_id)
        deadline = time.monotonic() + timeout_s
        try:
            self._channel.sendall(msgspec.json.encode(request) + b"\n")
            line = self._read_line(deadline)
            reply = msgspec.json.decode(line, type=Reply)
        except TimeoutError:
            raise self._death(f"gave no answer within {timeout_s:.0f} s", timed_out=True) from None
        except (OSError, EOFError):
            raise self._death("") from None
        except (msgspec.MsgspecError, ValueError):
            raise self._death("answered rubbish") from None
        if reply.id != self._last_id:
            raise self._death("answered another question")
        return reply

    def _read_line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._channel], [], [], left)[0]:
                raise TimeoutError
            data = self._channel.recv(1 << 16)
            if not data:
                raise EOFError
            if len(self._buffer) > MAX_REPLY_BYTES:
                raise ValueError
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _death(self, reason: str, *, timed_out: bool = False) -> ChildDied:
        if not reason:
            self._wait_briefly()  # it closed the channel: let it end by itself and say how
        status = self.process.poll()
        self.end()
        log = _tell_tale(b"".join(self._log)[-LOG_TAIL_BYTES:])
        killed = status == -signal.SIGKILL
        return ChildDied(reason or _how_it_ended(status), log, killed=killed, timed_out=timed_out)

    def _wait_briefly(self) -> None:
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            return

    def end(self) -> None:
        """Kill the child and all that it started, and wait until they are gone."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.process.kill()
        self.process.wait()
        self._channel.close()
        self._drain.join(1)
        if self.process.stdout and not self._drain.is_alive():
            self.process.stdout.close()

    def _drain_output(self) -> None:
        """Native code prints; a pipe that nobody empties would stop it."""
        assert self.process.stdout is not None  # noqa: S101  we asked for a pipe
        descriptor = self.process.stdout.fileno()
        while data := os.read(descriptor, 1 << 16):
            self._log.append(data[-LOG_TAIL_BYTES:])


def _tell_tale(output: bytes) -> str:
    """The end of what a child printed, on one line, without TensorFlow's greetings."""
    lines = output.decode(errors="replace").splitlines()
    kept = " ".join(line.strip() for line in lines if not _GREETING.match(line))
    return "".join(char for char in kept if char.isprintable())[-500:]


def _how_it_ended(status: int | None) -> str:
    if status is None:
        return "closed its channel"
    if status < 0:
        named = {one.value: one.name for one in signal.Signals}
        return f"died of {named.get(-status, f'signal {-status}')}"
    return f"ended with status {status}"


def _environment() -> dict[str, str]:
    """What the child may know, and where it finds this package."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }
    if "keras" in sys.modules:
        passed["KERAS_BACKEND"] = sys.modules["keras"].config.backend()
    home = str(Path(autotune.__file__).parents[1])
    paths = [path for path in passed.get("PYTHONPATH", "").split(os.pathsep) if path]
    passed["PYTHONPATH"] = os.pathsep.join([*paths, home])
    return passed
