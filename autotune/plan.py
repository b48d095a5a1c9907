"""Capacity: from the record of a tuning and an arrival rate to the batcher's setting and replicas.

Arrivals are Poisson and split evenly, so that each replica sees Poisson arrivals of its share of
the rate. One replica is simulated, with the record's own call times; how many are needed follows
from the highest rate that one carries within the limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from msgspec import Struct

from autotune.errors import InvalidInput
from autotune.records import TuningRecord
from autotune.service import MEASURED, Overhead, Service
from autotune.setting import SaturatesFirst, Setting, Terms, best_setting
from autotune.units import format_seconds

RATES = tuple(10.0**power for power in range(1, 7))
LEAST_RATE, MOST = 1e-6, 1e15  # beyond these, times and replicas are no numbers that mean anything
REQUESTS = 65_536  # of the simulation that a line of the table comes from


class Load(Struct, frozen=True, kw_only=True):
    """What an arrival rate needs, and what its callers see.

    Attributes:
        rate_per_s: Requests a second.
        replicas: Batchers, each with a machine like the tuned one to itself.
        utilisation: Share of a batcher's threads that is busy.
        batch_rows: Mean rows in a batch.
        latency_s: Median seconds from a request's coming to its answer.
        latency_quantile_s: The same at the plan's quantile.
        latency_quantile_low_s: Lower end of its 95 % interval: what chance does to a simulation.
        latency_quantile_high_s: Upper end.
        cost_per_hour: Of all replicas; None where no price was given.
    """

    rate_per_s: float
    replicas: int
    utilisation: float
    batch_rows: float
    latency_s: float
    latency_quantile_s: float
    latency_quantile_low_s: float
    latency_quantile_high_s: float
    cost_per_hour: float | None


class Plan(Struct, frozen=True, kw_only=True):
    """How to serve an arrival rate within a limit.

    Attributes:
        limit_s: Longest time to an answer, in seconds, at `quantile`.
        quantile: Which quantile of the time to an answer is held against it.
        rows_per_request: Rows of each request.
        headroom: By which share the rate may rise before the limit is missed.
        overhead: What Python was taken to need beside the model's calls.
        batch_size: Most rows in a batch.
        max_wait_s: Argument of `MicroBatcher`; None for its own choice.
        max_batch_size: Argument of `MicroBatcher`; None for its own choice.
        max_queue_rows: Argument of `MicroBatcher`: who finds more rows waiting would come too late.
        requests_per_s: Most requests a second that a replica answers within the limit.
        rows_per_s_limit: Most rows a second that a replica answers at all, in full batches.
        standstills_per_s: How often the machine stood still while it was tuned, in a second that it
            ran; 0 where that was not seen.
        standstill_s: Mean seconds of one.
        saturates_first: What keeps a replica from answering more: "latency" where the limit is
            missed while there is time left, "model" where its calls, and "requests" where letting
            in and answering fill that time.
        load: The rate that was asked for.
        loads: It and other rates, rising.
        warnings: What a reader should know before trusting the figures.
    """

    limit_s: float
    quantile: float
    rows_per_request: int
    headroom: float
    overhead: Overhead
    batch_size: int
    max_wait_s: float | None
    max_batch_size: int | None
    max_queue_rows: int
    requests_per_s: float
    rows_per_s_limit: float
    standstills_per_s: float
    standstill_s: float
    saturates_first: SaturatesFirst
    load: Load
    loads: tuple[Load, ...]
    warnings: tuple[str, ...]

    @property
    def arguments(self) -> dict[str, float]:
        """What to pass to `MicroBatcher`, by name."""
        passed = {"max_wait_s": self.max_wait_s, "max_batch_size": self.max_batch_size}
        given = {name: value for name, value in passed.items() if value is not None}
        return {**given, "max_queue_rows": self.max_queue_rows}


def plan_capacity(
    record: TuningRecord,
    rate_per_s: float,
    limit_s: float,
    *,
    quantile: float = 0.99,
    rows_per_request: int = 1,
    headroom: float = 0.2,
    price_per_hour: float | None = None,
    overhead: Overhead = MEASURED,
    rates: Iterable[float] = RATES,
    seed: int = 0,
) -> Plan:
    """Plan how to serve requests that come at a rate, by simulation.

    Args:
        record: A tuning run on a machine like those that will serve.
        rate_per_s: Requests a second, in all.
        limit_s: Longest time from a request's coming to its answer, in seconds, at `quantile`.
        quantile: Which quantile of that time is held against `limit_s`; at most 0.999.
        rows_per_request: Rows of each request.
        headroom: By which share the rate may rise before the limit is missed.
        price_per_hour: Of one replica.
        overhead: What Python takes for each request beside the model's calls.
        rates: Other rates to tell of.
        seed: Of the simulation.

    Returns:
        The setting with which a replica carries most, and how many replicas there must be.

    Raises:
        InvalidInput: An argument is out of range.
        InvalidRecord: The record has no recommendation.
        NoFeasibleBatchSize: The limit is missed even by a replica that has nothing else to do.

    Example:
        >>> from autotune import Candidate, Goal, Measurement
        >>> from autotune.recommend import recommend
        >>> from autotune.outcomes import Block
        >>> from autotune.standing import Standing
        >>> timed = [Measurement(Candidate(rows), (0.001 * rows**0.5,) * 9) for rows in (1, 4, 16)]
        >>> standing = Standing(Goal(), None, [Block(each, 1) for each in timed])
        >>> record = TuningRecord(
        ...     goal=Goal(), outcomes=tuple(timed), recommendation=recommend(standing))
        >>> plan = plan_capacity(record, rate_per_s=10_000, limit_s=0.050)
        >>> plan.load.replicas, plan.batch_size
        (4, 16)
    """
    others = sorted({*rates, rate_per_s})
    for rate in others:
        if not LEAST_RATE <= rate <= MOST:
            raise InvalidInput(f"A rate must be from {LEAST_RATE:g} to {MOST:g}, but got {rate!r}.")
    for name, amount in {"headroom": headroom, "price_per_hour": price_per_hour or 0.0}.items():
        if not 0 <= amount <= MOST:
            raise InvalidInput(f"{name} must be from 0 to {MOST:g}, but got {amount!r}.")
    service = Service(record)
    terms = Terms(limit_s, quantile, rows_per_request, overhead, seed, service.standstills)
    setting, highest = best_setting(record, service, terms)

    def load_of(rate: float) -> Load:
        replicas = math.ceil(rate * (1 + headroom) / highest)
        cost = None if price_per_hour is None else price_per_hour * replicas
        return _load(setting, rate, replicas, quantile, cost)

    loads = {rate: load_of(rate) for rate in others}
    rows_per_s = setting.replica.capacity_per_s * rows_per_request
    batch_size = setting.replica.schedule.batch_size
    return Plan(
        limit_s=limit_s,
        quantile=quantile,
        rows_per_request=rows_per_request,
        headroom=headroom,
        overhead=overhead,
        batch_size=batch_size,
        max_wait_s=setting.max_wait_s,
        max_batch_size=setting.max_batch_size,
        max_queue_rows=max(batch_size, rows_per_request, round(rows_per_s * limit_s)),
        requests_per_s=highest,
        rows_per_s_limit=rows_per_s,
        standstills_per_s=service.standstills.per_s,
        standstill_s=service.standstills.mean_s,
        saturates_first=setting.saturates_first(highest),
        load=loads[rate_per_s],
        loads=tuple(loads.values()),
        warnings=(
            *_of_standstills(record, service, terms, setting, loads[rate_per_s]),
            *_warnings(record, service, loads.values()),
        ),
    )


def _load(
    setting: Setting, rate_per_s: float, replicas: int, quantile: float, cost: float | None
) -> Load:
    run = setting.run(rate_per_s / replicas, REQUESTS)
    late = run.quantile(quantile)
    return Load(
        rate_per_s=rate_per_s,
        replicas=replicas,
        utilisation=run.utilisation,
        batch_rows=run.batch_rows,
        latency_s=run.quantile(0.5).value,
        latency_quantile_s=late.value,
        latency_quantile_low_s=late.low,
        latency_quantile_high_s=late.high,
        cost_per_hour=cost,
    )


def _of_standstills(
    record: TuningRecord, service: Service, terms: Terms, setting: Setting, load: Load
) -> Iterator[str]:
    """What a reader should know where standstills are left out of the plan."""
    still = terms.standstills
    if setting.terms.standstills == still:
        return
    as_it_was = Setting(record, service, terms, setting.max_wait_s, setting.max_batch_size)
    rate_per_s, those = load.rate_per_s / load.replicas, "could not keep up"
    if rate_per_s < as_it_was.replica.capacity_per_s:
        late = as_it_was.run(rate_per_s, REQUESTS).quantile(terms.quantile)
        those = f"would take {format_seconds(late.value)}"
    yield (
        f"The machine stood still {still.per_s:.2g} times a second when it was tuned, for "
        f"{format_seconds(still.mean_s)} in the mean: however many such machines there are, they "
        f"do not answer {100 * terms.quantile:g} % within {format_seconds(terms.limit_s)}. So this "
        f"plan is for machines that never do; those {those}."
    )


def _warnings(record: TuningRecord, service: Service, loads: Iterable[Load]) -> Iterator[str]:
    smallest = service.smallest
    if min(load.batch_rows for load in loads) < smallest / 2:
        yield (
            f"No batch of fewer than {smallest} rows was measured in the recommended way: the "
            "times of smaller ones are guessed."
        )
    if service.recommendation.confidence == "low":
        yield "The tuning was not settled: its times may be off. Tune with a larger --budget."
    if record.machine and record.machine.device_kind == "cpu":
        what = "the slowest seconds take longer than planned, the more so the busier a replica is"
        if not service.is_rehearsed:
            what = (
                "a plan without a rehearsal is too optimistic: tune again, with a larger --budget"
            )
        yield (
            f"Where the model shares processors with Python, {what}. Take this as the least that "
            "is needed, and try it under load (docs/plan.md)."
        )
    way = service.recommendation
    is_heavy = way.engine == "openvino" and not service.padded and way.batch_size > 1
    if is_heavy and not service.is_rehearsed:
        yield (
            "OpenVINO takes longer for a batch whose size is another than the last one's "
            "(docs/engines.md), which only a rehearsal sees, and the record has none: the plan is "
            "too optimistic. Tune again, with a larger --budget."
        )
    if record.warnings:
        yield "The record itself has warnings: autotune show tells them."
