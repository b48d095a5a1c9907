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
time and slower at another, so its speed is measured before and after each spell, by the predictor
alone, between standstills: rates and times are those of the machine as it was, and a spell in which
it changed does not count. What all spells would say without that stands beside it. Standstills are
predicted as the record tells of them; the 99 % quantile that the same simulation tells of those
felt during the spells, "by then", shows how much of a difference is the weather's. The queue has
no end, as in the simulation.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import keras
import numpy as np

from autotune import Candidate, Measurement, MicroBatcher, TunedPredictor, load, tune
from autotune.plan import Plan, plan_capacity
from autotune.pulse import Pulse
from autotune.replica import Replica
from autotune.scheduling import schedule_for
from autotune.service import Overhead, Service
from autotune.standstills import Standstills
from tests.benchmarks.batching import digits, poisson, spare_the_collector
from tests.benchmarks.nets import attention, cnn, mlp, mobilenet, rows_for, unet
from tests.benchmarks.plan_overhead import send, with_flood, with_sender

RATE = 1e6
LOADS = (0.3, 0.6, 0.8)
ASKED_LATENCY, ASKED_LIMIT, ASKED_PLAN_S = 0.25, 0.10, 10.0
SPEED_S = 0.5  # to see how fast the machine is at the moment
CALM = 0.07  # by so much its speeds before and after a spell may differ
MOST_TRIES = 3  # spells for each that is wanted: the others were no calm ones
SIMULATED = 131_072  # requests
ENDLESS = 10**9  # rows of a queue
SLICE_S = 0.001  # in which standstills are told apart
# model, rows of the sample, limit of the 99 % quantile
CASES: list[tuple[Callable[[], keras.Model], int, float]] = [
    (mobilenet, 256, 0.1),
    (unet, 128, 0.2),
    (attention, 2_048, 0.05),
    (mlp, 8_192, 0.02),
    (digits, 8_192, 0.02),
    (cnn, 2_048, 0.05),
]


class Machine:
    """How fast the machine is at the moment, as a share of what it was when the model was tuned.

    Args:
        predictor: Runs many rows meanwhile.
        rows: Some of them.
    """

    def __init__(self, predictor: TunedPredictor, rows: Any) -> None:
        way, flights = predictor.recommendation, predictor.recommendation.concurrency
        call_s = Service(predictor.record).times(flights).mean(way.batch_size)
        self._predictor, self._tuned = predictor, flights * way.batch_size / call_s
        least = 4 * way.batch_size * flights
        self._rows = np.resize(rows, (max(least, len(rows)), *rows.shape[1:]))

    def speed(self) -> float:
        """Measure it, by calls that nothing stopped."""
        calls_s, end = [], time.perf_counter() + SPEED_S
        while (start := time.perf_counter()) < end:
            self._predictor.predict(self._rows)
            calls_s.append(time.perf_counter() - start)
        return len(self._rows) / median(calls_s) / self._tuned


@dataclass(frozen=True, slots=True)
class Spell:
    """What was measured between two looks at the machine's speed.

    Attributes:
        found: Seconds of each request, or requests a second, as they were.
        rows: Mean rows of a batch.
        before: The machine's speed before.
        after: And after it.
        slices: What the machine stood still of each slice of it.
    """

    found: Any
    rows: float
    before: float
    after: float
    slices: Measurement | None = None

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


def _calm(spells: list[Spell]) -> list[Spell]:
    """Those that count: the calm ones, or all where there is none."""
    return [spell for spell in spells if spell.is_calm] or spells


