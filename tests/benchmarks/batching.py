"""Many callers of one row each: the MicroBatcher against the tuned offline speed.

    python -m tests.benchmarks.batching            # some ten minutes
    python -m tests.benchmarks.batching --short    # under a minute: two models, short rounds
    python -m tests.benchmarks.batching --model mlp

Two tables. The first: 64 callers who each send a row, wait for its answer and send the next, as
threads (`submit`) and as tasks of one event loop (`abatch`), beside one call of the predictor with
many rows; all three in turn, so that ratios hold on a noisy machine. The second: open-loop
Poisson arrivals at 70 % of the capacity that the first found, against the latency budget that the
model was tuned with; where that is short, against one of 200 ms as well, by which the same model's
batcher then chooses its batches: a shared machine may allow no other. Latency is counted from when
a request was due, not from when it was sent: who is sent late has waited as well. Before and after,
the same requests are answered by a thread that does nothing: what that takes, the machine takes
whatever is served. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import Any

import keras
import numpy as np
from msgspec.structs import replace

from autotune import Goal, MicroBatcher, Overloaded, TunedPredictor, tune
from tests.benchmarks.nets import cnn, gru, mlp, mobilenet, resnet, rows_for

CALLERS = 64
LOAD = 0.7
PATIENT_S = 0.2  # a latency budget
layers = keras.layers


def digits() -> keras.Model:
    """A classifier of 28x28 images with one hidden layer."""
    return keras.Sequential(
        [keras.Input((784,)), layers.Dense(128, activation="relu"), layers.Dense(10)],
        name="digits",
    )


# model, rows of the sample, latency budget
CASES: list[tuple[Callable[[], keras.Model], int, float]] = [
    (mlp, 8_192, 0.02),
    (digits, 8_192, 0.02),
    (cnn, 2_048, 0.05),
    (gru, 2_048, 0.05),
    (mobilenet, 256, 0.2),
    (resnet, 32, 2.0),
]
SHORT = CASES[1], CASES[2]


def offline(predictor: TunedPredictor, rows: Any, seconds: float) -> float:
    """Rows per second of large calls."""
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        predictor.predict(rows)
        done += len(rows)
    return done / spent


def threads(batcher: MicroBatcher, rows: Any, seconds: float) -> float:
    """Requests per second of 64 threads."""
    counts = [0] * CALLERS
    end = time.perf_counter() + seconds

    def call(number: int) -> None:
        row = rows[number % len(rows)][None]
        while time.perf_counter() < end:
            batcher.submit(row).result()
            counts[number] += 1

    callers = [threading.Thread(target=call, args=(n,)) for n in range(CALLERS)]
    start = time.perf_counter()
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return sum(counts) / (time.perf_counter() - start)


def tasks(batcher: MicroBatcher, rows: Any, seconds: float) -> float:
    """Requests per second of 64 tasks of an event loop."""

    async def call(number: int, end: float) -> int:
        row, count = rows[number % len(rows)][None], 0
        while time.perf_counter() < end:
            await batcher.abatch(row)
            count += 1
        return count

    async def all_calls() -> int:
        end = time.perf_counter() + seconds
        return sum(await asyncio.gather(*(call(n, end) for n in range(CALLERS))))

    start = time.perf_counter()
    return asyncio.run(all_calls()) / (time.perf_counter() - start)


def spare_the_collector() -> None:
    """Keep what is there out of Python's collector, which else stops all; docs/serving.md."""
    gc.collect()
    gc.freeze()


class Nothing:
    """Answers requests with nothing, on a thread of its own."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread

    def submit(self, rows: Any) -> Future[Any]:
        """Hand a request over, as a batcher does."""
        return self._thread.submit(lambda: rows)


def arrivals_s(rate: float, seconds: float, seed: int) -> Any:
    """When the requests of `poisson` come, from when it is called."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, max(200, int(rate * seconds)))
    return np.cumsum(gaps) + 0.05


def poisson(
    batcher: MicroBatcher | Nothing, rows: Any, rate: float, seconds: float, seed: int = 0
) -> tuple[Any, int]:
    """Latencies of open-loop arrivals at `rate` a second, and how many were turned away."""
    due_s = arrivals_s(rate, seconds, seed) + time.perf_counter()
    finished = np.full(len(due_s), np.nan)
    shed = 0
    for index, due in enumerate(due_s.tolist()):
        while (ahead := due - time.perf_counter()) > 0:
            time.sleep(ahead)
        try:
            future = batcher.submit(rows[index % len(rows)][None])
        except Overloaded:
            shed += 1
        else:
            future.add_done_callback(partial(_note, finished, index))
        # No future is kept: thousands of them make Python's collector walk through all objects
        # of Keras, a quarter of a second at a time.
    while np.count_nonzero(np.isnan(finished)) > shed:
        time.sleep(0.01)
    return (finished - due_s)[np.isfinite(finished)], shed


