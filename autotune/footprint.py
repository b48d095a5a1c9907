"""The footprint of a candidate's calls: what an allocator counts, and what the process grew by.

The framework's allocator does not know what a session of another library takes. That is read
from the process, which holds much besides: so a session is charged with what the process grew by
while the session was at work, and with nothing that came in the meantime.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType

from autotune import host
from autotune.allocator import Allocator


class Growth:
    """What the process grew by while one session was at work.

    Free memory goes back to the system before and after: a session could take of it unseen
    otherwise, or be charged with what its calls have let go.

    Args:
        release: Has the session let go of what it keeps for its next calls. Else a small batch
            would be charged with what a large one took, and all sessions together keep too much.
    """

    def __init__(self, release: Callable[[], None] | None = None) -> None:
        self._release = release
        self._kept_bytes = 0
        self._before_bytes = 0

    def begin(self) -> None:
        """Begin to charge the session with what the process grows by."""
        host.give_back_free_memory()
        host.reset_peak_resident()
        self._before_bytes = host.resident_bytes()

    def end(self) -> int:
        """End it, and return the most that the session held since, what it kept before included."""
        highest = host.peak_resident_bytes() or host.resident_bytes()
        peak = self._kept_bytes + max(0, highest - self._before_bytes)
        if self._release:
            with contextlib.suppress(Exception):  # where memory ran out, it may not answer
                self._release()
        host.give_back_free_memory()
        self._kept_bytes = max(0, self._kept_bytes + host.resident_bytes() - self._before_bytes)
        return peak


class Footprint:
    """The highest memory while one candidate is measured; used as a context manager around that.

    Args:
        allocator: Counts the memory of the device that runs the model.
        growth: Of the session that makes the calls; None for an engine whose memory the
            allocator counts.

    Attributes:
        device_idle_bytes: What the allocator held before the first call; None if it does not count.
        device_peak_bytes: The most that it held, and the session with it.
        host_idle_bytes: Resident memory of the process before the first call.
        host_peak_bytes: The most there was of it; None off Linux.
    """

    device_idle_bytes: int | None
    device_peak_bytes: int | None
    host_idle_bytes: int | None
    host_peak_bytes: int | None

    def __init__(self, allocator: Allocator, growth: Growth | None) -> None:
        self._allocator = allocator
        self._growth = growth

    def __enter__(self) -> Footprint:
        if self._growth:
            self._growth.begin()
        self._allocator.reset()
        host.reset_peak_resident()
        self.device_idle_bytes = self._allocator.held_bytes()
        self.host_idle_bytes = host.peak_resident_bytes()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.host_peak_bytes = host.peak_resident_bytes()
        self.device_peak_bytes = self._allocator.peak_bytes()
        if self._growth:
            grown_bytes = self._growth.end()
            if self.device_peak_bytes is not None:
                self.device_peak_bytes += grown_bytes
