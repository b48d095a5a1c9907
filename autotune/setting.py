"""Settings of a `MicroBatcher`: how many requests a replica carries with each, and the best one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from autotune.errors import InvalidInput, NoFeasibleBatchSize
from autotune.records import TuningRecord
from autotune.replica import Estimate, Replica, Run
from autotune.scheduling import schedule_for
from autotune.service import Overhead, Service
from autotune.standstills import NEVER, Standstills
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
        standstills: Of the machine.

    Raises:
        InvalidInput: One of them is out of range.
    """

    limit_s: float
    quantile: float
    rows_per_request: int
    overhead: Overhead
    seed: int
    standstills: Standstills = NEVER

    def __post_init__(self) -> None:
        if not 0 < self.limit_s < math.inf:
            raise InvalidInput(f"limit_s must be positive and finite, but got {self.limit_s!r}.")
        if not 0 < round(self.quantile, 9) <= MOST_QUANTILE:  # 99.9 % is a little more in binary
            raise InvalidInput(
                f"quantile must be more than 0 and at most {MOST_QUANTILE}, but got "
                f"{self.quantile!r}."
            )
        rows = self.rows_per_request
        if not isinstance(rows, int) or rows < 1:
            raise InvalidInput(
                f"rows_per_request must be a whole number of at least 1, but got {rows!r}."
            )
        if self.seed < 0:
            raise InvalidInput(f"seed must be 0 or more, but got {self.seed!r}.")


class Setting:
    """One way to set a batcher up, and what a replica carries with it.

    Args:
        record: The tuning run.
        service: How long batches take.
        terms: What is asked.
        max_wait_s: Argument of the batcher; None for its own choice.
        max_batch_size: Argument of the batcher; None for its own choice.

    Attributes:
        terms: What is asked.
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
        self.max_wait_s, self.max_batch_size, self.terms = max_wait_s, max_batch_size, terms
        schedule = schedule_for(service.recommendation, record, max_wait_s, None, max_batch_size)
        self.replica = Replica(
            service,
            schedule,
            terms.overhead,
            terms.rows_per_request,
            terms.seed,
            terms.standstills,
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
        return max(FIRST_LOOK, math.ceil(LATE / (1 - self.terms.quantile)))

    def _meets(self, rate_per_s: float) -> bool:
        """Whether the limit is surely met; looks closer where that is in doubt."""
        requests = self._fewest
        while True:
            tail = self._tail(rate_per_s, requests)
            if tail.high <= self.terms.limit_s:
                return True
            if tail.low > self.terms.limit_s or requests >= LAST_LOOK:
                return False
            requests = LAST_LOOK

    def _tail(self, rate_per_s: float, requests: int) -> Estimate:
        return self.run(rate_per_s, requests).quantile(self.terms.quantile)


def best_setting(record: TuningRecord, service: Service, terms: Terms) -> tuple[Setting, float]:
    """Return the setting with which a replica carries most, and how many requests a second.

    Where a machine's standstills alone miss the limit, so that no number of replicas would do, it
    is that of a machine without them: see the setting's terms.

    Raises:
        NoFeasibleBatchSize: The limit is missed even by a replica that has nothing else to do.
    """
    running = replace(terms, standstills=NEVER)
    found = _best_setting(record, service, terms)
    if found is None and terms.standstills.per_s:
        found = _best_setting(record, service, running)
    if found is None:
        raise _too_slow(Setting(record, service, running, 0.0).when_idle().high, terms)
    return found


def _best_setting(
    record: TuningRecord, service: Service, terms: Terms
) -> tuple[Setting, float] | None:
    """The same; None where there is none.

    First the batcher's own choice, then other waits, then smaller batches: an argument is passed
    only where it is worth something.
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
    return None if best is None else (best, highest)


def _too_slow(fastest_s: float, terms: Terms) -> NoFeasibleBatchSize:
    rows = terms.rows_per_request
    return NoFeasibleBatchSize(
        f"No replica answers {100 * terms.quantile:g} % of the requests within "
        f"{format_seconds(terms.limit_s)}: with nothing else to do it may take "
        f"{format_seconds(fastest_s)} for one of {rows} row{'s' * (rows > 1)}. "
        "Allow more time, or tune for a faster call."
    )
