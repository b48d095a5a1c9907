"""The pulse: a small piece of work, done again and again, that tells when processors are held up.

A hypervisor may give them to others for tens of milliseconds, and no counter of the guest tells.
But the time that a thread has computed goes on meanwhile: the same work then seems to take many
times as long as it usually does.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

# Half a percent of a processor. Measured on two of a virtual machine, MobileNetV2 on both: of what
# blocks of four calls differed by, 13 to 18 %, taking away what was lost left 5 to 8 %.
PERIOD_S = 0.004
WORK = bytes(16_384)  # to hash, in 25 microseconds or so, without the interpreter's lock
# A processor is held up while the work takes so many times as long as usual, if it takes so many
# at the worst: at a lower clock, or on a smaller core, it takes up to two or three.
SLOW, HELD_UP = 1.5, 4.0
REMEMBERED = 500  # pulses that tell what is usual
FEWEST = 10  # before that nothing is

Timing = tuple[float, float]  # when something began and ended, in seconds of `time.perf_counter`
Floats = npt.NDArray[np.float64]


class Pulse:
    """Feels how fast a processor is, on a thread of its own, while it is entered.

    Example:
        >>> with Pulse() as pulse:
        ...     began = time.perf_counter()
        ...     time.sleep(0.01)
        ...     ended = time.perf_counter()
        >>> (lost_s,) = pulse.lost_s([(began, ended)])
        >>> 0.0 <= lost_s < ended - began
        True
    """

    def __init__(self) -> None:
        self._usual_s: deque[float] = deque(maxlen=REMEMBERED)
        self._beats: list[Timing] = []  # when it was felt, and what the work took
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._beats.clear()
        self._over.clear()
        self._thread = threading.Thread(target=self._beat_on, name="autotune-pulse", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._usual_s.extend(work_s for _, work_s in self._beats)

    def _beat_on(self) -> None:
        while True:
            is_over = self._over.wait(PERIOD_S if self._beats else 0.0)
            began_s, before_s = time.perf_counter(), time.thread_time()
            hashlib.sha256(WORK).digest()
            self._beats.append((began_s, time.thread_time() - before_s))
            if is_over:
                return

    def lost_s(self, calls: Sequence[Timing]) -> tuple[float, ...]:
        """Return the seconds of each call in which processors were held up, by the work undone.

        Args:
            calls: Within the time in which it was last entered.
        """
        usual_s = float(np.median(self._usual_s)) if len(self._usual_s) >= FEWEST else 0.0
        if not usual_s:  # or the system's clock of threads is too coarse
            return (0.0,) * len(calls)
        moments_s, works_s = np.array(self._beats).T
        undone_s = undone_until(moments_s, works_s / usual_s)
        starts_s, ends_s = np.array(calls).T
        lost_s = np.interp(ends_s, moments_s, undone_s) - np.interp(starts_s, moments_s, undone_s)
        return tuple(np.round(lost_s, 9).tolist())


def undone_until(moments_s: Floats, slowness: Floats) -> Floats:
    """Return the seconds that were lost up to each moment.

    Args:
        moments_s: When the pulse was felt, rising; shape `(beats,)`.
        slowness: How many times as long as usual its work took; same shape. From one moment to the
            next the speed goes evenly.

    Example:
        >>> slowness = np.array([1.0, 2.0, 1.0, 10.0, 10.0, 1.0])
        >>> undone_until(np.arange(6.0), slowness).round(2).tolist()
        [0.0, 0.0, 0.0, 0.45, 1.35, 1.8]
    """
    held_up = slowness >= SLOW
    spells = np.cumsum(np.diff(held_up, prepend=False))  # a number for each stretch of either kind
    worst = np.zeros(spells[-1] + 1)
    np.maximum.at(worst, spells, slowness)
    idle = np.where(held_up & (worst[spells] >= HELD_UP), 1 - 1 / np.maximum(slowness, 1.0), 0.0)
    undone_s = np.diff(moments_s) * (idle[1:] + idle[:-1]) / 2
    return np.concatenate([[0.0], np.cumsum(undone_s)])
