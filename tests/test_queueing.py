"""The queue alone: deadlines, and which line starts, of requests that no thread takes."""

from __future__ import annotations

import math

import numpy as np

from autotune.answers import Answer, Request, Rows
from autotune.queueing import TIDY, Queue
from tests.batchers import numbered


def test_deadlines_of_many_that_left_are_forgotten() -> None:
    """A queue keeps no more deadlines than twice those that wait, and tells the next one."""
    queue = Queue()
    kept = request(due=1e6)
    queue.add(kept)
    for number in range(50_000):
        gone = request(due=float(number))
        queue.add(gone)
        assert queue.next_deadline == number
        queue.remove(gone)
    assert len(queue._due) <= TIDY
    assert queue.next_deadline == 1e6
    assert (queue.expire(1e6 - 1), queue.expire(1e6)) == ([], [kept])
    assert (queue.rows, queue.next_deadline) == (0, math.inf)


def request(due: float) -> Answer:
    """A request of a row that came at 0 seconds and is due then."""
    return Answer(Rows(numbered(1)), 0.0, due, lambda _: True)


def test_kinds_that_are_there_together_start_one_after_the_other() -> None:
    """When the first has its answer and does not come back, the others wait for nobody."""
    queue = Queue()
    for width in (1, 2, 3):
        queue.add(Answer(Rows(np.zeros((1, width))), float(width), None, lambda _: True))
    for left in (3, 2, 1):
        line = queue.ready(10, 3, -math.inf)
        assert line is not None
        assert queue.is_released(line)
        assert queue.rows == left
        queue.take([], line, 10, 10, 0.0)
    later = Answer(Rows(np.zeros((1, 1))), 4.0, None, lambda _: True)
    queue.add(later)
    assert queue.ready(10, 3, -math.inf) is None


def test_the_rest_of_a_kind_waits_for_more() -> None:
    """Of one kind alone, what is left of a batch is no reason to start another."""
    queue = Queue()
    for number in range(3):
        queue.add(Answer(Rows(np.zeros((1, 1))), float(number), None, lambda _: True))
    line = queue.ready(10, 3, -math.inf)
    assert line is not None
    queue.take([], line, 2, 2, 0.0)
    assert queue.ready(10, 3, -math.inf) is None


def test_a_request_larger_than_a_batch_is_taken_alone() -> None:
    """Also where there is room for it and for others."""
    queue = Queue()
    for number, rows in enumerate((1, 10, 1, 2)):
        queue.add(Answer(Rows(np.zeros((rows, 1))), float(number), None, lambda _: True))
    found = []
    while (line := queue.ready(1, 1, math.inf)) is not None:
        taken: list[Request] = []
        queue.take(taken, line, 32, 4, 0.0)
        found.append([one.count for one in taken])
    assert found == [[1], [10], [1, 2]]
