"""Spells of measuring on a machine that others share: how fast it was, and whether it changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from autotune import TunedPredictor
from autotune.pulse import Pulse
from autotune.runner import ready_sizes
from autotune.service import Service
from autotune.service_calls import rehearse
from autotune.timing import Threads

SPEED_S = 0.5  # to see how fast the machine is at the moment
CALM = 0.07  # by so much its speeds before and after a spell may differ
MOST_TRIES = 3  # spells for each that is wanted: the others were no calm ones
WINDOW_S = 0.1  # in which the pulse is looked at: 25 beats
SLOW = 1.3  # times its usual work, in the mean of a window: the machine is slow for a moment
BEFORE_S, AFTER_S = 0.05, 0.2  # who came so long before that met it, and after it its queue


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
        least = 4 * way.batch_size * flights
        self._rows = np.resize(rows, (max(least, len(rows)), *rows.shape[1:]))
        self._engine = predictor._ready(rows[:1])[2]._engine
        self._batches = {size: self._rows[:size] for size in ready_sizes(way.batch_size)}
        self._callers = min(flights, os.cpu_count() or 1)
        cold = service.times(self._callers, is_cold=True)
        self._cold_s = {size: cold.mean(size) for size in self._batches}
        self._pool = Threads()(self._callers)

    def full_speed(self) -> float:
        """Measure it by full batches, of calls that nothing stopped."""
        calls_s, end = [], time.perf_counter() + SPEED_S
        while (start := time.perf_counter()) < end:
            self._predictor.predict(self._rows)
            calls_s.append(time.perf_counter() - start)
        return len(self._rows) / median(calls_s) / self._tuned

    def speed(self) -> float:
        """Measure it by calls as a service makes them: a neighbour slows both down by other shares.

        The geometric mean over their sizes.
        """
        found = rehearse(
            self._way,
            self._engine,
            self._batches,
            SPEED_S,
            callers=self._callers,
            pool=self._pool,
            is_over=lambda: False,
        )
        if found is None:
            raise SystemExit("No call was made.")
        ratios = [self._cold_s[size] / np.mean(s) for size, s in found.running_s().items()]
        return float(np.exp(np.mean(np.log(ratios))))


@dataclass(frozen=True, slots=True)
class Spell:
    """What was measured between two looks at the machine's speed.

    Attributes:
        found: Seconds of each request, or requests a second, as they were.
        rows: Mean rows of a batch.
        before: The machine's speed before.
        after: And after it.
        is_even: Which of the requests came while the pulse was as fast as usual.
    """

    found: Any
    rows: float
    before: float
    after: float
    is_even: Any = True

    @property
    def is_calm(self) -> bool:
        """Whether the machine's speed was the same."""
        return abs(self.after / self.before - 1) <= CALM

    @property
    def speed(self) -> float:
        """The machine's, meanwhile."""
        return (self.before + self.after) / 2


def calm_spells(measure: Callable[[], Spell], count: int) -> list[Spell]:
    """Measure until there are so many calm spells, or three times as many in all; return all."""
    spells: list[Spell] = []
    while sum(spell.is_calm for spell in spells) < count and len(spells) < MOST_TRIES * count:
        spells.append(measure())
    return spells


def those_that_count(spells: list[Spell]) -> list[Spell]:
    """Those that count: the calm ones, or all where there is none."""
    return [spell for spell in spells if spell.is_calm] or spells


def count_calm(spells: list[Spell]) -> str:
    """Say how many of them are calm."""
    return f"{sum(spell.is_calm for spell in spells)} of {len(spells)}"


def even_ones(pulse: Pulse, dues_s: Any) -> Any:
    """Tell which of the requests that were due at these times met no moment of a slow machine."""
    moments_s = np.arange(dues_s[0] - WINDOW_S, dues_s[-1] + 2 * WINDOW_S, WINDOW_S)
    is_even = np.ones(len(dues_s), bool)
    felt = pulse.slowness(moments_s.tolist())
    if np.isnan(felt).all():
        raise SystemExit("The pulse is not felt here: nothing tells when the machine is slow.")
    for moment, slowness in zip(moments_s, felt, strict=False):
        if not slowness <= SLOW:  # or it stood still
            is_even &= (dues_s < moment - BEFORE_S) | (dues_s > moment + WINDOW_S + AFTER_S)
    return is_even
