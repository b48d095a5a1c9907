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

    Attributes:
        kept_bytes: What stayed all the same, without files that are mapped. The C library keeps of
            each thread's freed memory up to 64 MiB at the end of its heap, which it cannot be told
            to give back.
    """

    def __init__(self, release: Callable[[], None] | None = None) -> None:
        self._release = release
        self._before_bytes = self._own_before_bytes = 0
        self._highest_bytes: int | None = None
        self.kept_bytes = 0

    def begin(self) -> None:
        """Begin to charge the session with what the process grows by."""
        host.give_back_free_memory()
        host.reset_peak_resident()
        self._before_bytes, self._own_before_bytes = host.resident_bytes(), host.anonymous_bytes()

    def mark(self) -> None:
        """Take the highest until now for the highest: what comes until the end is not charged."""
        self._highest_bytes = host.peak_resident_bytes() or host.resident_bytes()

    def end(self, held_bytes: int = 0) -> int:
        """End it, and return the most that the session held since, what it kept before included.

        Args:
            held_bytes: Of arrays that are still there, and will be let go: they are not kept.
        """
        if self._highest_bytes is None:
            self.mark()
        highest, self._highest_bytes = self._highest_bytes or 0, None
        peak = self.kept_bytes + max(0, highest - self._before_bytes)
        if self._release:
            with contextlib.suppress(Exception):  # where memory ran out, it may not answer
                self._release()
        host.give_back_free_memory()
        grown_bytes = host.anonymous_bytes() - self._own_before_bytes - held_bytes
        self.kept_bytes = max(0, self.kept_bytes + grown_bytes)
        return peak


class Footprint:
    """The highest memory while one candidate is measured; used as a context manager around that.

    Where it is used more than once, all is charged but what lies in between.

    Args:
        allocator: Counts the memory of the device that runs the model.
        growth: Of the session that makes the calls; None for an engine whose memory the
            allocator counts.

    Attributes:
        held_bytes: Of arrays that are still there at the end, and let go before the next use.
        device_idle_bytes: What the allocator held before the first call, and the session with it;
            None if the allocator does not count.
        device_peak_bytes: The most that they held.
        device_left_bytes: What they held after the last call.
        host_idle_bytes: Resident memory of the process before the first call.
        host_peak_bytes: The most there was of it; None off Linux.
    """

    device_idle_bytes: int | None
    device_peak_bytes: int | None
    device_left_bytes: int | None
    host_idle_bytes: int | None
    host_peak_bytes: int | None

    def __init__(self, allocator: Allocator, growth: Growth | None) -> None:
        self._allocator = allocator
        self._growth = growth
        self._is_begun = self._is_marked = False
        self._peak_bytes: int | None = None
        self.held_bytes = 0
        self.device_peak_bytes = self.host_peak_bytes = None

    def __enter__(self) -> Footprint:
        if self._growth:
            self._growth.begin()
        self._allocator.reset()
        host.reset_peak_resident()
        if not self._is_begun:
            self.device_idle_bytes = self._with_session(self._allocator.held_bytes())
            self.host_idle_bytes = host.peak_resident_bytes()
            self._is_begun = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.mark()
        if self._growth:
            grown_bytes = self._growth.end(self.held_bytes)
            if self._peak_bytes is not None:
                self._peak_bytes += grown_bytes
        self.device_peak_bytes = _higher(self.device_peak_bytes, self._peak_bytes)
        self._is_marked = False
        self.held_bytes = 0
        self.device_left_bytes = self._with_session(self._allocator.held_bytes())

    def mark(self) -> None:
        """Charge what was held until now, and nothing that comes until the end."""
        if self._is_marked:
            return
        self._is_marked = True
        self.host_peak_bytes = _higher(self.host_peak_bytes, host.peak_resident_bytes())
        self._peak_bytes = self._allocator.peak_bytes()
        if self._growth:
            self._growth.mark()

    def _with_session(self, held_bytes: int | None) -> int | None:
        if held_bytes is None or self._growth is None:
            return held_bytes
        return held_bytes + self._growth.kept_bytes


def _higher(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
