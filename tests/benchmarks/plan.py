"""Plans against reality: the MicroBatcher at the planned setting, under open-loop Poisson load.

    python -m tests.benchmarks.plan             # under an hour
    python -m tests.benchmarks.plan --short     # some ten minutes: little tuning, short rounds
    python -m tests.benchmarks.plan --model digits
    python -m tests.benchmarks.plan --overhead  # ten seconds: what Python takes, for service.py

Tunes three models whose calls take most of the time, then three where Python does, and plans each
for a million requests of one row a second from its record alone. In a process that has run nothing
else a MicroBatcher is set up as planned; requests come at shares of the rate that was planned for a
replica, several times each; in the end as fast as they are let in, which is the limit that was
planned. Latency counts from when a request was due. What sends the requests runs in the same
process, as a service would: the time that it takes for each, at that rate, is measured before, and
is in what is predicted. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, cast

import keras
import numpy as np
from msgspec.structs import replace

from autotune import Candidate, MicroBatcher, TunedPredictor, load, tune
from autotune.plan import Plan, plan_capacity
from autotune.replica import Replica
from autotune.scheduling import schedule_for
from autotune.service import MEASURED, Overhead, Service
from tests.batchers import record_of
from tests.benchmarks.batching import digits, poisson
from tests.benchmarks.nets import attention, cnn, mlp, mobilenet, rows_for, unet

RATE = 1e6
LOADS = (0.3, 0.6, 0.8)
ASKED_LATENCY, ASKED_LIMIT, ASKED_PLAN_S = 0.25, 0.10, 10.0
SIMULATED = 131_072  # requests
# model, rows of the sample, limit of the 99 % quantile
CASES: list[tuple[Callable[[], keras.Model], int, float]] = [
    (mobilenet, 256, 0.1),
    (unet, 128, 0.2),
    (attention, 2_048, 0.05),
    (mlp, 8_192, 0.02),
    (digits, 8_192, 0.02),
    (cnn, 2_048, 0.05),
]


class Instant:
    """A predictor that takes no time, with a gate: what is left is the batcher's own time."""

    def __init__(self, batch_size: int) -> None:
        self.record = record_of(Candidate(batch_size))
        self.recommendation = self.record.recommendation
        self.gate = threading.Event()
        self.gate.set()

    def open(self) -> None:
        """Be ready, as it is."""

    def predict(self, x: Any) -> Any:
        """Return ten numbers of each row, when the gate is open."""
        self.gate.wait()
        return x[:, :10]


def instant(batch_size: int, max_wait_s: float) -> tuple[Instant, MicroBatcher]:
    """A batcher over such a predictor."""
    predictor = Instant(batch_size)
    return predictor, MicroBatcher(
        cast(TunedPredictor, predictor), max_wait_s=max_wait_s, max_queue_rows=10**9
    )


def spare_the_collector() -> None:
    """Keep what is there out of Python's collector, which else stops all; docs/serving.md."""
    gc.collect()
    gc.freeze()


ROW = np.zeros((1, 10), np.float32)
WIDE = np.ones((8_192, 784), np.float32)  # more than a processor's cache


def let_in_s(requests: int = 20_000) -> float:
    """Seconds of the processor to put a request in the queue; what others take does not count."""
    _, batcher = instant(10**8, 3600.0)
    batcher.submit(ROW)
    start = time.thread_time()
    for _ in range(requests):
        batcher.submit(ROW)
    spent = time.thread_time() - start
    batcher.close(drain=False)
    return spent / requests


def backlog_s(batch_size: int, batches: int, rows: Any = ROW) -> float:
    """Seconds of the processor for a batch out of many that wait."""
    predictor, batcher = instant(batch_size, 0.0)
    batcher.submit(rows[:1]).result()
    predictor.gate.clear()
    held = batcher.submit(rows[:1])
    time.sleep(0.05)
    done = threading.Event()
    for index in range(batches * batch_size - 1):
        batcher.submit(rows[index % len(rows)][None])
    batcher.submit(rows[:1]).add_done_callback(lambda _: done.set())
    start = time.process_time()
    predictor.gate.set()
    done.wait()
    spent = time.process_time() - start
    held.result()
    batcher.close()
    return spent / batches


def alone_s(requests: int = 300) -> float:
    """Seconds from a request to its answer where the thread slept and nothing disturbs."""
    _, batcher = instant(1, 0.0)
    took: list[float] = []
    for _ in range(requests):
        time.sleep(0.002)
        done = threading.Event()
        start = time.perf_counter()

        def note(_: object, start: float = start, done: threading.Event = done) -> None:
            took.append(time.perf_counter() - start)
            done.set()

        batcher.submit(ROW).add_done_callback(note)
        done.wait()
    batcher.close()
    return float(np.quantile(took, 0.25))


