"""The watch: a thread that looks at memory and health of the device while a probe runs.

Nobody else looks: a driver that hangs then holds up this thread only.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger("autotune")

PATIENCE_S = 5.0  # a look takes microseconds; a driver may wake a GPU for two seconds


@dataclass(frozen=True, slots=True)
class Look:
    """The device at one moment.

    Attributes:
        free_bytes: Memory that nobody holds; None where that is not told.
        own_bytes: What this process holds of the same memory; None where that is not told.
        throttled: What slows it down, in words.
        lost: Why it cannot be used any more; "" where it can.
    """

    free_bytes: int | None = None
    own_bytes: int | None = None
    throttled: tuple[str, ...] = ()
    lost: str = ""


class Watch:
    """Looks from `start` to `stop`, first and last at these moments, and in between.

    Args:
        look: Looks once.
        every_s: Seconds between looks.
        on_look: Is told of each look, in the watching thread.

    Attributes:
        latest: The last look; one that tells nothing before the first.
        is_stuck: Whether a look did not come back. It was the last one.
    """

    def __init__(
        self, look: Callable[[], Look], every_s: float, on_look: Callable[[Look], None]
    ) -> None:
        self._look = look
        self._every_s = every_s
        self._on_look = on_look
        self._going = threading.Lock()
        self._thread: threading.Thread | None = None
        self.latest = Look()
        self.is_stuck = False

    def start(self) -> None:
        """Begin to look, and wait for the first look."""
        if self.is_stuck:
            return
        self._going, first = threading.Lock(), threading.Event()
        self._going.acquire()
        run = threading.Thread(target=self._run, args=(self._going, first), daemon=True)
        run.start()
        self._thread = run
        self.is_stuck = not first.wait(PATIENCE_S)

    def stop(self) -> None:
        """Look once more and then no more."""
        run, self._thread = self._thread, None
        if run is None:
            return
        self._going.release()
        if not self.is_stuck:
            run.join(PATIENCE_S)
            self.is_stuck = run.is_alive()

    def _run(self, going: threading.Lock, first: threading.Event) -> None:
        self._take_a_look()
        first.set()
        # A bare lock: an event's wait would hold the interpreter's lock far longer at each wake,
        # which the calls that are timed are waiting for.
        while not going.acquire(timeout=self._every_s):
            self._take_a_look()
        self._take_a_look()

    def _take_a_look(self) -> None:
        try:
            look = self._look()
        except Exception:  # such as a file that cannot be opened just now
            _log.debug("A look at the device failed.", exc_info=True)
            look = Look()
        if not self.is_stuck:  # nobody waits for this one any more
            self.latest = look
            self._on_look(look)
