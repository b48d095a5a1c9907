"""Requests that wait for a batch: in line with their like, until taken, cancelled or too late."""

from __future__ import annotations

import itertools
import math
import weakref
from collections import deque
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush

from autotune.answers import Request

TIDY = 1_024  # deadlines are looked through when there are so many, or twice as many as were left


class Line:
    """Waiting requests of one kind, oldest first.

    Those that no longer wait stay until they come to the front: to look for them in the middle
    would make a thousand cancellations a million steps.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.requests: deque[Request] = deque()

    def oldest(self) -> Request:
        """Return the request that waits longest; there is one while `rows` is not 0."""
        while not self.requests[0].waiting:
            self.requests.popleft()
        return self.requests[0]


class Queue:
    """Lines of requests, one for each kind of rows. Its user holds a lock.

    Attributes:
        rows: Rows that wait.
    """

    def __init__(self) -> None:
        self.rows = 0
        # A heap. Some no longer wait: what the lines have let go is not kept here either.
        self._due: list[tuple[float, int, weakref.ref[Request]]] = []
        self._numbers = itertools.count()
        self._tidy_at = TIDY
        self._newest = self._released = -math.inf  # arrivals: all up to the one may start
        self._lines: dict[Hashable, Line] = {}
        self._late: list[Request] = []

    def __iter__(self) -> Iterator[Request]:
        """Go through all that wait."""
        for line in self._lines.values():
            yield from (request for request in line.requests if request.waiting)

    def add(self, request: Request) -> int:
        """Put a request at the end of its line; return how many rows wait in that."""
        line = self._lines.get(request.kind)
        if line is None:
            line = self._lines[request.kind] = Line()
        line.requests.append(request)
        line.rows += request.count
        self.rows += request.count
        request.waiting = True
        self._newest = max(self._newest, request.arrived)
        if request.deadline < math.inf:
            heappush(self._due, (request.deadline, next(self._numbers), weakref.ref(request)))
            if len(self._due) >= self._tidy_at:
                self._tidy()
        return line.rows

    def _tidy(self) -> None:
        """Forget the deadlines of those that no longer wait, when they may be most."""
        self._due = [entry for entry in self._due if _is_waiting(entry[2]())]
        heapify(self._due)
        self._tidy_at = max(TIDY, 2 * len(self._due))

    @property
    def next_deadline(self) -> float:
        """When the next waiting request is due, in seconds of `time.monotonic`."""
        while self._due and not _is_waiting(self._due[0][2]()):
            heappop(self._due)
        return self._due[0][0] if self._due else math.inf

    def remove(self, request: Request) -> bool:
        """Take one request out, wherever it is; return whether it waited."""
        if not request.waiting:
            return False
        line = self._lines[request.kind]
        request.waiting = False
        line.rows -= request.count
        self.rows -= request.count
        if not line.rows:
            del self._lines[request.kind]
        return True

    def ready(self, enough_rows: int, everybody: float, before: float) -> Line | None:
        """Return the line that starts now: with enough rows, or one that came before some time.

        Where so many rows wait in all that everybody is there, all who are there may start, one
        line after the other. Of several it is the one whose oldest request is oldest, so that no
        kind starves another.
        """
        best: Line | None = None
        if self.rows >= everybody:
            before = math.inf
            if len(self._lines) > 1:  # the others follow, when there are fewer rows in all
                self._released = self._newest
        before = max(before, self._released)
        for line in self._lines.values():
            arrived = line.oldest().arrived
            if line.rows >= enough_rows or arrived <= before:
                best = line if best is None or arrived < best.oldest().arrived else best
        return best

    def is_released(self, line: Line) -> bool:
        """Whether a line need not wait, because everybody was there when its oldest request was."""
        return line.oldest().arrived <= self._released

    def oldest_arrival(self) -> float:
        """When the oldest waiting request came; infinite where none waits."""
        return min((line.oldest().arrived for line in self._lines.values()), default=math.inf)

    def take(
        self, taken: list[Request], line: Line, at_most: int, largest: int, now: float
    ) -> None:
        """Move the oldest requests of a line, with at most so many rows together, to a list.

        The first is taken whatever its size; one with more rows than `largest` is taken alone.
        Those that are too late are not taken.
        """
        room = at_most
        while line.rows:
            request = line.oldest()
            if taken and request.count > min(room, largest):
                break
            self.remove(request)
            if request.deadline <= now:
                self._late.append(request)
            else:
                taken.append(request)
                room -= request.count if request.count <= largest else room

    def expire(self, now: float) -> list[Request]:
        """Take out all that are too late, those that `take` met among them."""
        late, self._late = self._late, []
        while self.next_deadline <= now:
            request = heappop(self._due)[2]()
            if request is not None:  # as it waits, it is
                self.remove(request)
                late.append(request)
        return late


def _is_waiting(request: Request | None) -> bool:
    return request is not None and request.waiting
