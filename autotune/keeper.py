"""The keeper: a process between the tuner and its workers, which starts, ends and buries them.

It has imported the backend and never used it, so that a worker forked from it is ready at once;
where that is not safe it starts each worker afresh. It answers to the tuner's end of a socket:
once that is gone, however the tuner went, it kills the worker, clears up and ends. A thread of
the worker could not do so while native code holds the interpreter's lock.

Run by `child` as `python -m autotune.keeper FD`, where FD is a socket that keeps messages apart.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from autotune import worker

OOM_SCORE = 900  # when memory runs out the kernel ends the worker first, the tuner last
# What keeps libraries from starting threads when they are imported: NumPy's for matrices, and the
# allocator of pyarrow, which Keras imports where it is installed.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
FORKABLE = "tensorflow"  # forked after its import and before its use; of the others none is known


class Begin(Struct, frozen=True, tag="begin"):
    """The first message.

    Attributes:
        fork: Whether to import the backend and fork, where that is safe.
        scratch: Folders to remove if the tuner goes without a word.
    """

    fork: bool
    scratch: tuple[str, ...] = ()


class Start(Struct, frozen=True, tag="start"):
    """Start a worker; its end of a socket comes along."""


class Kill(Struct, frozen=True, tag="kill"):
    """Kill a worker, and all that it started."""

    pid: int


class Started(Struct, frozen=True, tag="started"):
    """There is one worker more."""

    pid: int
    forked: bool


class Ended(Struct, frozen=True, tag="ended"):
    """A worker is gone.

    Attributes:
        pid: Its process id.
        status: Its exit status; of a signal that killed it, the negative number.
    """

    pid: int
    status: int


Command = Begin | Start | Kill
MESSAGE_BYTES = 1 << 16


def main() -> None:
    """Serve the tuner at the other end of the socket whose number is the only argument."""
    tuner = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the tuner's business
    worker.volunteer_for_the_kernel(OOM_SCORE)
    begin = msgspec.json.decode(tuner.recv(MESSAGE_BYTES), type=Begin)
    Keeper(tuner, begin).serve()


class Keeper:
    """Starts workers, and tells how each ended."""

    def __init__(self, tuner: socket.socket, begin: Begin) -> None:
        self._tuner = tuner
        self._scratch = begin.scratch
        self._forks = begin.fork and _import_backend()
        self._workers: dict[int, int] = {}  # process id by the descriptor that tells of its end
        self._poll = select.poll()
        self._poll.register(tuner, select.POLLIN)

    def serve(self) -> None:
        """Do as the tuner says, and tell of each worker's end, until the tuner is gone."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._tuner.fileno():
                    self._obey()
                else:
                    self._tell_of_end(descriptor)

    def _obey(self) -> None:
        message, descriptors = b"", list[int]()
        with contextlib.suppress(ConnectionResetError):  # it went with a message of ours unread
            message, descriptors, _, _ = socket.recv_fds(self._tuner, MESSAGE_BYTES, 1)
        if not message:
            self._leave()
        command = msgspec.json.decode(message, type=Command)
        if isinstance(command, Start):
            self._start(*descriptors)
        elif isinstance(command, Kill) and command.pid in self._workers.values():
            _kill(command.pid)  # one that has gone by itself may have its number used again

    def _start(self, channel: int) -> None:
        pid = self._fork(channel) if self._forks else _spawn(channel)
        os.close(channel)
        process = os.pidfd_open(pid)
        self._workers[process] = pid
        self._poll.register(process, select.POLLIN)
        self._say(Started(pid, self._forks))

    def _fork(self, channel: int) -> int:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            self._tuner.close()
            for process in self._workers:
                os.close(process)
            os._exit(_status_of_work(channel))  # past the keeper's own frames
        return pid

    def _tell_of_end(self, process: int) -> None:
        self._poll.unregister(process)
        os.close(process)
        pid = self._workers.pop(process)
        self._say(Ended(pid, _bury(pid)))

    def _say(self, message: Started | Ended) -> None:
        try:
            self._tuner.send(msgspec.json.encode(message))
        except OSError:
            self._leave()

    def _leave(self) -> None:
        for pid in self._workers.values():
            _kill(pid)
        for pid in self._workers.values():
            _bury(pid)
        for folder in self._scratch:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


def _status_of_work(channel: int) -> int:
    """Be a worker, and return the exit status, as the interpreter would give it."""
    try:
        worker.work(channel)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _import_backend() -> bool:
    """Import all that a worker needs; whether a fork of this process is safe then."""
    if _backend() != FORKABLE:
        return False
    try:
        with _one_thread():
            import keras  # noqa: F401
            import tensorflow as tf  # noqa: F401

            from autotune import bench, models  # noqa: F401
    except Exception:  # the worker meets it again, and can say so
        return False
    gc.freeze()  # a worker that collects garbage need not copy these pages
    return _may_fork()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Have libraries start no threads of their own while they are imported."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def _backend() -> str:
    """The backend that Keras will choose."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    configured = ""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        configured = json.loads((home / "keras.json").read_text()).get("backend", "")
    return os.environ.get("KERAS_BACKEND") or configured or "tensorflow"


def _may_fork() -> bool:
    """Whether this process has one thread only, and no GPU open: neither survives a fork."""
    threads = list(Path("/proc/self/task").iterdir())
    files = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one for this listing is closed by now
            files.append(str(link.readlink()))
    return len(threads) == 1 and not any(file.startswith("/dev/nvidia") for file in files)


def _spawn(channel: int) -> int:
    os.set_inheritable(channel, True)
    command = [sys.executable, "-P", "-m", "autotune.worker", str(channel)]
    return os.posix_spawn(sys.executable, command, os.environ, setsid=True)


def _kill(pid: int) -> None:
    """Kill a worker, and all that it started."""
    for how in (os.killpg, os.kill):  # a process just forked has no group of its own yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            how(pid, signal.SIGKILL)


def _bury(pid: int) -> int:
    """Kill what an ended worker has left behind, and return how it ended."""
    _kill(pid)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main()
