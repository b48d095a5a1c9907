"""Requests that wait for a batch: in line with their like, until taken, cancelled or too late."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator

from autotune.answers import Request


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
        next_deadline: No waiting request is due before, in seconds of `time.monotonic`.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.next_deadline = math.inf
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
        self.next_deadline = min(self.next_deadline, request.deadline)
        request.waiting = True
        return line.rows

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

    def ready(self, enough_rows: int, before: float) -> Line | None:
        """Return the line that starts now: with enough rows, or one that came before some time.

        Of several it is the one whose oldest request is oldest, so that no kind starves another.
        """
        best: Line | None = None
        for line in self._lines.values():
            arrived = line.oldest().arrived
            if line.rows >= enough_rows or arrived <= before:
                best = line if best is None or arrived < best.oldest().arrived else best
        return best

    def oldest_arrival(self) -> float:
        """When the oldest waiting request came; infinite where none waits."""
        return min((line.oldest().arrived for line in self._lines.values()), default=math.inf)

    def take(self, taken: list[Request], line: Line, at_most: int, now: float) -> None:
        """Move the oldest requests of a line, with at most so many rows together, to a list.

        The first is taken whatever its size. Those that are too late are not taken.
        """
        room = at_most
        while line.rows:
            request = line.oldest()
            if taken and request.count > room:
                break
            self.remove(request)
            if request.deadline <= now:
                self._late.append(request)
            else:
                taken.append(request)
                room -= request.count

    def expire(self, now: float) -> list[Request]:
        """Take out all that are too late, those that `take` met among them."""
        late, self._late = self._late, []
        if self.next_deadline <= now:
            due = [request for request in self if request.deadline <= now]
            for request in due:
                self.remove(request)
            late += due
            self.next_deadline = min((request.deadline for request in self), default=math.inf)
        return late