def measure_overhead(rounds: int = 7) -> Overhead:
    """What Python takes here: medians of rounds. So many requests never wait in a service."""
    gc.disable()  # their number is what the collector would take its time for
    found = []
    for _ in range(rounds):
        small, large, wide = backlog_s(1, 2_000), backlog_s(256, 40), backlog_s(256, 40, WIDE)
        answer_s = (large - small) / 255
        byte_s = (wide - large) / (256 * WIDE[0].nbytes)
        found.append((let_in_s(), answer_s, small - answer_s, alone_s(100), byte_s))
    let_in, answer, batch, alone, byte = (median(each) for each in zip(*found, strict=True))
    gc.enable()
    wake = max(0.0, alone - let_in - answer - batch)
    return Overhead(let_in_s=let_in, answer_s=answer, batch_s=batch, wake_s=wake, byte_s=byte)


class Nowhere:
    """A batcher, and a future, that have the answer at once: what is left is the sender's time."""

    def submit(self, _: Any) -> Nowhere:
        """Take rows."""
        return self

    def add_done_callback(self, call: Callable[[Any], object]) -> None:
        """Call back at once."""
        call(self)

    def result(self) -> None:
        """Return nothing."""


def with_sender(rows: Any, requests_per_s: float = 20_000.0) -> Overhead:
    """What Python takes for a request that is sent from here: the sender's time is in it.

    The more there are, the less each takes: the sender has no need to sleep.
    """
    nowhere = cast(MicroBatcher, Nowhere())
    start = time.thread_time()
    took, _ = poisson(nowhere, rows, requests_per_s, 1.0)
    sender_s = (time.thread_time() - start) / len(took)
    return replace(MEASURED, let_in_s=MEASURED.let_in_s + sender_s)


def with_flood(rows: Any, requests: int = 200_000) -> Overhead:
    """The same for a sender who never sleeps, and looks at no clock."""
    nowhere = cast(MicroBatcher, Nowhere())
    start = time.thread_time()
    send(nowhere, rows, requests)
    sender_s = (time.thread_time() - start) / requests
    return replace(MEASURED, let_in_s=MEASURED.let_in_s + sender_s)


def send(batcher: MicroBatcher, rows: Any, requests: int) -> None:
    """Send requests as fast as can be."""
    for index in range(requests):
        batcher.submit(rows[index % len(rows)][None])


def flood(batcher: MicroBatcher, rows: Any, seconds: float) -> float:
    """Requests a second where the queue is never empty."""
    enough = 4 * batcher.batch_size
    end = time.perf_counter() + seconds
    before, start = batcher.figures.answered, time.perf_counter()
    sent = batcher.figures.requests
    while (now := time.perf_counter()) < end:
        if sent - batcher.figures.answered > 2 * enough:
            time.sleep(0.0005)
            continue
        send(batcher, rows, enough)
        sent += enough
    return (batcher.figures.answered - before) / (now - start)


def replica_of(predictor: TunedPredictor, plan: Plan, overhead: Overhead) -> Replica:
    """The plan's replica, with what Python takes for requests that come in some way."""
    schedule = schedule_for(
        predictor.recommendation,
        predictor.record,
        plan.max_wait_s,
        plan.max_queue_rows,
        plan.max_batch_size,
    )
    return Replica(Service(predictor.record), schedule, overhead)


def against_load(
    predictor: TunedPredictor,
    plan: Plan,
    rows: Any,
    rounds: int,
    seconds: float,
) -> None:
    """Print a line a load: predicted, and measured with the range of its rounds."""
    for share in LOADS:
        rate = share * plan.requests_per_s
        run = replica_of(predictor, plan, with_sender(rows, rate)).run(rate, SIMULATED)
        found = []
        for _ in range(rounds):
            with MicroBatcher(predictor, **cast(Any, plan.arguments)) as batcher:
                poisson(batcher, rows, rate, 0.3)
                before = batcher.figures
                took, shed = poisson(batcher, rows, rate, seconds)
                after = batcher.figures
            size = (after.rows - before.rows) / (after.batches - before.batches)
            found.append((*np.quantile(took, [0.5, 0.99]), size, shed))
        middle, late, sizes, turned_away = zip(*found, strict=True)
        expected = run.quantile(0.99).value
        verdict = abs(median(late) / expected - 1) <= ASKED_LATENCY
        print(
            f"| {_name(predictor)} | {share:.0%} | {rate:,.0f} "
            f"| {ms(run.quantile(0.5).value)} | {_range(middle)} "
            f"| {ms(expected)} | {_range(late)} | {median(late) / expected - 1:+.0%} "
            f"{'reached' if verdict else 'MISSED'} | {run.batch_rows:.1f} | {median(sizes):.1f} "
            f"| {sum(turned_away)} |",
            flush=True,
        )


