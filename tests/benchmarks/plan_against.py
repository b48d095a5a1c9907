"""A plan beside what a MicroBatcher does as planned: under load, and as fast as it lets in."""

from __future__ import annotations

import functools
import time
from statistics import median
from typing import Any, cast

import numpy as np

from autotune import MicroBatcher, TunedPredictor
from autotune.plan import Plan
from autotune.replica import Replica, Run
from autotune.scheduling import schedule_for
from autotune.service import Overhead, Service
from autotune.standstills import NEVER, Standstills
from tests.benchmarks.batching import poisson
from tests.benchmarks.plan_overhead import send, with_flood, with_sender
from tests.benchmarks.spells import (
    LOOKS,
    Machine,
    Spell,
    how_many_count,
    is_near,
    spells_at,
    those_that_count,
)

LOADS = (0.3, 0.6, 0.8)
ASKED_LATENCY, ASKED_LIMIT = 0.25, 0.10
SIMULATED = 262_144  # requests
SECOND_S = 1.0  # of a spell
LEAST_SHARE = 1 / 3  # of the seconds that are wanted has to count
ENDLESS = 10**9  # rows of a queue, where the limit is looked for


class AnotherMachine(Exception):
    """It is not as fast as when the model was tuned."""


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


def against_load(predictor: TunedPredictor, plan: Plan, rows: Any, count: int) -> None:
    """Print a line a load: predicted, and measured at the speed that the machine was tuned at.

    A machine that is slower by a tenth gets a tenth fewer requests, and its times count for a tenth
    less: the same queue, in slow motion.
    """
    machine = Machine(predictor, rows)
    if not is_near(median(machine.speed() for _ in range(LOOKS))):
        raise AnotherMachine
    for share in LOADS:
        rate = share * plan.requests_per_s
        overhead = with_sender(rows, rate)
        run = replica_of(predictor, plan, overhead).run(rate, SIMULATED)
        even = replica_of(predictor, plan, overhead, NEVER).run(rate, SIMULATED)
        with MicroBatcher(predictor, **cast(Any, plan.arguments)) as batcher:
            poisson(batcher, rows, rate, 0.3)
            second = functools.partial(one_second, batcher, rows, rate)
            spells = spells_at(machine.speed, second, count)
        if len(those_that_count(spells)) < LEAST_SHARE * count:
            raise AnotherMachine
        line = _line(spells, run, even, int(rate * SECOND_S))
        print(f"| {name(predictor)} | {share:.0%} | {rate:,.0f} | {line} |", flush=True)


def one_second(batcher: MicroBatcher, rows: Any, rate: float, speed: float) -> tuple[Any, float]:
    """Requests that come at a rate, or at less where the machine is slower.

    Returns:
        The seconds of each, infinite where it was turned away, and the mean rows of a batch.
    """
    start = batcher.figures
    took, shed = poisson(batcher, rows, rate * speed, SECOND_S, start.requests)
    end = batcher.figures
    mean_rows = (end.rows - start.rows) / (end.batches - start.batches)
    return np.append(took, np.full(shed, np.inf)), mean_rows


def _line(spells: list[Spell], run: Run, even: Run, requests: int) -> str:
    """What was planned, and measured in the spells that count: of the middle one, and of all."""
    counted = those_that_count(spells)
    found = [spell.found * spell.speed for spell in counted]
    middle_s, late_s = (np.array([_quantile(each, q) for each in found]) for q in (0.5, 0.99))
    planned = [_quantile(each, 0.99) for each in _seconds_of(even.latency_s, requests)]
    low, high = np.quantile(late_s, [0.25, 0.75], method="nearest")
    together = np.concatenate(found)
    return (
        f"{ms(even.quantile(0.5).value)} | {ms(median(middle_s))} "
        f"| {_against(median(planned), median(late_s))} | {ms(low)} to {ms(high)} "
        f"| {_against(run.quantile(0.99).value, _quantile(together, 0.99))} "
        f"| {np.mean(np.isinf(together)):.1%} "
        f"| {even.batch_rows:.1f} | {median(spell.rows for spell in counted):.1f} "
        f"| {how_many_count(spells)}"
    )


def _seconds_of(latency_s: Any, requests: int) -> Any:
    """A simulation's requests, so many in each row; what is left over at the end is not there."""
    whole = len(latency_s) // requests
    return latency_s[: whole * requests].reshape(whole, requests)


def _quantile(latency_s: Any, share: float) -> float:
    """One that a request had: between one and an infinite one there is nothing."""
    return float(np.quantile(latency_s, share, method="higher"))


def _against(expected: float, measured: float) -> str:
    """A 99 % quantile as planned, as measured, and how far off."""
    off = measured / expected - 1
    verdict = "reached" if abs(off) <= ASKED_LATENCY else "MISSED"
    return f"{ms(expected)} | {ms(measured)} | {off:+.0%} {verdict}"


def against_limit(predictor: TunedPredictor, plan: Plan, rows: Any, count: int) -> None:
    """Print a line of the last table: the throughput limit, at the same speed of the machine."""
    machine = Machine(predictor, rows)
    endless = plan.arguments | {"max_queue_rows": ENDLESS}
    with MicroBatcher(predictor, **cast(Any, endless)) as batcher:
        flood(batcher, rows, 0.3)
        spells = spells_at(
            machine.full_speed, lambda _: (flood(batcher, rows, SECOND_S), 0.0), count
        )
    found = [spell.found / spell.speed for spell in those_that_count(spells) or spells]
    raw = median(spell.found for spell in spells)
    limit = replica_of(predictor, plan, with_flood(rows)).capacity_per_s
    off = median(found) / limit - 1
    verdict = "reached" if abs(off) <= ASKED_LIMIT else "MISSED"
    low, high = np.quantile(found, [0.25, 0.75])
    print(
        f"| {name(predictor)} | {limit:,.0f} | {median(found):,.0f} "
        f"({low:,.0f} to {high:,.0f}) | {off:+.0%} {verdict} | {raw:,.0f} "
        f"| {how_many_count(spells)} | {plan.saturates_first} |",
        flush=True,
    )


def ms(seconds: float) -> str:
    """Write a time in milliseconds."""
    return f"{1e3 * seconds:.2f}"


def name(predictor: TunedPredictor) -> str:
    """Return that of its model."""
    return predictor.record.model.name if predictor.record.model else ""
