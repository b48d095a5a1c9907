"""Spells of measuring on a machine that others share: how fast it was meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from autotune import TunedPredictor
from autotune.measure import REQUESTS
from autotune.scheduling import schedule_for
from autotune.service import Service
from autotune.service_calls import rehearse

SPEED_S = 0.5  # to see how fast the machine is at the moment
NEAR = 0.15  # by so much it may be faster or slower than when the model was tuned
MOST_TRIES = 2  # spells for each that is wanted: in the others the machine was another one
LOOKS = 9  # at its speed, to say whether it is that one at all


class Machine:
    """How fast the machine is at the moment, as a share of what it was when the model was tuned.

    Args:
        predictor: Runs many rows meanwhile.
        rows: Some of them.
    """

    def __init__(self, predictor: TunedPredictor, rows: Any) -> None:
        self._way = way = predictor.recommendation.candidate
        if not predictor.record.rehearsals:
            raise SystemExit("The record has no rehearsal. Tune the model again.")
        service, flights = Service(predictor.record), way.concurrency
        call_s = service.times(flights).mean(way.batch_size)
        self._predictor, self._tuned = predictor, flights * way.batch_size / call_s
        self._rate = median(each.rows_per_s for each in predictor.record.rehearsals)
        self._served = service.served(self._rate)
        self._schedule = schedule_for(predictor.recommendation, predictor.record)
        self._padded = service.padded
        least = 4 * way.batch_size * flights
        self._rows = np.resize(rows, (max(least, len(rows)), *rows.shape[1:]))
        self._engine = predictor._ready(rows[:1])[2]._engine

    def full_speed(self) -> float:
        """Measure it by full batches, of calls that nothing stopped."""
        calls_s, end = [], time.perf_counter() + SPEED_S
        while (start := time.perf_counter()) < end:
            self._predictor.predict(self._rows)
            calls_s.append(time.perf_counter() - start)
        return len(self._rows) / median(calls_s) / self._tuned

    def speed(self) -> float:
        """Measure it by calls as a service makes them: a neighbour slows both down by other shares.

        By those of the rehearsal, each beside as many others and of as many rows.
        """
        found = rehearse(
            self._way,
            self._engine,
            [row[None] for row in self._rows[:REQUESTS]],
            SPEED_S,
            schedule=self._schedule,
            rows_per_s=self._rate,
            padded_to=self._padded,
            is_over=lambda: False,
        )
        if found is None:
            raise SystemExit("No call was made.")
        calls = zip(found.rows, found.flights, strict=True)
        expected_s = sum(self._served[flights - 1].mean(rows) for rows, flights in calls)
        return expected_s / sum(found.times_s)


@dataclass(frozen=True, slots=True)
class Spell:
    """What was measured between two looks at the machine's speed.

    Attributes:
        found: Seconds of each request, or requests a second, as they were.
        before: The machine's speed before.
        after: And after it.
        rows: Mean rows of a batch.
    """

    found: Any
    before: float
    after: float
    rows: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether the machine was as fast as when the model was tuned."""
        return is_near(self.before) and is_near(self.after)

    @property
    def speed(self) -> float:
        """The machine's, meanwhile."""
        return (self.before + self.after) / 2


def is_near(speed: float) -> bool:
    """Tell whether that is about the speed at which the model was tuned."""
    return abs(speed - 1) <= NEAR


def spells_at(
    speed: Callable[[], float], measure: Callable[[float], tuple[Any, float]], count: int
) -> list[Spell]:
    """Measure until so many spells count, or twice as many were measured; return all.

    Args:
        speed: Tells the machine's at the moment; asked between two spells.
        measure: Is told that; returns what it found, and the mean rows of a batch.
        count: How many.
    """
    spells: list[Spell] = []
    before = speed()
    while sum(spell.counts for spell in spells) < count and len(spells) < MOST_TRIES * count:
        found, rows = measure(before)
        after = speed()
        spells.append(Spell(found, before, after, rows))
        before = after
    return spells


def those_that_count(spells: list[Spell]) -> list[Spell]:
    """Those that count."""
    return [spell for spell in spells if spell.counts]


def how_many_count(spells: list[Spell]) -> str:
    """Say how many of them count."""
    return f"{sum(spell.counts for spell in spells)} of {len(spells)}"
