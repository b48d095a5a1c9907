"""When a batcher starts a batch: what it is told, as plain figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a batch starts.

    Attributes:
        batch_size: Most rows in a batch of several requests.
        enough_rows: With so many rows a batch starts as soon as a worker is free.
        max_wait_s: After so many seconds of its oldest request it starts with what there is.
        follows_crowd: Whether it starts earlier where everybody who was lately seen is waiting.
        max_queue_rows: Rows that may wait.
        batches: Full batches that a worker takes at once at most, to run one after the other, where
            enough rows wait.
        least_share: So many of the rows that wait a worker takes, and leaves none of them to
            others: at the tuned speed they take less time than one more batch costs Python.
    """

    batch_size: int
    enough_rows: int
    max_wait_s: float
    follows_crowd: bool
    max_queue_rows: int
    batches: int = 1
    least_share: int = 0
