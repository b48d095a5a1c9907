"""The crew: a predictor's threads, on which its batches are run, several in flight if need be."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from autotune import mapped
from autotune.cutting import Part
from autotune.flights import fly, spread
from autotune.gathering import Done, Places
from autotune.nesting import Nested, head, leaves_of


class Crew:
    """Runs batches, as many at once as were found to be best.

    Attributes:
        strict: Whether running out of memory is an error.
    """

    def __init__(self) -> None:
        self.strict = False
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def run(self, parts: Iterable[Part], concurrency: int) -> Iterator[Done]:
        """Run batches, and give their outputs in order; few are taken ahead of the outputs."""
        if concurrency == 1:
            return map(self._run, parts)
        return fly(self._threads(concurrency), self._run, parts, concurrency)

    def run_whole(self, parts: Iterable[Part], rows: int, concurrency: int) -> Nested:
        """Run all batches of one input of so many rows, at least one, and join the outputs."""
        places = Places(rows)

        def run(part: Part) -> None:
            places.put(part.start, self._run(part).outputs)

        spread(self._threads(concurrency), run, parts, concurrency)
        return places.whole()

    def _run(self, part: Part) -> Done:
        outputs = part.runner.run(part.batch, part.rows, strict=self.strict)
        for leaf in leaves_of(part.batch):
            mapped.release(leaf)
        return Done(outputs, part.rows, part.of) if part.of else Done(head(outputs, 0), 0, 0)

    def _threads(self, concurrency: int) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(concurrency, "autotune")
            return self._pool
