"""Batchers over real models whose rows carry their numbers, and a door to hold batches up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np

from autotune import Candidate, Goal, Measurement, MicroBatcher, TunedPredictor, TuningRecord
from autotune.nesting import flatten
from autotune.outcomes import Outcome
from autotune.records import Recommendation
from autotune.schedule import Schedule

# Up to 8 rows in a batch, which starts as soon as a thread is free.
AT_ONCE = Schedule(
    batch_size=8, enough_rows=1, max_wait_s=0.0, follows_crowd=True, max_queue_rows=64
)


def doubler(shape: tuple[int | None, ...] = (3,)) -> Any:
    """A model that doubles each number: exact, so that a row tells which one it was."""
    import keras

    return keras.Sequential([keras.Input(shape, name="x"), keras.layers.Rescaling(2.0)])


def numbered(first: int, count: int = 1) -> Any:
    """Rows for `doubler` that carry the numbers from `first` on."""
    numbers = np.arange(first, first + count, dtype=np.float32)
    return np.repeat(numbers[:, None], 3, axis=1)


def record_of(
    candidate: Candidate,
    *,
    call_s: float = 0.001,
    late_s: float | None = None,
    outcomes: Iterable[Outcome] = (),
    goal: Goal | None = None,
) -> TuningRecord:
    """A record that recommends a candidate whose calls take so long."""
    return TuningRecord(
        goal=goal or Goal(),
        outcomes=tuple(outcomes),
        recommendation=Recommendation(
            batch_size=candidate.batch_size,
            engine=candidate.engine,
            concurrency=candidate.concurrency,
            threads=candidate.threads,
            rows_per_s=candidate.batch_size * candidate.concurrency / call_s,
            rows_per_s_low=None,
            rows_per_s_high=None,
            latency_s=call_s,
            latency_quantile_s=call_s if late_s is None else late_s,
            peak_bytes=None,
            limited_by="plateau",
            tied=(),
            confidence="high",
            more_s=None,
            reason="",
        ),
    )


def timed(size: int, call_s: float, **way: Any) -> Measurement:
    """A measurement of ten calls that all took the same time."""
    return Measurement(Candidate(size, **way), (call_s,) * 10)


class Watched:
    """A tuned predictor that notes its batches, waits at a door and stumbles over chosen rows.

    Attributes:
        batches: The first column of each batch, in the order they came.
        door: Batches wait until it is open.
        at_door: Is set when the first batch is there.
        poison: Raises an error for a batch that holds one of these numbers.
    """

    def __init__(self, model: Any, record: TuningRecord) -> None:
        self._predictor = TunedPredictor(record, lambda: model, model.save)
        self.record = record
        self.recommendation = self._predictor.recommendation
        self.batches: list[list[float]] = []
        self.door, self.at_door = threading.Event(), threading.Event()
        self.door.set()
        self.poison: dict[float, BaseException] = {}

    def open(self) -> None:
        """Open the predictor."""
        self._predictor.open()

    def predict(self, x: Any) -> Any:
        """Predict, after all that."""
        first = flatten(x)[0][0]
        if len(first):
            self.batches.append(first.reshape(len(first), -1)[:, 0].tolist())
            self.at_door.set()
            assert self.door.wait(60)
            for number in self.batches[-1]:
                if number in self.poison:
                    raise self.poison[number]
        return self._predictor.predict(x)

    def predict_in_turn(self, x: Any) -> Any:
        """The same: several batches at once are noted as one."""
        return self.predict(x)

    @property
    def ran(self) -> set[float]:
        """The numbers of all rows that were run."""
        return {number for batch in self.batches for number in batch}


def serve(
    candidate: Candidate, *, model: Any = None, record: TuningRecord | None = None, **options: Any
) -> tuple[Watched, MicroBatcher]:
    """A watched predictor for a candidate, and a batcher over it."""
    watched = Watched(model or doubler(), record or record_of(candidate))
    return watched, MicroBatcher(cast(TunedPredictor, watched), **options)


def behind_door(watched: Watched, batcher: MicroBatcher, first: int = 900) -> list[Any]:
    """Shut the door and send a row to each worker, so that all that follows must wait."""
    watched.door.clear()
    futures = []
    for number in range(watched.recommendation.concurrency):
        watched.at_door.clear()
        futures.append(batcher.submit(numbered(first + number)))
        assert watched.at_door.wait(60)
    return futures


def answer_queued(watched: Watched, batcher: MicroBatcher, count: int) -> None:
    """Let the rows 0, 1, ... come while all workers are busy, and then have them answered."""
    behind_door(watched, batcher)
    futures = [batcher.submit(numbered(number)) for number in range(count)]
    watched.door.set()
    for future in futures:
        future.result(60)


def together(call: Callable[[int], object], numbers: Iterable[int]) -> None:
    """Call a function with each number on a thread of its own; an error in one is raised."""
    numbers = tuple(numbers)
    with ThreadPoolExecutor(len(numbers)) as pool:
        list(pool.map(call, numbers))


def workers(batcher: MicroBatcher) -> list[threading.Thread]:
    """The threads of a batcher that are alive."""
    dispatcher = batcher._dispatcher
    threads = [*dispatcher._threads, *([dispatcher._keeper] if dispatcher._keeper else [])]
    return [thread for thread in threads if thread.is_alive()]
