"""A simulated machine whose blocks scatter, on which things change between two measurements."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from autotune import Candidate, Goal, Measurement, TuningRecord, search

BASELINES = (Candidate(32), Candidate(1024, "predict"))


@dataclass
class NoisyMachine:
    """A probe that costs no time: a batch takes 1 ms and 10 microseconds a row, times an engine's.

    Attributes:
        seed: Seed of the noise.
        noise: Standard deviation of the logarithm of a block's speed.
        slower: How many times longer some candidates take than they did.
        engines: How many times longer each engine takes.
        tide: Logarithm by which everything is slower, at a second of the clock.
        is_busy: Whether a neighbour shows, at a second of the clock.
    """

    seed: int = 0
    noise: float = 0.05
    slower: dict[Candidate, float] = field(default_factory=dict)
    engines: dict[str, float] = field(
        default_factory=lambda: {"keras": 1.0, "compiled": 0.7, "predict": 3.0}
    )
    tide: Callable[[float], float] = lambda now_s: 0.2 * math.sin(now_s)
    is_busy: Callable[[float], bool] = lambda _: False
    clock_s: float = 0.0
    tried: list[Candidate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311  noise, not a secret

    def __call__(self, candidate: Candidate, seconds: float) -> Measurement:
        """Try a candidate, as a probe does."""
        self.tried.append(candidate)
        call_s = (1e-3 + 1e-5 * candidate.batch_size) * self.engines[candidate.engine]
        call_s *= self.slower.get(candidate, 1.0)
        call_s *= math.exp(self.noise * self._random.gauss() + self.tide(self.clock_s))
        busy = self.is_busy(self.clock_s)
        self.clock_s += seconds
        calls = (call_s * (1.7 if busy else 1.0),) * 4
        return Measurement(candidate, calls, elapsed_s=seconds, disturbed=4 if busy else 0)


def calm(_: float) -> float:
    """Tell that everything is as fast as ever."""
    return 0.0


def tuned(
    seed: int = 0, noise: float = 0.02, goal: Goal | None = None, **kind: Any
) -> TuningRecord:
    """A record of such a machine."""
    machine = NoisyMachine(seed, noise, **kind)
    return search(
        machine,
        goal or Goal(max_batch_size=256),
        engines=("keras", "compiled"),
        budget_s=30.0,
        baselines=BASELINES,
    )