def _count(spells: list[Spell]) -> str:
    return f"{sum(spell.is_calm for spell in spells)} of {len(spells)}"


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
        with MicroBatcher(predictor, **cast(Any, endless)) as batcher:
            poisson(batcher, rows, rate, 0.3)
            spells = calm_spells(
                lambda: loaded(batcher, machine, rows, rate, seconds),  # noqa: B023
                count,
            )
        calm = _calm(spells)
        steady = [spell.found * spell.speed for spell in calm]
        late = [float(np.quantile(found, 0.99)) for found in steady]
        middle = [float(np.quantile(found, 0.50)) for found in steady]
        measured = float(np.quantile(np.concatenate(steady), 0.99))
        raw = float(np.quantile(np.concatenate([spell.found for spell in spells]), 0.99))
        expected = run.quantile(0.99).value
        off = measured / expected - 1
        still = Standstills.seen_in([spell.slices for spell in calm if spell.slices])
        by_then = replica_of(predictor, plan, overhead, still).run(rate, SIMULATED)
        print(
            f"| {_name(predictor)} | {share:.0%} | {rate:,.0f} "
            f"| {ms(run.quantile(0.5).value)} | {_range(median(middle), middle)} "
            f"| {ms(expected)} | {_range(measured, late)} "
            f"| {off:+.0%} {'reached' if abs(off) <= ASKED_LATENCY else 'MISSED'} "
            f"| {ms(by_then.quantile(0.99).value)}, {still.per_s:.2f}/s of {ms(still.mean_s)} "
            f"| {ms(raw)} | {run.batch_rows:.1f} | {median(spell.rows for spell in calm):.1f} "
            f"| {_count(spells)} |",
            flush=True,
        )


def loaded(
    batcher: MicroBatcher, machine: Machine, rows: Any, rate: float, seconds: float
) -> Spell:
    """A spell of requests that come at a rate, or at less where the machine is slower."""
    before, start = machine.speed(), batcher.figures
    with Pulse() as pulse:
        began_s = time.perf_counter()
        took, _ = poisson(batcher, rows, rate * before, seconds, seed=start.requests)
        ended_s = time.perf_counter()
    end = batcher.figures
    size = (end.rows - start.rows) / (end.batches - start.batches)
    return Spell(took, size, before, machine.speed(), slices_of(pulse, began_s, ended_s))


def slices_of(pulse: Pulse, began_s: float, ended_s: float) -> Measurement:
    """What was lost of each slice between two moments, as if it were a timed call."""
    moments_s = np.arange(began_s, ended_s, SLICE_S).tolist()
    lost_s = pulse.lost_s(list(pairwise(moments_s)))
    few = tuple(min(lost, 0.99 * SLICE_S) for lost in lost_s)
    return Measurement(Candidate(1), (SLICE_S,) * len(lost_s), lost_s=few)


def against_limit(
    predictor: TunedPredictor, plan: Plan, rows: Any, count: int, seconds: float
) -> None:
    """Print a line of the last table: the throughput limit, at the same speed of the machine."""
    machine = Machine(predictor, rows)
    endless = plan.arguments | {"max_queue_rows": ENDLESS}
    with MicroBatcher(predictor, **cast(Any, endless)) as batcher:
        flood(batcher, rows, 0.3)
        spells = calm_spells(lambda: flooded(batcher, machine, rows, seconds), count)
    found = [spell.found / spell.speed for spell in _calm(spells)]
    raw = median(spell.found for spell in spells)
    limit = replica_of(predictor, plan, with_flood(rows)).capacity_per_s
    off = median(found) / limit - 1
    verdict = "reached" if abs(off) <= ASKED_LIMIT else "MISSED"
    print(
        f"| {_name(predictor)} | {limit:,.0f} | {median(found):,.0f} "
        f"({min(found):,.0f} to {max(found):,.0f}) | {off:+.0%} {verdict} | {raw:,.0f} "
        f"| {_count(spells)} | {plan.saturates_first} |",
        flush=True,
    )


def flooded(batcher: MicroBatcher, machine: Machine, rows: Any, seconds: float) -> Spell:
    """A spell in which the queue is never empty."""
    before = machine.speed()
    found = flood(batcher, rows, seconds)
    return Spell(found, 0.0, before, machine.speed())


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
    "| measured | off | by then | as it was | rows a batch predicted | measured | calm |",
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