def ms(seconds: float) -> str:
    """Write a time in milliseconds."""
    return f"{1e3 * seconds:.2f}"


def _range(seconds: tuple[float, ...]) -> str:
    return f"{ms(median(seconds))} ({ms(min(seconds))} to {ms(max(seconds))})"


def against_limit(
    predictor: TunedPredictor, plan: Plan, rows: Any, rounds: int, seconds: float
) -> None:
    """Print a line of the last table: the throughput limit."""
    endless = plan.arguments | {"max_queue_rows": 10**9}
    with MicroBatcher(predictor, **cast(Any, endless)) as batcher:
        flood(batcher, rows, 0.3)
        found = [flood(batcher, rows, seconds) for _ in range(rounds)]
    limit = replica_of(predictor, plan, with_flood(rows)).capacity_per_s
    off = median(found) / limit - 1
    verdict = "reached" if abs(off) <= ASKED_LIMIT else "MISSED"
    print(
        f"| {_name(predictor)} | {limit:,.0f} | {median(found):,.0f} "
        f"({min(found):,.0f} to {max(found):,.0f}) | {off:+.0%} {verdict} "
        f"| {plan.saturates_first} |",
        flush=True,
    )


def _name(predictor: TunedPredictor) -> str:
    return predictor.record.model.name if predictor.record.model else ""


def serve(what: str, folder: Path, limit_s: float, short: bool) -> None:
    """Serve a tuned folder as planned, in a process that has run nothing else."""
    ctypes.CDLL(None).prctl(29, 1)  # timers of this thread to the nanosecond, not to 50 us
    predictor, rows = load(folder), np.load(folder.with_suffix(".npy"))
    predictor.predict(rows[:1])
    assert predictor.recommendation == predictor.record.recommendation
    overhead = with_sender(rows)
    start = time.perf_counter()
    plan = plan_capacity(predictor.record, RATE, limit_s, overhead=overhead)
    spent = time.perf_counter() - start
    spare_the_collector()
    rounds, seconds = (2, 2.0) if short else (5, 10.0)
    if what == "plan":
        print(
            f"| {_name(predictor)} | {predictor.recommendation.candidate} | {plan.arguments} "
            f"| {1e6 * plan.overhead.request_s:.1f} us | {plan.load.replicas:,} replicas "
            f"| {spent:.1f} s "
            f"{'reached' if spent <= ASKED_PLAN_S else 'MISSED'} |",
            flush=True,
        )
    elif what == "load":
        against_load(predictor, plan, rows, rounds, seconds)
    else:
        against_limit(predictor, plan, rows, rounds, seconds)


HEADS = {
    "plan": "| model | tuned | setting | Python a request | a million requests/s | planned in |",
    "load": "| model | load | requests/s | p50 ms predicted | measured | p99 ms predicted "
    "| measured | off | rows a batch predicted | measured | turned away |",
    "limit": "| model | limit predicted, rows/s | measured | off | saturates first |",
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--model", action="append", help="by its name; repeat; by default all")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.overhead:
        print(measure_overhead())
        return
    if options.serve:
        what, folder, limit_s = options.serve
        serve(what, Path(folder), float(limit_s), options.short)
        return
    with tempfile.TemporaryDirectory() as home:
        cases = []
        for make, count, limit_s in CASES:
            if options.model and make.__name__ not in options.model:
                continue
            model = make()
            folder, rows = Path(home) / model.name, rows_for(model, count)
            np.save(folder.with_suffix(".npy"), rows)
            tune(model, rows, budget_s=6.0 if options.short else 60.0).save(folder)
            cases.append((folder, limit_s))
        for what, head in HEADS.items():
            print(f"\n{head}\n{'|---' * (head.count('|') - 1)}|", flush=True)
            for folder, limit_s in cases:
                words = ["--serve", what, str(folder), str(limit_s), *["--short"] * options.short]
                command = [sys.executable, "-m", "tests.benchmarks.plan", *words]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
