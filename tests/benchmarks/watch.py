"""What the watch costs: calls of a net with the watching thread beside them, and without.

    python -m tests.benchmarks.watch [--rounds 40]

Where there is a GPU that NVML can read, the thread reads it; else it reads the host's memory, and
for a second line is busy for `--fake-call-us`, as NVML would be. Rounds with and
without are interleaved, since the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import statistics
import time
import timeit
from collections.abc import Callable, Sequence

import keras
import numpy as np

from autotune import engines, eyes
from autotune.comparing import t_quantile
from autotune.device import device_of
from autotune.watch import Look, Watch

ROUND_S = 0.25


def rows_per_s(call: Callable[[], object], rows: int) -> float:
    """Call for a while, and count."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < ROUND_S:
        call()
        count += 1
    return rows * count / (time.perf_counter() - began)


def cost(call: Callable[[], object], rows: int, watch: Watch, rounds: int) -> tuple[float, float]:
    """Share of the throughput that a watch costs, and half of its 95 % interval."""
    ratios = []
    for _ in range(rounds):
        speeds: dict[bool, float] = {}
        for watched in random.sample([True, False], 2):
            if watched:
                watch.start()
            speeds[watched] = rows_per_s(call, rows)
            if watched:
                watch.stop()
        ratios.append(math.log(speeds[True] / speeds[False]))
    return -statistics.median(ratios), median_error(ratios)


def median_error(values: Sequence[float]) -> float:
    """Half of a 95 % interval of a median, from the quartiles."""
    low, _, high = statistics.quantiles(values, n=4)
    return 1.2533 * t_quantile(len(values) - 1) * (high - low) / 1.349 / math.sqrt(len(values))


def stand_in(seconds: float) -> Callable[[], Look]:
    """Return a look that takes so long on the processor, as a call to NVML does.

    Like that call it does not hold the interpreter's lock: no hashing of more than 2 kB does.
    """
    kilobytes, took = 4, 0.0
    while took < seconds:
        kilobytes, block = kilobytes + 4, bytes(kilobytes * 1024)
        took = min(timeit.repeat(lambda: hashlib.sha256(block), number=10, repeat=5)) / 10  # noqa: B023

    def look() -> Look:
        hashlib.sha256(block)
        return Look(1)

    return look


def main() -> None:
    """Measure two nets, one of many short calls and one of few long ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--fake-call-us", type=float, default=100.0)
    chosen = parser.parse_args()
    layers, device = keras.layers, device_of(keras.config.backend())
    dense = keras.Sequential([keras.Input((64,)), layers.Dense(256), layers.Dense(10)])
    convolution = keras.Sequential(
        [keras.Input((32, 32, 3)), layers.Conv2D(32, 3), layers.Conv2D(32, 3), layers.Flatten()]
    )
    look, every_s = eyes.eyes_of(device)
    watches = {f"{device.kind}, every {every_s * 1e3:.0f} ms": Watch(look, every_s, lambda _: None)}
    if device.kind == "cpu":
        pause_s = chosen.fake_call_us / 1e6
        name = f"a call of {chosen.fake_call_us:.0f} us, every {eyes.GPU_EVERY_S * 1e3:.0f} ms"
        watches[name] = Watch(stand_in(pause_s), eyes.GPU_EVERY_S, lambda _: None)
    print(f"{'net':14}{'watch':40}{'cost':>8}  95 % interval")
    for name, model, rows in (("dense", dense, 32), ("convolution", convolution, 256)):
        x = np.ones((rows, *model.input_shape[1:]), np.float32)
        engine = engines.build("compiled", model, x)
        for _ in range(20):
            engine(x)
        for which, watch in watches.items():
            share, error = cost(lambda: engine(x), rows, watch, chosen.rounds)  # noqa: B023
            print(f"{name:14}{which:40}{share:8.2%}  ±{error:.2%}", flush=True)


if __name__ == "__main__":
    main()
