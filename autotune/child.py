"""Children that probe: have them started by a keeper, ask, time out, and learn how they ended."""

from __future__ import annotations

import collections
import contextlib
import math
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

import autotune
from autotune.keeper import MESSAGE_BYTES, Begin, Command, Ended, Kill, Start, Started
from autotune.worker import Reply, Request

PATIENCE_S = 5.0  # for a child to end that has closed its channel: a core dump takes time
KILL_S = 10.0  # nothing lives that long after SIGKILL, but one that waits for a broken disk
MAX_REPLY_BYTES = 8 << 20
LOG_TAIL_BYTES = 4096

_GREETING = re.compile(r"[IWE]\d{4} |WARNING: All log messages|To enable the following")

# What the child is told of the environment: no tokens, no keys.
_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "PYTHONUTF8"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD"),  # a service with another allocator is measured with it
)
_ENVIRONMENT_PREFIXES = (
    *("LC_", "CUDA_", "NVIDIA_", "TF_", "XLA_", "JAX_", "KERAS_", "TORCH_", "PYTORCH_"),
    *("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "ONEDNN_", "DNNL_", "OPENVINO_"),
    *("MALLOC_", "GLIBC_"),
)


def _has_something(channel: socket.socket, timeout_s: float) -> bool:
    """Wait until something can be read; `select` takes no descriptor above 1,023."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(math.ceil(1000 * max(0.0, timeout_s))))


class ChildDied(Exception):
    """The child is gone, or had to be ended."""

    def __init__(self, reason: str, log: str, *, killed: bool = False, timed_out: bool = False):
        super().__init__(reason)
        self.reason = reason
        self.log = f"It last said: {log}" if log else ""
        self.killed = killed
        self.timed_out = timed_out


class Nursery:
    """The tuner's side of a keeper: has children started, and learns how they ended.

    Args:
        fork: Whether children may be forked from a process that has the backend imported, where
            that is safe; else each is started afresh.
        scratch: Folders that the keeper removes if this process goes without a word.
    """

    def __init__(self, *, fork: bool = True, scratch: Sequence[str] = ()) -> None:
        self._keeper, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "autotune.keeper", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is the tuner's business
        )
        theirs.close()
        self._log: collections.deque[bytes] = collections.deque(maxlen=8)
        self._drain = threading.Thread(target=self._drain_output, daemon=True)
        self._drain.start()
        self._children: list[Child] = []
        self._ended: dict[int, int] = {}  # exit statuses that nobody has asked for yet
        self._speaker = 0
        self._send(Begin(fork, tuple(scratch)))

    @property
    def is_lost(self) -> bool:
        """Whether the keeper is gone."""
        return self._process.poll() is not None

    def start(self, timeout_s: float) -> Child:
        """Start a child, beside those that there are.

        Raises:
            ChildDied: The keeper is gone, or took too long.
        """
        ours, theirs = socket.socketpair()
        self._log.clear()
        try:
            socket.send_fds(self._keeper, [msgspec.json.encode(Start())], [theirs.fileno()])
            pid = self._hear_started(timeout_s).pid
        except OSError:
            ours.close()
            raise ChildDied("could not be started: its keeper is gone", self.log()) from None
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._ended.pop(pid, None)  # of one before, which had the same number
        self._speaker = pid
        child = Child(self, ours, pid)
        self._children.append(child)
        return child

    def _send(self, command: Command) -> None:
        with contextlib.suppress(OSError):  # it is gone: whoever waits for its answer learns that
            self._keeper.send(msgspec.json.encode(command))

    def _hear(self, timeout_s: float) -> Started | Ended | None:
        """Wait for a message of the keeper; None where none comes."""
        if not _has_something(self._keeper, timeout_s):
            return None
        message = self._keeper.recv(MESSAGE_BYTES)
        if not message:
            raise ConnectionResetError
        heard = msgspec.json.decode(message, type=Started | Ended)
        if isinstance(heard, Ended):
            self._ended[heard.pid] = heard.status
        return heard

    def _hear_started(self, timeout_s: float) -> Started:
        deadline = time.monotonic() + timeout_s
        while heard := self._hear(deadline - time.monotonic()):
            if isinstance(heard, Started):
                return heard
        raise ChildDied(f"was not there within {timeout_s:.0f} s", self.log(), timed_out=True)

    def _hear_ended(self, pid: int, timeout_s: float) -> int | None:
        """Wait for a child's end; None where it does not come."""
        deadline = time.monotonic() + timeout_s
        while pid not in self._ended and self._hear(deadline - time.monotonic()):
            pass
        return self._ended.pop(pid, None)

    def status_of(self, pid: int) -> int | None:
        """Return how a child has ended, as `bury` does; None for one that lives."""
        with contextlib.suppress(OSError):
            while self._hear(0.0):
                pass
        return self._ended.get(pid)

    def bury(self, pid: int, patience_s: float = 0.0) -> int | None:
        """Wait that long for a child to end by itself, then kill it, with all that it started.

        Returns:
            Its exit status, or the negative number of the signal that ended it; None where it
            did not end by itself, or the keeper is gone too.
        """
        self._children = [child for child in self._children if child.pid != pid]
        status = None
        with contextlib.suppress(OSError):  # the keeper is gone, and the child with it
            status = self._hear_ended(pid, patience_s)
            if status is None:
                self._send(Kill(pid))
                self._hear_ended(pid, KILL_S)
        return status

    def listen_to(self, pid: int) -> None:
        """Forget what others printed: from now on this child works, and the others are idle."""
        if pid != self._speaker:
            self._speaker = pid
            self._log.clear()

    def log(self) -> str:
        """The end of what the child that works has printed, on one line."""
        return _tell_tale(b"".join(self._log)[-LOG_TAIL_BYTES:])

    def close(self) -> None:
        """Kill the children and the keeper, and wait until they are gone."""
        for child in tuple(self._children):
            child.end()
        self._process.kill()
        self._process.wait()
        self._keeper.close()
        self._drain.join(1)
        if self._process.stdout and not self._drain.is_alive():
            self._process.stdout.close()

    def _drain_output(self) -> None:
        """Native code prints; a pipe that nobody empties would stop it."""
        assert self._process.stdout is not None  # noqa: S101  we asked for a pipe
        descriptor = self._process.stdout.fileno()
        while data := os.read(descriptor, 1 << 16):
            self._log.append(data[-LOG_TAIL_BYTES:])


class Child:
    """One child process, and the channel to it.

    Attributes:
        pid: Its process id.
    """

    def __init__(self, nursery: Nursery, channel: socket.socket, pid: int) -> None:
        self.pid = pid
        self._nursery = nursery
        self._channel = channel
        self._buffer = bytearray()
        self._last_id = 0
        self._ended = False

    def ask(self, request: Request, timeout_s: float) -> Reply:
        """Send a request and wait for its answer.

        Raises:
            ChildDied: It died, took too long, or answered rubbish; it is gone now.
        """
        self._nursery.listen_to(self.pid)
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
            if left <= 0 or not _has_something(self._channel, left):
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
        # One that closed the channel may end by itself and say how.
        status = self._bury(0.0 if reason else PATIENCE_S)
        killed = status == -signal.SIGKILL
        reason = reason or _how_it_ended(status)
        return ChildDied(reason, self._nursery.log(), killed=killed, timed_out=timed_out)

    def _bury(self, patience_s: float) -> int | None:
        self._ended = True
        try:
            return self._nursery.bury(self.pid, patience_s)
        finally:
            self._channel.close()  # not before: it would have something to complain of

    @property
    def was_killed(self) -> bool:
        """Whether somebody has killed it since it last answered."""
        return self._nursery.status_of(self.pid) == -signal.SIGKILL

    def end(self) -> None:
        """Kill the child and all that it started, and wait until they are gone."""
        if not self._ended:
            self._bury(0.0)


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
