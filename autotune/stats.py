"""What a predictor has done: counted from any thread, read as one value."""

from __future__ import annotations

import threading

import msgspec

from autotune.pace import Pace


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What a predictor has done so far.

    Attributes:
        calls: Calls of `predict`, and pieces of `stream`, that were answered.
        rows: Rows that were answered.
        batches: Batches that the engine ran.
        padded_rows: Rows that were added to fill batches, and dropped from the answers.
        out_of_memory: How often the engine ran out of memory.
        steps_down: How often the batch size was lowered because memory was short.
        steps_up: How often it was raised again.
        batch_size: The largest batch that would be run now.
        largest_ran: The largest that ever ran; 0 before the first.
        smallest_failed: The smallest that ran out of memory, while it is remembered.
    """

    calls: int
    rows: int
    batches: int
    padded_rows: int
    out_of_memory: int
    steps_down: int
    steps_up: int
    batch_size: int
    largest_ran: int
    smallest_failed: int | None


class Counters:
    """Counts what a predictor does, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = self.rows = self.batches = self.padded_rows = self.out_of_memory = 0

    def answered(self, rows: int) -> None:
        """Count a call that was answered."""
        with self._lock:
            self.calls += 1
            self.rows += rows

    def ran(self, batches: int) -> None:
        """Count batches."""
        with self._lock:
            self.batches += batches

    def padded(self, rows: int) -> None:
        """Count rows that filled a batch."""
        with self._lock:
            self.padded_rows += rows

    def ran_out(self) -> None:
        """Count a batch that ran out of memory."""
        with self._lock:
            self.out_of_memory += 1

    def stats(self, pace: Pace) -> Stats:
        """Return all figures at this moment."""
        with self._lock:
            return Stats(
                calls=self.calls,
                rows=self.rows,
                batches=self.batches,
                padded_rows=self.padded_rows,
                out_of_memory=self.out_of_memory,
                steps_down=pace.steps_down,
                steps_up=pace.steps_up,
                batch_size=pace.limit,
                largest_ran=pace.largest_ran,
                smallest_failed=pace.smallest_failed,
            )
