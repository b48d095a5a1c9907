"""A simulated device: it has the shape of a probe, and time that costs nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from autotune import Candidate, Failure, Measurement, Outcome, OutOfMemory


@dataclass
class SimulatedDevice:
    """A device on which a batch takes a fixed time, plus so much a row.

    Attributes:
        call_s: Seconds of an empty call.
        row_s: Seconds a row.
        base_bytes: Memory of the weights.
        row_bytes: Memory a row.
        memory_bytes: Memory of the device; more is out of memory.
        noise: Relative spread of a call.
        slow_from: From this batch size on, rows take twice as long: a cache that overflows.
        fails_at: Batch sizes at which the model raises.
        engine_speed: How much faster than "keras" other engines are.
        seed: Seed of the noise.
    """

    call_s: float = 1e-3
    row_s: float = 1e-5
    base_bytes: int = 10 * 2**20
    row_bytes: int = 2**20
    memory_bytes: int = 2**40
    noise: float = 0.0
    slow_from: int | None = None
    fails_at: Callable[[int], bool] = lambda _size: False
    engine_speed: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    tried: list[Candidate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311  noise, not a secret

    def __call__(self, candidate: Candidate, seconds: float) -> Outcome:
        """Try a candidate, as a probe does."""
        self.tried.append(candidate)
        size = candidate.batch_size
        peak = self.base_bytes + size * self.row_bytes
        if peak > self.memory_bytes:
            return OutOfMemory(candidate, elapsed_s=10.0)
        if self.fails_at(size):
            return Failure(candidate, kind="model_error", elapsed_s=0.1, message="no such kernel")
        mean_s = self.latency_s(candidate)
        calls = max(3, min(200, int(seconds / mean_s)))
        times = tuple(mean_s * (1 + self.noise * abs(self._random.gauss())) for _ in range(calls))
        elapsed_s = sum(times) + 3 * mean_s
        return Measurement(candidate, times, elapsed_s=elapsed_s, device_peak_bytes=peak)

    def latency_s(self, candidate: Candidate) -> float:
        """Seconds of a batch without noise."""
        size = candidate.batch_size
        row_s = self.row_s * (2 if self.slow_from and size >= self.slow_from else 1)
        speed = self.engine_speed.get(candidate.engine, 1.0)
        return (self.call_s + row_s * size) / speed

    def rows_per_s(self, candidate: Candidate) -> float:
        """True speed."""
        return candidate.batch_size / self.latency_s(candidate)
