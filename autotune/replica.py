"""A replica, simulated: one `MicroBatcher` under Poisson arrivals, and what its callers see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotune.comparing import t_quantile
from autotune.queue_simulation import Batcher
from autotune.scheduling import Schedule
from autotune.service import LEVELS, Overhead, Service

WARM_UP = 0.1  # share of the requests: a queue that begins empty is too short at first
SEGMENTS = 8  # parts of a run that are compared: as long as may be, to hold whole busy times
# Where more requests come during one call than that, so many are followed for a batch, each for
# several that come together: a call's 64th is no time to speak of.
FOLLOWED = 64
IDLE = 1e-5  # of the time a request is there: two meet once in 100,000
FULL_BATCHES = 400  # of each thread, to tell the capacity
DRAWS = 65_521  # a prime, so that calls and arrivals never repeat together
_LEAST_SHARE = 0.001  # of the interpreter that is left to a thread, however many requests come

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure from a simulation, with the 95 % interval of what chance does to it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Run:
    """What a simulation saw, without its warm-up.

    Attributes:
        latency_s: Seconds from a request's coming to its answer, in the order they came.
        batch_rows: Mean rows in a batch.
        utilisation: Share of the batcher's threads that is busy.
    """

    latency_s: Floats
    batch_rows: float
    utilisation: float

    def quantile(self, share: float) -> Estimate:
        """Return a quantile of the latency.

        Requests that meet in a queue are late together, so that the interval is not that of as
        many independent ones. How exact the share of late ones is follows from how segments of
        the run differ in it; its ends, read as quantiles, are those of the interval
        (Heidelberger and Lewis, Quantile Estimation in Dependent Sequences, 1984).
        """
        value = float(np.quantile(self.latency_s, share))
        segments = np.array_split(self.latency_s > value, SEGMENTS)
        spread = float(np.std([np.mean(part) for part in segments], ddof=1))
        half = t_quantile(SEGMENTS - 1) * spread / math.sqrt(SEGMENTS)
        low, high = np.quantile(self.latency_s, [max(0.0, share - half), min(1.0, share + half)])
        return Estimate(value, float(low), float(high))


class Replica:
    """One batcher with its predictor, alone on its machine.

    Args:
        service: How long batches take.
        schedule: When they start.
        overhead: What Python takes beside the model's calls.
        rows: Rows of a request.
        seed: Of arrivals and call times. The same at each rate, so that rates are compared under
            the same luck.

    Attributes:
        schedule: When batches start.
        call_share: Share of a thread's time that is the model's where the queue is never empty;
            the rest is Python's.
        capacity_per_s: Requests a second that it answers then.
        idle_per_s: Requests a second that hardly ever meet.
    """

    def __init__(
        self, service: Service, schedule: Schedule, overhead: Overhead, rows: int = 1, seed: int = 0
    ) -> None:
        self.schedule = schedule
        self._service, self._overhead, self._rows, self._seed = service, overhead, rows, seed
        self.capacity_per_s, self.call_share = self._when_full()
        self.idle_per_s = IDLE / service.times(1).mean(rows)

    def run(self, rate_per_s: float, requests: int) -> Run:
        """Simulate so many requests, or groups of requests that come close together."""
        together = self._together(rate_per_s)
        random = np.random.default_rng(self._seed)
        arrivals_s = np.cumsum(random.standard_gamma(together, requests)) / rate_per_s
        batcher = self._batcher(arrivals_s.tolist(), together, *self._slower(rate_per_s))
        batcher.run()
        counts, starts, ends = map(np.array, (batcher.counts, batcher.starts_s, batcher.ends_s))
        warm = int(np.searchsorted(np.cumsum(counts), WARM_UP * requests))
        latency_s = np.repeat(ends, counts) - arrivals_s + self._overhead.let_in_s
        span_s = self._service.flights * float(ends[-1] - starts[warm])
        return Run(
            latency_s[counts[:warm].sum() :],
            float(np.mean(counts[warm:])) * together * self._rows,
            min(1.0, float(np.sum(ends[warm:] - starts[warm:])) / span_s),
        )

    def _together(self, rate_per_s: float) -> int:
        """How many requests are followed as one."""
        call_s = self._service.times(1).mean(1) / self._service.flights
        most = min(rate_per_s * call_s, self.schedule.batch_size / self._rows)
        return max(1, int(most / FOLLOWED))

    def _slower(self, rate_per_s: float) -> tuple[float, float]:
        """How many times as long calls, and Python's part of a batch, take at a rate.

        Calls share the processors with Python. The thread that answers shares the interpreter with
        those that let requests in and with the other threads that answer.
        """
        overhead, others = self._overhead, 1 - 1 / self._service.flights
        taken = rate_per_s * (overhead.let_in_s + others * overhead.answer_s)
        calls = self._service.slower(min(1.0, rate_per_s * overhead.request_s))
        return calls, 1 / max(_LEAST_SHARE, 1 - taken)

    def _batcher(
        self, arrivals_s: Sequence[float], together: int, calls_slower: float, slower: float
    ) -> Batcher:
        draws = np.random.default_rng([self._seed, 1]).integers(0, LEVELS, DRAWS)
        return Batcher(
            arrivals_s,
            together * self._rows,
            self.schedule,
            self._service,
            calls_slower,
            slower * together * self._overhead.answer_s,
            slower * self._overhead.batch_s,
            self._overhead.wake_s,
            draws.tolist(),
        )

    def _when_full(self) -> tuple[float, float]:
        """Requests a second of full batches, and the model's share of their time.

        A thread's turn takes the model's time for a full batch, and then Python's; both take
        longer the more requests come, so that the rate is found by bisection.
        """
        flights, overhead = self._service.flights, self._overhead
        count = max(1, self.schedule.batch_size // self._rows)
        batches = FULL_BATCHES * flights
        batcher = self._batcher([0.0] * (batches + 2 * flights), count, 1.0, 0.0)
        batcher.run()
        call_s = max(batcher.ends_s[:batches]) / FULL_BATCHES
        python_s = count * overhead.answer_s + overhead.batch_s
        turn_s = call_s + python_s
        low, high = 0.0, flights * count / turn_s
        if overhead.request_s:
            high = min(high, 1 / overhead.request_s)  # the interpreter has no more time
        for _ in range(60):
            rate = (low + high) / 2
            calls_slower, slower = self._slower(rate)
            turn_s = calls_slower * call_s + slower * python_s
            low, high = (rate, high) if flights * count / turn_s > rate else (low, rate)
        return low, 1 - slower * python_s / turn_s
