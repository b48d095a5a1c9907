"""Calls as a service makes them: requests come at random, and a batcher runs them."""

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
from autotune.schedule import Schedule
from autotune.service_calls import MOST_CALLS, rehearse, warmed_up
from tests.batchers import AT_ONCE

WAY = Candidate(8, "compiled", concurrency=2)
REQUESTS = [np.full((1, 3), number) for number in range(5)]
CALL_S = 0.002
A_FLOOD = 1e6  # rows a second


class Model:
    """Notes the rows of each call, and how many were in flight; each takes a while."""

    def __init__(self, call_s: float = CALL_S) -> None:
        self.rows: list[int] = []
        self.seen: set[float] = set()
        self.most_flying = 0
        self._call_s, self._flying, self._lock = call_s, 0, threading.Lock()

    def __call__(self, batch: Any) -> Any:
        """Take a while, and give the rows back."""
        with self._lock:
            self.rows.append(len(batch))
            self.seen.update(batch[:, 0].tolist())
            self._flying += 1
            self.most_flying = max(self.most_flying, self._flying)
        time.sleep(self._call_s)
        with self._lock:
            self._flying -= 1
        return batch


def rehearsed(
    call: Callable[[Any], Any], seconds: float = 0.3, rows_per_s: float = 500.0, **changes: Any
) -> Rehearsal | None:
    """Rehearse for a while, until it ends by itself."""
    wanted: dict[str, Any] = {"schedule": AT_ONCE, "is_over": lambda: False} | changes
    return rehearse(WAY, call, REQUESTS, seconds, rows_per_s=rows_per_s, **wanted)


def test_requests_that_come_at_random_are_served() -> None:
    """Each in turn, in batches as they find each other; each call's time stands beside its rows."""
    model, seconds, rate = Model(), 1.0, 300.0
    found = rehearsed(model, seconds, rate)
    assert found is not None
    assert (found.candidate, found.rows_per_s) == (WAY, rate)
    assert 0.4 * rate * seconds < sum(found.rows) < 1.6 * rate * seconds  # nine times its scatter
    assert min(found.times_s) >= CALL_S
    assert model.seen == set(range(5))
    assert model.rows[-len(found.rows) :] != []
    assert set(found.rows) <= set(model.rows)


def test_calls_in_flight_are_counted_as_each_begins() -> None:
    """As many as the candidate has at most, and one where nobody else is there."""
    model = Model()
    found = rehearsed(model, rows_per_s=800.0)
    assert found is not None
    assert len(found.flights) == len(found.rows)
    assert max(found.flights) == model.most_flying == 2
    lone = rehearsed(Model(0.0005), seconds=1.0, rows_per_s=20.0)
    assert lone is not None
    assert np.mean(np.array(lone.flights) == 1) > 0.7


def test_the_first_moments_are_not_told_of() -> None:
    """Threads begin in them."""
    model = Model(0.0)
    found = rehearsed(model, seconds=0.5)
    assert found is not None
    assert 0 < len(found.rows) < len(model.rows)


def test_who_finds_the_queue_full_is_sent_away() -> None:
    """Batches are full then, and of several at once each is a call of its own."""
    model = Model()
    several = Schedule(8, 8, 1.0, follows_crowd=True, max_queue_rows=100, batches=4)
    found = rehearsed(model, rows_per_s=A_FLOOD, schedule=several)
    assert found is not None
    assert max(found.rows) == 8
    assert np.mean(np.array(found.rows) == 8) > 0.9
    assert sum(model.rows) < 0.3 * A_FLOOD


def test_batches_are_padded_as_the_predictor_pads_them() -> None:
    """The rows of a call are those that it was run with."""
    model = Model()
    found = rehearsed(model, rows_per_s=2_000.0, padded_to=(1, 4, 8))
    assert found is not None
    assert set(model.rows) == {1, 4, 8}
    assert set(found.rows) <= {1, 4, 8}


def test_programs_are_compiled_before_as_far_as_there_is_time() -> None:
    """An engine may compile one for each size: the largest first."""
    called: list[int] = []

    def call(rows: int) -> None:
        called.append(rows)
        time.sleep(0.02)

    assert warmed_up(call, int, [1, 4, 8], seconds=60.0) == [1, 4, 8]
    assert called == [8, 4, 1]
    assert warmed_up(call, int, [1, 4, 8], seconds=0.01) == [8]


def test_it_ends_when_it_must() -> None:
    """An alarm ends it, before the first call or after; what was timed meanwhile tells nothing."""
    assert rehearsed(Model(), is_over=lambda: True) is None
    model = Model()
    assert rehearsed(model, seconds=60.0, is_over=lambda: len(model.rows) > 20) is None
    assert 20 < len(model.rows) < 30


def test_where_nobody_came_there_is_nothing_to_tell() -> None:
    """A request in a hundred thousand seconds; it does not wait for the next one."""
    assert rehearsed(Model(), seconds=0.05, rows_per_s=1e-5) is None


def test_of_quick_calls_no_more_are_kept_than_tell_anything() -> None:
    """The record keeps each."""
    found = rehearsed(lambda batch: batch, seconds=60.0, rows_per_s=A_FLOOD)
    assert found is not None
    assert len(found.rows) == MOST_CALLS


def test_what_a_call_raises_is_raised() -> None:
    """Whoever asked learns of it, and the batcher does not try again."""
    calls = itertools.count()

    def call(batch: Any) -> Any:
        next(calls)
        raise MemoryError(f"{batch.shape[1]} numbers")

    with pytest.raises(MemoryError, match="3 numbers"):
        rehearsed(call, seconds=60.0)
    assert next(calls) <= WAY.concurrency


def test_where_a_call_fails_the_others_end() -> None:
    """None is in flight when it is told."""
    model, numbers = Model(), itertools.count()

    def call(batch: Any) -> Any:
        model(batch)
        if next(numbers) == 20:
            raise MemoryError("no more")
        return batch

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

    found = rehearsed(Model(), pulse=Felt())
    assert found is not None
    assert 0 < found.lost_s[0] < found.times_s[0]
    assert sum(found.running_s) == pytest.approx(sum(found.times_s) - found.lost_s[0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"rows": (1,)}, "one for each call"),
        ({"flights": (1,)}, "one for each call"),
        ({"lost_s": (0.0,)}, "one for each call"),
        ({"rows": (), "flights": (), "times_s": ()}, "one for each call"),
        ({"times_s": (1.0, 0.0)}, "longer than 0 seconds"),
        ({"times_s": (1.0, float("inf"))}, "longer than 0 seconds"),
        ({"lost_s": (0.0, 2.0)}, "and than lost_s"),
        ({"warm_s": 0.0}, "warm_s must be a time"),
        ({"rows_per_s": 0.0}, "rows_per_s must be more than 0"),
    ],
)
def test_a_damaged_rehearsal_is_refused(damage: dict[str, Any], message: str) -> None:
    """As one in a record that somebody has edited."""
    whole: dict[str, Any] = {
        "candidate": WAY,
        "rows_per_s": 5.0,
        "rows": (1, 8),
        "flights": (1, 2),
        "times_s": (1.0, 2.0),
    }
    assert Rehearsal(**whole).running_s == (1.0, 2.0)
    with pytest.raises(InvalidInput, match=message):
        Rehearsal(**(whole | damage))
