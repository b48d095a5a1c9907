"""What people use to choose a batch size, written again plainly, for the benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from autotune import Measurement, OutOfMemory


class Timed(Protocol):
    """Something whose calls can be timed."""

    @property
    def seed(self) -> int:
        """Seed for what a policy draws."""
        ...

    def time_calls(
        self, batch_size: int, calls: int, *, warm_up: int = 2
    ) -> Measurement | OutOfMemory:
        """Time exactly so many calls, after so many untimed ones."""
        ...


Policy = Callable[[Timed, int], int]
"""Chooses a batch size, no larger than a limit in rows, for a device."""


def batch_size_32(_device: Timed, limit: int) -> int:
    """Keras's default."""
    return min(32, limit)


def doubling(device: Timed, limit: int) -> int:
    """Double until out of memory; one call each; the fastest."""
    speeds: dict[int, float] = {}
    for size in doublings(limit):
        outcome = device.time_calls(size, 1, warm_up=1)
        if isinstance(outcome, OutOfMemory):
            break
        speeds[size] = outcome.rows_per_s
    return fastest(speeds)


def patient_doubling(device: Timed, limit: int) -> int:
    """Double until the best has not been beaten by 5 % for three sizes: Model Navigator."""
    best, best_speed, without_gain = 1, 0.0, 0
    for size in doublings(limit):
        speed = settled_speed(device, size)
        if speed is None:
            break
        without_gain = 0 if speed >= 1.05 * best_speed else without_gain + 1
        if speed > best_speed:
            best, best_speed = size, speed
        if without_gain > 2:
            break
    return best


def settled_speed(device: Timed, size: int) -> float | None:
    """Rows per second once three windows agree within 10 %; None where memory ends."""
    means: list[float] = []
    while len(means) < 10:
        outcome = device.time_calls(size, 25, warm_up=0 if means else 1)
        if isinstance(outcome, OutOfMemory):
            return None
        means.append(float(np.mean(outcome.times_s)))
        last = np.array(means[-3:])
        if len(last) == 3 and np.all(np.abs(last - last.mean()) <= 0.1 * last.mean()):
            break
    return float(size / np.mean(means[-3:]))


def fine_grid(device: Timed, limit: int) -> int:
    """Many sizes, 20 calls each; the highest median."""
    geometric = np.unique(np.geomspace(1, limit, 60).round().astype(int)).tolist()
    eights = range(8, min(limit, 256) + 1, 8)
    speeds: dict[int, float] = {}
    for size in sorted({*geometric, *eights}):
        outcome = device.time_calls(size, 20)
        if isinstance(outcome, OutOfMemory):
            break
        speeds[size] = size / outcome.latency_s
    return fastest(speeds)


def tpe(device: Timed, limit: int) -> int:
    """Optuna's sampler, 25 trials of 10 calls; what does not fit is worth nothing."""
    import optuna

    def value(trial: optuna.Trial) -> float:
        size = trial.suggest_int("batch_size", 1, limit, log=True)
        outcome = device.time_calls(size, 10)
        return 0.0 if isinstance(outcome, OutOfMemory) else size / outcome.latency_s

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=device.seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(value, n_trials=25)
    return int(study.best_params["batch_size"])


def doublings(limit: int) -> list[int]:
    """1, 2, 4 and so on, up to a limit."""
    return [1 << power for power in range(limit.bit_length())]


def fastest(speeds: dict[int, float]) -> int:
    """The size of the highest speed; 1 where there is none."""
    return max(speeds, key=speeds.__getitem__, default=1)


PEERS: dict[str, Policy] = {
    "batch size 32": batch_size_32,
    "doubling until out of memory": doubling,
    "doubling, 5 % gain, patience 2": patient_doubling,
    "fine grid": fine_grid,
    "TPE, 25 trials": tpe,
}
