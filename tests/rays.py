"""What the tests on Ray have in common: their marks, and workers to be found and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import psutil
import pytest

ON_RAY = [
    pytest.mark.needs("ray"),
    # Ray Data 2.60 sets settings of its own that it has deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
    # Ray Serve 2.60 describes its settings as Pydantic 1 did.
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field` is deprecated"),
    # Ray forks to start its processes, which then run programs of their own; JAX was loaded before.
    pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning"),
]


def workers(name: str) -> list[int]:
    """Process ids of the workers of clusters that this process started, by what they do now."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.cmdline() and child.cmdline()[0].startswith(f"ray::{name}"):
                found.append(child.pid)
    return found


@contextlib.contextmanager
def killing(name: str, every_s: float) -> Iterator[list[int]]:
    """Kill a worker of that name every few seconds, and tell which were."""
    killed: list[int] = []
    done = threading.Event()

    def kill() -> None:
        while not done.wait(every_s):
            for pid in workers(name)[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()
