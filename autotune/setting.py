"""Settings of a `MicroBatcher`: how many requests a replica carries with each, and the best one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from autotune.errors import NoFeasibleBatchSize
from autotune.records import TuningRecord
from autotune.replica import Estimate, Replica, Run
from autotune.scheduling import schedule_for
from autotune.service import Overhead, Service
from autotune.units import format_seconds

# Above this share of the capacity queues take longer to build up than is simulated, and any
# slowdown of the machine lets them grow without end.
STABLE = 0.95
WORTH = 1.02  # times the rate: an argument that gains less is not worth passing
WAITS = (0.1, 0.25)  # of the limit
PRECISION = 0.01  # of the highest rate
REACHED = 0.99  # of the stable rate: nearer, it is no limit that keeps from more
FIRST_LOOK, LAST_LOOK = 8_192, 65_536  # requests of a simulation, at first and where in doubt
LATE = 100  # requests beyond the quantile that a simulation must have
MOST_QUANTILE = 0.999  # beyond it more requests would be needed than there is time for

SaturatesFirst = Literal["latency", "model", "requests"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What requests are like, and what is asked of a replica.

    Attributes:
        limit_s: Longest time from a request's coming to its answer, in seconds.
        quantile: Which quantile of that time is held against it.
        rows_per_request: Rows of each request.
        overhead: What Python takes beside the model's calls.
        seed: Of the simulation.
    """

    limit_s: float
    quantile: float
    rows_per_request: int
    overhead: Overhead
    seed: int


class Setting:
    """One way to set a batcher up, and what a replica carries with it.

    Args:
        record: The tuning run.
        service: How long batches take.
        terms: What is asked.
        max_wait_s: Argument of the batcher; None for its own choice.
        max_batch_size: Argument of the batcher; None for its own choice.

    Attributes:
        replica: A replica that is set up so.
    """

    def __init__(
        self,
        record: TuningRecord,
        service: Service,
        terms: Terms,
        max_wait_s: float | None,
        max_batch_size: int | None = None,
    ) -> None:
        self.max_wait_s, self.max_batch_size = max_wait_s, max_batch_size
        self._terms = terms
        schedule = schedule_for(service.recommendation, record, max_wait_s, None, max_batch_size)
        self.replica = Replica(
            service, schedule, terms.overhead, terms.rows_per_request, terms.seed
        )
        self._stable = STABLE * self.replica.capacity_per_s

    def highest_rate(self, above: float = 0.0) -> float | None:
        """Most requests a second within the limit; None where they are not more than `above`."""
        idle = self.replica.idle_per_s
        low, high = max(above, idle), self._stable
        if high <= low or not self._meets(low) or not self._meets(idle):
            return None
        if self._meets(high):
            return high
        while high > (1 + PRECISION) * low:
            middle = (low + high) / 2
            low, high = (middle, high) if self._meets(middle) else (low, middle)
        return low

    def run(self, rate_per_s: float, requests: int) -> Run:
        """Simulate a replica at a rate, with so many requests or more."""
        return self.replica.run(rate_per_s, max(requests, self._fewest))

    def when_idle(self) -> Estimate:
        """The quantile of the time to an answer where requests hardly ever meet."""
        return self._tail(self.replica.idle_per_s, LAST_LOOK)

    def saturates_first(self, highest: float) -> SaturatesFirst:
        """What keeps a replica that carries so much from carrying more."""
        if highest < REACHED * self._stable:
            return "latency"
        return "model" if self.replica.call_share >= 1 / 2 else "requests"

    @property
    def _fewest(self) -> int:
        return max(FIRST_LOOK, math.ceil(LATE / (1 - self._terms.quantile)))

    def _meets(self, rate_per_s: float) -> bool:
        """Whether the limit is surely met; looks closer where that is in doubt."""
        requests = self._fewest
        while True:
            tail = self._tail(rate_per_s, requests)
            if tail.high <= self._terms.limit_s:
                return True
            if tail.low > self._terms.limit_s or requests >= LAST_LOOK:
                return False
            requests = LAST_LOOK

    def _tail(self, rate_per_s: float, requests: int) -> Estimate:
        return self.run(rate_per_s, requests).quantile(self._terms.quantile)


def best_setting(record: TuningRecord, service: Service, terms: Terms) -> tuple[Setting, float]:
    """Return the setting with which a replica carries most, and how many requests a second.

    First the batcher's own choice, then other waits, then smaller batches: an argument is passed
    only where it is worth something.

    Raises:
        NoFeasibleBatchSize: The limit is missed even by a replica that has nothing else to do.
    """

    def settings() -> Iterator[Setting]:
        for wait_s in (None, 0.0, *(share * terms.limit_s for share in WAITS)):
            if best and best.replica.schedule.batch_size <= terms.rows_per_request:
                return  # a batch holds one request, and waits for no other
            yield Setting(record, service, terms, wait_s)
        for size in reversed(service.limits):
            if best and size < best.replica.schedule.batch_size:
                yield Setting(record, service, terms, best.max_wait_s, size)

    best: Setting | None = None
    highest = 0.0
    for setting in settings():
        higher = setting.highest_rate(above=WORTH * highest)
        if higher is not None:
            best, highest = setting, higher
    if best is None:
        raise _too_slow(Setting(record, service, terms, 0.0).when_idle().high, terms)
    return best, highest


def _too_slow(fastest_s: float, terms: Terms) -> NoFeasibleBatchSize:
    rows = terms.rows_per_request
    return NoFeasibleBatchSize(
        f"No replica answers {100 * terms.quantile:g} % of the requests within "
        f"{format_seconds(terms.limit_s)}: with nothing else to do it may take "
        f"{format_seconds(fastest_s)} for one of {rows} row{'s' * (rows > 1)}. "
        "Allow more time, or tune for a faster call."
    )
