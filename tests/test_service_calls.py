"""Calls as a service makes them: sizes in turn, by several threads, each after a pause."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autotune.errors import InvalidInput
from autotune.outcomes import Candidate, Rehearsal
from autotune.pulse import Pulse
from autotune.service_calls import MOST_CALLS, rehearse
from autotune.timing import Threads

WAY = Candidate(8, "compiled", concurrency=2)
BATCHES = {size: np.zeros((size, 3)) for size in (1, 4, 8)}
CALL_S = 0.002


class Model:
    """Notes the rows of each call, and how many were in flight; each takes a while."""

    def __init__(self, call_s: float = CALL_S) -> None:
        self.rows: list[int] = []
        self.most_flying = 0
        self._call_s, self._flying, self._lock = call_s, 0, threading.Lock()

    def __call__(self, batch: Any) -> Any:
        """Take a while, and give the rows back."""
        with self._lock:
            self.rows.append(len(batch))
            self._flying += 1
            self.most_flying = max(self.most_flying, self._flying)
        time.sleep(self._call_s)
        with self._lock:
            self._flying -= 1
        return batch


def rehearsed(
    call: Callable[[Any], Any],
    seconds: float = 0.3,
    callers: int = 2,
    is_over: Callable[[], bool] = lambda: False,
    pulse: Pulse | None = None,
) -> Rehearsal | None:
    """Rehearse with threads of our own."""
    pool = Threads()(callers)
    with pool:
        return rehearse(
            WAY, call, BATCHES, seconds, callers=callers, pool=pool, is_over=is_over, pulse=pulse
        )


def test_sizes_change_from_call_to_call() -> None:
    """All sizes come equally often, and each call's time stands beside its rows."""
    model = Model()
    found = rehearsed(model, callers=1)
    assert found is not None
    assert (found.candidate, found.callers) == (WAY, 1)
    assert set(found.rows) == set(BATCHES)
    assert len(found.times_s) == len(found.rows) == len(model.rows) - len(BATCHES)
    assert found.rows == tuple(model.rows[len(BATCHES) :])
    counts = [found.rows.count(size) for size in BATCHES]
    assert max(counts) - min(counts) <= 1
    assert max(len(list(same)) for _, same in itertools.groupby(found.rows)) <= 2
    assert min(found.times_s) >= CALL_S
    assert found.running_s().keys() == set(BATCHES)


def test_threads_are_as_often_idle_as_busy() -> None:
    """A pause before each call is as long as a call, in the mean."""
    model, seconds = Model(0.001), 1.0
    found = rehearsed(model, seconds)
    assert found is not None
    assert model.most_flying == 2
    assert 0.1 < sum(found.times_s) / (2 * seconds) < 0.9


def test_sizes_that_take_too_long_to_begin_with_are_left_out() -> None:
    """An engine may compile a program for each: the largest first, as far as there is time."""
    slow = Model(0.08)
    found = rehearsed(slow, seconds=0.1, callers=1)
    assert found is not None
    assert slow.rows[0] == 8
    assert set(found.rows) == {8}


def test_it_ends_when_it_must() -> None:
    """An alarm ends it, before the first call or after; what was timed meanwhile tells nothing."""
    assert rehearsed(Model(), is_over=lambda: True) is None
    model = Model()
    assert rehearsed(model, seconds=60.0, is_over=lambda: len(model.rows) > 20) is None
    assert 20 < len(model.rows) < 30


def test_of_quick_calls_no_more_are_kept_than_tell_anything() -> None:
    """The record keeps each."""
    found = rehearsed(len, seconds=60.0, callers=2)
    assert found is not None
    assert MOST_CALLS <= len(found.rows) <= MOST_CALLS + 1


def test_what_a_call_raises_is_raised() -> None:
    """Whoever asked learns of it."""

    def call(batch: Any) -> Any:
        raise MemoryError(f"{len(batch)} rows")

    with pytest.raises(MemoryError, match="8 rows"):
        rehearsed(call)


def test_where_a_call_fails_the_others_end() -> None:
    """None is in flight when it is told."""
    model, numbers = Model(), itertools.count()

    def call(batch: Any) -> Any:
        model(batch)
        if next(numbers) == 20:
            raise MemoryError("no more")

    with pytest.raises(MemoryError, match="no more"):
        rehearsed(call, seconds=60.0)
    count = len(model.rows)
    time.sleep(10 * CALL_S)
    assert count == len(model.rows) < 30


def test_standstills_are_told_apart() -> None:
    """Seconds that the pulse felt are not part of the running time."""

    class Felt(Pulse):
        def lost_s(self, calls: Any) -> tuple[float, ...]:
            return (9.0, *(0.0,) * (len(calls) - 1))

    found = rehearsed(Model(), callers=1, pulse=Felt())
    assert found is not None
    assert 0 < found.lost_s[0] < found.times_s[0]
    assert sum(map(sum, found.running_s().values())) == pytest.approx(
        sum(found.times_s) - found.lost_s[0]
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"rows": (1,)}, "one for each call"),
        ({"lost_s": (0.0,)}, "one for each call"),
        ({"rows": (), "times_s": ()}, "one for each call"),
        ({"times_s": (1.0, 0.0)}, "longer than 0 seconds"),
        ({"times_s": (1.0, float("inf"))}, "longer than 0 seconds"),
        ({"lost_s": (0.0, 2.0)}, "and than lost_s"),
        ({"warm_s": 0.0}, "warm_s must be a time"),
    ],
)
def test_a_damaged_rehearsal_is_refused(damage: dict[str, Any], message: str) -> None:
    """As one in a record that somebody has edited."""
    whole: dict[str, Any] = {"candidate": WAY, "callers": 1, "rows": (1, 8), "times_s": (1.0, 2.0)}
    assert Rehearsal(**whole).running_s() == {1: [1.0], 8: [2.0]}
    with pytest.raises(InvalidInput, match=message):
        Rehearsal(**(whole | damage))
