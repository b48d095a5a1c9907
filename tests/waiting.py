"""Waiting for what must come true, such as the end of a process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

_T = TypeVar("_T")


def wait_until(condition: Callable[[], _T], seconds: float = 300.0) -> _T:
    """Return what `condition` gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("It did not come true in time")


def is_gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended; one that nobody waited for counts as ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
