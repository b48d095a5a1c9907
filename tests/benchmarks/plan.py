"""Plans against reality: the MicroBatcher at the planned setting, under open-loop Poisson load.

    python -m tests.benchmarks.plan            # under an hour
    python -m tests.benchmarks.plan --short    # some ten minutes: little tuning, few spells
    python -m tests.benchmarks.plan --model digits --keep tunings/    # takes what is there

Three models whose calls take most of the time, then three where Python does: each is tuned,
planned for a million requests of one row a second from its record alone, and tried at once. In a
process that has run nothing else a MicroBatcher is set up as planned; requests come at shares of
the rate that was planned for a replica, in spells of some seconds; in the end as fast as they are
let in, which is the limit that was planned. Latency counts from when a request was due. What sends
the requests runs in the same process, as a service would: the time that it takes for each, at that
rate, is measured before, and is in what is predicted. Nothing else should run meanwhile.

A plan holds for the machine as it was when the model was tuned. One that is shared is faster at one
time and slower at another, so its speed is measured before and after each spell: for the limit by
the predictor alone, for latencies by calls as a service makes them, beside the rehearsal's. Rates
and times are those of the machine as it was, and a spell in which it changed does not count. What
all spells would say without that stands beside it. Standstills are predicted as the record tells of
them. Within a spell the machine may be slow for a moment, too, and a queue comes of it: the pulse
tells, and beside the quantile of all requests stands that of the even ones, which met no such
moment, against what is predicted where the machine never stands still. The queue has no end, as in
the simulation.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, cast

import keras
import numpy as np

from autotune import MicroBatcher, TunedPredictor, load, tune
from autotune.plan import Plan, plan_capacity
from autotune.pulse import Pulse
from autotune.replica import Replica, Run
from autotune.scheduling import schedule_for
from autotune.service import Overhead, Service
from autotune.standstills import NEVER, Standstills
from tests.benchmarks.batching import arrivals_s, digits, poisson, spare_the_collector
from tests.benchmarks.nets import attention, cnn, mlp, mobilenet, rows_for, unet
from tests.benchmarks.plan_overhead import send, with_flood, with_sender
from tests.benchmarks.spells import (
    Machine,
    Spell,
    calm_spells,
    count_calm,
    even_ones,
    those_that_count,
)

RATE = 1e6
LOADS = (0.3, 0.6, 0.8)
ASKED_LATENCY, ASKED_LIMIT, ASKED_PLAN_S = 0.25, 0.10, 10.0
SIMULATED = 131_072  # requests
ENDLESS = 10**9  # rows of a queue
# model, rows of the sample, limit of the 99 % quantile
CASES: list[tuple[Callable[[], keras.Model], int, float]] = [
    (mobilenet, 256, 0.1),
    (unet, 128, 0.2),
    (attention, 2_048, 0.05),
    (mlp, 8_192, 0.02),
    (digits, 8_192, 0.02),
    (cnn, 2_048, 0.05),
]


def flood(batcher: MicroBatcher, rows: Any, seconds: float) -> float:
    """Requests a second where the queue is never empty; what was sent is answered at the end."""
    enough, first = 4 * batcher.batch_size, batcher.figures
    send(batcher, rows, enough)
    while (begin := batcher.figures).answered == first.answered:  # from then on all is busy
        time.sleep(0.0001)
    start, sent = time.perf_counter(), begin.requests
    while time.perf_counter() < start + seconds:
        if sent - batcher.figures.answered > 2 * enough:
            time.sleep(0.0005)
            continue
        send(batcher, rows, enough)
        sent += enough
    found = (batcher.figures.answered - begin.answered) / (time.perf_counter() - start)
    while (left := batcher.figures).queue_rows or left.flying_rows:
        time.sleep(0.001)
    if left.failed:
        raise SystemExit(f"{left.failed} requests failed: the rate of the others says nothing.")
    return found


def replica_of(
    predictor: TunedPredictor, plan: Plan, overhead: Overhead, still: Standstills | None = None
) -> Replica:
    """The plan's replica, with what Python takes for requests that come in some way.

    It stands still as the record tells, or as it did at another time.
    """
    schedule = schedule_for(
        predictor.recommendation,
        predictor.record,
        plan.max_wait_s,
        plan.max_queue_rows,
        plan.max_batch_size,
    )
    service = Service(predictor.record)
    return Replica(service, schedule, overhead, standstills=still or service.standstills)


def against_load(
    predictor: TunedPredictor, plan: Plan, rows: Any, count: int, seconds: float
) -> None:
    """Print a line a load: predicted, and measured at the speed that the machine was tuned at.

    A machine that is slower by a tenth gets a tenth fewer requests, and its times count for a tenth
    less: the same queue, in slow motion.
    """
    machine = Machine(predictor, rows)
    endless = plan.arguments | {"max_queue_rows": ENDLESS}
    for share in LOADS:
        rate = share * plan.requests_per_s
        overhead = with_sender(rows, rate)
        run = replica_of(predictor, plan, overhead).run(rate, SIMULATED)
        even = replica_of(predictor, plan, overhead, NEVER).run(rate, SIMULATED)
        with MicroBatcher(predictor, **cast(Any, endless)) as batcher:
            poisson(batcher, rows, rate, 0.3)
            spells = calm_spells(
                lambda: loaded(batcher, machine, rows, rate, seconds),  # noqa: B023
                count,
            )
        line = _line(spells, run, even)
        print(f"| {_name(predictor)} | {share:.0%} | {rate:,.0f} | {line} |", flush=True)


def _line(spells: list[Spell], run: Run, even: Run) -> str:
    """What was planned, and measured in the spells that count, of all requests and of even ones."""
    calm = those_that_count(spells)
    steady = [spell.found * spell.speed for spell in calm]
    evenly = [found[spell.is_even] for found, spell in zip(steady, calm, strict=True)]
    late = [float(np.quantile(found, 0.99)) for found in steady]
    middle = [float(np.quantile(found, 0.50)) for found in steady]
    raw = float(np.quantile(np.concatenate([spell.found for spell in spells]), 0.99))
    left_out = 1 - sum(map(len, evenly)) / sum(map(len, steady))
    return (
        f"{ms(run.quantile(0.5).value)} | {_range(median(middle), middle)} "
        f"| {_against(run, np.concatenate(steady))} | {ms(min(late))} to {ms(max(late))} "
        f"| {_against(even, np.concatenate(evenly))} | {left_out:.0%} | {ms(raw)} "
        f"| {run.batch_rows:.1f} | {median(spell.rows for spell in calm):.1f} "
        f"| {count_calm(spells)}"
    )


def _against(run: Run, found: Any) -> str:
    """A 99 % quantile as planned, as measured, and how far off."""
    if not len(found):
        return "- | - | -"
    expected, measured = run.quantile(0.99).value, float(np.quantile(found, 0.99))
    off = measured / expected - 1
    verdict = "reached" if abs(off) <= ASKED_LATENCY else "MISSED"
    return f"{ms(expected)} | {ms(measured)} | {off:+.0%} {verdict}"


def loaded(
    batcher: MicroBatcher, machine: Machine, rows: Any, rate: float, seconds: float
) -> Spell:
    """A spell of requests that come at a rate, or at less where the machine is slower."""
    before, start = machine.speed(), batcher.figures
    seed = start.requests
    with Pulse() as pulse:
        dues_s = arrivals_s(rate * before, seconds, seed) + time.perf_counter()
        took, _ = poisson(batcher, rows, rate * before, seconds, seed)
    end = batcher.figures
    size = (end.rows - start.rows) / (end.batches - start.batches)
    return Spell(took, size, before, machine.speed(), even_ones(pulse, dues_s))


def against_limit(
    predictor: TunedPredictor, plan: Plan, rows: Any, count: int, seconds: float
) -> None:
    """Print a line of the last table: the throughput limit, at the same speed of the machine."""
    machine = Machine(predictor, rows)
    endless = plan.arguments | {"max_queue_rows": ENDLESS}
    with MicroBatcher(predictor, **cast(Any, endless)) as batcher:
        flood(batcher, rows, 0.3)
        spells = calm_spells(lambda: flooded(batcher, machine, rows, seconds), count)
    found = [spell.found / spell.speed for spell in those_that_count(spells)]
    raw = median(spell.found for spell in spells)
    limit = replica_of(predictor, plan, with_flood(rows)).capacity_per_s
    off = median(found) / limit - 1
    verdict = "reached" if abs(off) <= ASKED_LIMIT else "MISSED"
    print(
        f"| {_name(predictor)} | {limit:,.0f} | {median(found):,.0f} "
        f"({min(found):,.0f} to {max(found):,.0f}) | {off:+.0%} {verdict} | {raw:,.0f} "
        f"| {count_calm(spells)} | {plan.saturates_first} |",
        flush=True,
    )


def flooded(batcher: MicroBatcher, machine: Machine, rows: Any, seconds: float) -> Spell:
    """A spell in which the queue is never empty."""
    before = machine.full_speed()
    found = flood(batcher, rows, seconds)
    return Spell(found, 0.0, before, machine.full_speed())


def ms(seconds: float) -> str:
    """Write a time in milliseconds."""
    return f"{1e3 * seconds:.2f}"


def _range(seconds: float, of: list[float]) -> str:
    return f"{ms(seconds)} ({ms(min(of))} to {ms(max(of))})"


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
    count, seconds = (2, 2.0) if short else (6, 3.0)
    if what == "plan":
        print(
            f"| {_name(predictor)} | {predictor.recommendation.candidate} | {plan.arguments} "
            f"| {1e6 * plan.overhead.request_s:.1f} us "
            f"| {plan.standstills_per_s:.2f}/s of {ms(plan.standstill_s)} ms "
            f"| {plan.load.replicas:,} replicas "
            f"| {spent:.1f} s "
            f"{'reached' if spent <= ASKED_PLAN_S else 'MISSED'} |",
            flush=True,
        )
    elif what == "load":
        against_load(predictor, plan, rows, count, seconds)
    else:
        against_limit(predictor, plan, rows, count, seconds)


def prepare(folder: Path, make: Callable[[], keras.Model], count: int, budget_s: float) -> None:
    """Tune a model, unless that was done."""
    if not folder.exists():
        model = make()
        rows = rows_for(model, count)
        np.save(folder.with_suffix(".npy"), rows)
        tune(model, rows, budget_s=budget_s).save(folder)


HEADS = {
    "plan": "| model | tuned | setting | Python a request | standstills | a million requests/s "
    "| planned in |",
    "load": "| model | load | requests/s | p50 ms predicted | measured | p99 ms predicted "
    "| measured | off | by spell | p99 of even ones predicted | measured | off | left out "
    "| p99 as it was | rows a batch predicted | measured | calm |",
    "limit": "| model | limit predicted, rows/s | measured | off | as it was | calm "
    "| saturates first |",
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--model", action="append", help="by its name; repeat; by default all")
    parser.add_argument("--keep", type=Path, help="a folder for the tunings, in place of a new one")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        what, folder, limit_s = options.serve
        serve(what, Path(folder), float(limit_s), options.short)
        return
    with tempfile.TemporaryDirectory() as new:
        home = options.keep or Path(new)
        home.mkdir(parents=True, exist_ok=True)
        for make, count, limit_s in CASES:
            folder = home / make.__name__
            if not options.model or make.__name__ in options.model:
                prepare(folder, make, count, 6.0 if options.short else 60.0)
                compare(folder, limit_s, options.short)


def compare(folder: Path, limit_s: float, short: bool) -> None:
    """Print a model's tables, each measured in a process of its own, right after the tuning."""
    for what, head in HEADS.items():
        print(f"\n{head}\n{'|---' * (head.count('|') - 1)}|", flush=True)
        words = ["--serve", what, str(folder), str(limit_s), *["--short"] * short]
        subprocess.run([sys.executable, "-m", "tests.benchmarks.plan", *words], check=True)


if __name__ == "__main__":
    main()
