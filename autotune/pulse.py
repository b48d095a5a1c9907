"""The pulse: a small piece of work, done again and again, that tells when processors are held up.

A hypervisor may give them to others for tens of milliseconds, and no counter of the guest tells.
But the time that a thread has computed goes on meanwhile: the same work then seems to take many
times as long as it usually does.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

# 0.6 % of a processor, and two wake-ups each time. What it brings: docs/how-it-measures.md.
PERIOD_S = 0.004
WORK = bytes(16_384)  # to hash, in 25 microseconds or so, without the interpreter's lock
# A processor is held up where the work takes so many times as long as usual: at a lower clock, or
# on a smaller core, it takes up to two or three. It begins and ends with so many, beside that.
HELD_UP, SLOW = 4.0, 1.5
LONGEST_S = 0.02  # from one pulse to the next: of more, nothing is known of the rest
COARSE_S = 1e-6  # a clock of threads that ticks no finer tells nothing
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
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._beats, self._over, self._thread = [], threading.Event(), None
        if time.get_clock_info("thread_time").resolution > COARSE_S:
            return self
        work = functools.partial(_beat_on, self._beats, self._over)
        thread = threading.Thread(target=work, name="autotune-pulse", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread to be had: then nothing is felt
            thread.start()
            self._thread = thread
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()
        self._usual_s.extend(work_s for _, work_s in self._beats)

    def lost_s(self, calls: Sequence[Timing]) -> tuple[float, ...]:
        """Return the seconds of each call in which processors were held up, by the work undone.

        Args:
            calls: Within the time in which it was last entered.
        """
        usual_s = float(np.median(self._usual_s)) if len(self._usual_s) >= FEWEST else 0.0
        if not usual_s or not self._beats:
            return (0.0,) * len(calls)
        moments_s, works_s = np.array(self._beats).T
        undone_s = undone_until(moments_s, works_s / usual_s)
        starts_s, ends_s = np.array(calls).T
        lost_s = np.interp(ends_s, moments_s, undone_s) - np.interp(starts_s, moments_s, undone_s)
        return tuple(np.round(lost_s, 9).tolist())


def _beat_on(beats: list[Timing], over: threading.Event) -> None:
    """Note pulses, at least two of them, until it is over."""
    while True:
        is_over = over.wait(PERIOD_S if beats else 0.0) and len(beats) > 0
        began_s, before_s = time.perf_counter(), time.thread_time()
        hashlib.sha256(WORK).digest()
        beats.append((began_s, time.thread_time() - before_s))
        if is_over:
            return


def undone_until(moments_s: Floats, slowness: Floats) -> Floats:
    """Return the seconds that were lost up to each moment.

    Args:
        moments_s: When the pulse was felt, rising; shape `(beats,)`.
        slowness: How many times as long as usual its work took; same shape. From one moment to the
            next the speed goes evenly.

    Example:
        >>> slowness = np.array([1.0, 2.0, 1.0, 10.0, 10.0, 1.0])
        >>> undone_until(0.004 * np.arange(6), slowness).round(4).tolist()
        [0.0, 0.0, 0.0, 0.0018, 0.0054, 0.0072]
    """
    held_up = np.concatenate([[False], slowness >= HELD_UP, [False]])
    near = held_up[1:-1] | held_up[2:] | held_up[:-2]
    idle = np.where(near & (slowness >= SLOW), 1 - 1 / np.maximum(slowness, 1.0), 0.0)
    gaps_s = np.minimum(np.diff(moments_s), LONGEST_S)
    return np.concatenate([[0.0], np.cumsum(gaps_s * (idle[1:] + idle[:-1]) / 2)])
