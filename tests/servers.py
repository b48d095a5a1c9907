"""Servers in child processes of a test, reached over the loopback, gone when it ends."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx

HOME = Path(__file__).parents[1]
START_S = 400.0
STOP_S = 20.0


def free_port() -> int:
    """A port that nobody listens on now, and that nobody is given who asks for any.

    From below those that Linux gives (32768 and up) and above those of Ray's workers (to 19999):
    what a server starts before it listens would else take its port now and then.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("No free port of a hundred that were tried.")


def environment(**more: str) -> dict[str, str]:
    """What a child needs to find this package, and to be quiet."""
    return {**os.environ, "PYTHONPATH": str(HOME), "TF_CPP_MIN_LOG_LEVEL": "3", **more}


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], folder: Path, ready: str, more: dict[str, str], status: int = 200
) -> Iterator[httpx.Client]:
    """Run a server until the block ends; it is there when `ready` answers.

    Args:
        command: Starts it; it ends by itself when its standard input is closed, or is told to.
        folder: Where it runs.
        ready: URL that tells that it is there.
        more: Its environment beside that of the tests.
        status: What `ready` answers with then.
    """
    import httpx

    log = folder.with_name(f"{folder.name}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*map(str, command)],
            cwd=folder,
            env=environment(**more),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(process, ready, status, log)
        with httpx.Client(timeout=300) as client:
            yield client
    finally:
        _end(process)


def _wait_for(process: subprocess.Popen[bytes], ready: str, status: int, log: Path) -> None:
    import httpx

    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(ready, timeout=5).status_code == status:
                return
        time.sleep(0.1)
    pytest.fail(f"The server did not start:\n{log.read_text(errors='replace')[-4000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to end, then make it: it and all that it started are one group."""
    assert process.stdin is not None
    process.stdin.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
            return