def _note(finished: Any, index: int, future: Future[Any]) -> None:
    future.result()
    finished[index] = time.perf_counter()


def closed_loop(predictor: TunedPredictor, rows: Any, rounds: int, seconds: float) -> float:
    """Print a line of the first table; return the requests per second of threads."""
    size = predictor.recommendation.batch_size * predictor.recommendation.concurrency
    many = np.resize(rows, (max(4 * size, len(rows)), *rows.shape[1:]))
    found: dict[str, list[float]] = {"offline": [], "threads": [], "tasks": []}
    with MicroBatcher(predictor) as batcher:
        for way in (threads, tasks):  # warm
            way(batcher, rows, 0.3)
        for _ in range(rounds):
            found["offline"].append(offline(predictor, many, seconds))
            found["threads"].append(threads(batcher, rows, seconds))
            found["tasks"].append(tasks(batcher, rows, seconds))
        figures = batcher.figures
    speed = {way: median(values) for way, values in found.items()}
    ratio = {
        way: median(np.array(found[way]) / np.array(found["offline"]))
        for way in ("threads", "tasks")
    }
    print(
        f"{predictor.model.name:12}{predictor.recommendation.candidate!s:34}"
        f"{speed['offline']:12,.0f}{speed['threads']:12,.0f}{ratio['threads']:7.2f}"
        f"{speed['tasks']:12,.0f}{ratio['tasks']:7.2f}{figures.batch_rows.mean:8.1f}"
        f"{1e3 * batcher.max_wait_s:9.2f}",
        flush=True,
    )
    return speed["threads"]


def patient(predictor: TunedPredictor, budget_s: float) -> TunedPredictor:
    """The same predictor, with another latency budget."""
    goal = dataclasses.replace(predictor.record.goal, latency_budget_s=budget_s)
    record = replace(predictor.record, goal=goal)
    return TunedPredictor(record, lambda: predictor.model, predictor.model.save)


def open_loop(predictor: TunedPredictor, rows: Any, capacity: float, seconds: float) -> str:
    """Return a line of the second table."""
    budget_s, rate = predictor.record.goal.latency_budget_s or float("nan"), LOAD * capacity
    spare_the_collector()
    with MicroBatcher(predictor) as batcher, ThreadPoolExecutor(1) as thread:
        poisson(batcher, rows, rate, 0.3)
        idle = [poisson(Nothing(thread), rows, rate, seconds / 2)[0]]
        took, shed = poisson(batcher, rows, rate, seconds)
        idle.append(poisson(Nothing(thread), rows, rate, seconds / 2)[0])
        figures = batcher.figures
    gc.unfreeze()
    middle, late = np.quantile(took, [0.5, 0.99])
    machine = float(np.quantile(np.concatenate(idle), 0.99))
    verdict = "within" if late <= budget_s else "MISSED"
    return (
        f"{predictor.model.name:12}{rate:12,.0f}{1e3 * budget_s:11.1f}"
        f"{1e3 * middle:10.2f}{1e3 * late:10.2f}{1e3 * machine:10.2f}  {verdict:8}{shed:6}"
        f"{figures.batch_rows.mean:8.1f}{1e3 * batcher.max_wait_s:9.2f}"
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    names = [make.__name__ for make, _, _ in CASES]
    parser.add_argument("--model", action="append", choices=names, help="repeat; by default all")
    options = parser.parse_args()
    short = options.short
    rounds, seconds, tuning_s = (2, 1.0, 6.0) if short else (7, 4.0, 60.0)
    lines = []
    print(f"{CALLERS} callers of one row each: requests a second, and as a share of offline")
    print(
        f"{'model':12}{'tuned':34}{'offline':>12}{'threads':>12}{'share':>7}{'tasks':>12}"
        f"{'share':>7}{'batch':>8}{'wait ms':>9}"
    )
    for make, count, budget_s in SHORT if short else CASES:
        if make.__name__ not in (options.model or names):
            continue
        model = make()
        rows = rows_for(model, count)
        predictor = tune(model, rows, Goal(latency_budget_s=budget_s), budget_s=tuning_s)
        capacity = closed_loop(predictor, rows, rounds, seconds)
        # At once: capacity and arrivals should meet the same machine.
        lines.append(open_loop(predictor, rows, capacity, 5 * seconds))
        if budget_s < PATIENT_S:
            slow = patient(predictor, PATIENT_S)
            lines.append(open_loop(slow, rows, capacity, 5 * seconds))
    print(f"\nPoisson arrivals at {LOAD:.0%} of the capacity for threads; times in ms")
    print(
        f"{'model':12}{'requests/s':>12}{'budget':>11}{'median':>10}{'p99':>10}"
        f"{'nothing':>10}  {'':8}{'shed':>6}{'batch':>8}{'wait ms':>9}"
    )
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
