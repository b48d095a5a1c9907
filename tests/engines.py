"""An engine of the right shape that doubles its rows, says what it ran, and runs out of memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from autotune.nesting import Array, Nested, flatten


class Doubler:
    """Doubles what it is given.

    Args:
        thread_safe: As of an `Engine`.
        compiles_per_shape: As of an `Engine`.
        fits: Rows that fit in memory.
        fails: Is called with the rows of each batch, and may raise.
        survives_shortage: As of an `Engine`.

    Attributes:
        sizes: Rows of each batch that it was called with, in order.
        at_once: How many calls ran at the same time, at most.
    """

    def __init__(
        self,
        *,
        thread_safe: bool = True,
        compiles_per_shape: bool = False,
        fits: int = 10**9,
        fails: Callable[[Array], object] = len,
        survives_shortage: bool = True,
    ) -> None:
        self.thread_safe = thread_safe
        self.compiles_per_shape = compiles_per_shape
        self.survives_shortage = survives_shortage
        self.fits = fits
        self.fails = fails
        self.sizes: list[int] = []
        self.at_once = 0
        self._running = 0
        self._lock = threading.Lock()

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch."""
        leaves, structure = flatten(batch)
        rows = leaves[0]
        with self._lock:
            self.sizes.append(len(rows))
            self._running += 1
            self.at_once = max(self.at_once, self._running)
        try:
            time.sleep(0.0005)  # others may come
            self.fails(rows)
            if len(rows) > self.fits:
                raise MemoryError(f"failed to allocate {len(rows)} rows")
            return structure.unflatten([np.asarray(leaf) * 2 for leaf in leaves])
        finally:
            with self._lock:
                self._running -= 1
