"""The pace: how large a batch may be now, after what ran out of memory and what did not."""

from __future__ import annotations

import logging
import threading

_log = logging.getLogger("autotune")

FIRST_PATIENCE = 16  # batches that must go well before a larger one is tried again
MOST_PATIENCE = 1024


class Pace:
    """Steps down where memory runs short, and up again with caution.

    After a failure the limit is half the size that failed. After some batches of about that size it
    rises, at most to twice, and no further than halfway to the smallest size that failed; once it
    is close to that, what failed long ago may be tried again. Each step up that ends in a failure
    doubles the patience, until the tuned size has held again; failures one after the other, down to
    what fits, are one shortage.

    Args:
        size: The tuned batch size, which is never exceeded.

    Attributes:
        at_ease: Whether batches of the tuned size may be run.
        largest_ran: Largest batch that ever ran; 0 before the first.
        smallest_failed: Smallest that ran out of memory, while it is remembered.
        steps_down: How often the limit was lowered.
        steps_up: How often it was raised.
    """

    def __init__(self, size: int) -> None:
        self._tuned = size
        self._limit = size
        self._room = size
        self._patience, self._good, self._rose = FIRST_PATIENCE, 0, False
        self._lock = threading.Lock()
        self.at_ease = True
        self.largest_ran = 0
        self.smallest_failed: int | None = None
        self.steps_down = self.steps_up = 0

    def is_news(self, size: int) -> bool:
        """Whether it matters that a batch of so many rows went well: usually not."""
        if size > self.largest_ran or self._patience != FIRST_PATIENCE:
            return True
        return self._limit != self._tuned

    @property
    def limit(self) -> int:
        """The largest batch that may be run now."""
        return min(self._limit, self._room)

    def make_room(self, size: int, *, tell: bool = True) -> None:
        """Take in how large a batch fits in the memory that is free now; at least 1."""
        with self._lock:
            before, self._room = self.limit, max(1, min(size, self._tuned))
            self._settle()
            if self.limit < before:
                self.steps_down += 1
                level = logging.WARNING if tell else logging.DEBUG
                _log.log(level, "Memory is short: batches of %d rows, not %d.", self.limit, before)
            elif self.limit > before:
                self._tell_up()

    def ran(self, size: int, most: int) -> None:
        """Take in that a batch went well.

        Args:
            size: Its rows.
            most: The largest that might have been run in its place. Rows that are split evenly
                make batches of half as many.
        """
        with self._lock:
            self.largest_ran = max(size, self.largest_ran)
            if 2 * size < most or self._room < self._limit:
                return
            self._good += 1
            if self._good >= self._patience:
                self._step_up()

    def failed(self, size: int, why: str) -> None:
        """Take in that a batch of so many rows ran out of memory."""
        with self._lock:
            self._good = 0
            self.smallest_failed = min(size, self.smallest_failed or size)
            half = max(1, size // 2)
            if half >= self._limit:  # another thread's failure has lowered it already
                return
            self._limit = half
            self._settle()
            if self._rose:
                self._patience = min(2 * self._patience, MOST_PATIENCE)
            self._rose = False
            self.steps_down += 1
        _log.warning("Out of memory with %d rows, going on with %d: %s", size, half, why)

    def _step_up(self) -> None:
        self._good = 0
        if self._limit == self._tuned:  # and it held: the shortage is over
            self._patience, self.smallest_failed = FIRST_PATIENCE, None
            return
        goal = min(2 * self._limit, self._tuned)
        if self.smallest_failed is not None and goal >= self.smallest_failed:
            goal = (self._limit + self.smallest_failed) // 2
            if goal - self._limit <= self._limit // 8:  # as close as makes a difference
                self.smallest_failed = None
                return
        self._limit, self._rose = goal, True
        self._settle()
        self._tell_up()

    def _settle(self) -> None:
        self.at_ease = self._limit == self._tuned == self._room

    def _tell_up(self) -> None:
        self.steps_up += 1
        _log.info("Batches of up to %d rows again.", self.limit)
