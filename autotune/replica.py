"""A replica, simulated: one `MicroBatcher` under Poisson arrivals, and what its callers see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotune.calltimes import LEVELS, Times
from autotune.comparing import t_quantile
from autotune.queue_simulation import Batcher
from autotune.schedule import Schedule
from autotune.service import Overhead, Service
from autotune.standstills import NEVER, Standstills

WARM_UP = 0.1  # share of the requests: a queue that begins empty is too short at first
SEGMENTS = 8  # parts of a run that are compared: as long as may be, to hold whole busy times
# Where more requests come during one call than that, so many are followed for a batch, each for
# several that come together: a call's 64th is no time to speak of.
FOLLOWED = 64
IDLE = 1e-5  # of the time a request is there: two meet once in 100,000
FULL_BATCHES = 400  # of each thread, to tell the capacity
QUEUED = 2  # of them wait meanwhile
# So many are followed for a batch there, in which calls begin and end; with 64 a capacity came out
# a seventh higher than with all of them, with so many within a thousandth.
IN_FLOOD = 256
DRAWS = 65_521  # a prime, so that calls and arrivals never repeat together

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
        standstills: Of the machine; arrivals go on meanwhile.

    Attributes:
        schedule: When batches start.
        call_share: Share of a thread's time that is the model's where the queue is never empty;
            the rest is Python's.
        capacity_per_s: Requests a second that it answers then.
        idle_per_s: Requests a second that hardly ever meet.
    """

    def __init__(
        self,
        service: Service,
        schedule: Schedule,
        overhead: Overhead,
        rows: int = 1,
        seed: int = 0,
        standstills: Standstills = NEVER,
    ) -> None:
        self.schedule = schedule
        self._service, self._overhead, self._rows, self._seed = service, overhead, rows, seed
        self._standstills = standstills
        self._running_per_s, self.call_share = self._when_full()
        self.capacity_per_s = (1 - standstills.share) * self._running_per_s
        times, *_ = service.served(1.0) or [service.times(1)]
        self.idle_per_s = IDLE / times.mean(rows)

    def run(self, rate_per_s: float, requests: int) -> Run:
        """Simulate so many requests, or groups of requests that come close together."""
        together = self._together(rate_per_s)
        random = np.random.default_rng(self._seed)
        arrivals_s = np.cumsum(random.standard_gamma(together, requests)) / rate_per_s
        served = self._service.served(self._rows * rate_per_s)
        batcher = self._simulate(arrivals_s, together, served)
        counts, starts, ends = map(np.array, (batcher.counts, batcher.starts_s, batcher.ends_s))
        warm = int(np.searchsorted(np.cumsum(counts), WARM_UP * requests))
        still_s = self._standstills.waits_s(rate_per_s / self._running_per_s, requests)
        latency_s = np.repeat(ends, counts) - arrivals_s + still_s
        span_s = self._service.flights * float(ends.max() - starts[warm])
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

    def _simulate(
        self,
        arrivals_s: Floats,
        together: int,
        served: Sequence[Times] = (),
        room: float = math.inf,
    ) -> Batcher:
        draws = np.random.default_rng([self._seed, 1]).integers(0, LEVELS, DRAWS)
        batcher = Batcher(
            arrivals_s.tolist(),
            self._rows,
            self.schedule,
            self._service,
            self._overhead,
            draws.tolist(),
            room,
            together,
            served,
        )
        batcher.run()
        return batcher

    def _when_full(self) -> tuple[float, float]:
        """Requests a second that it runs, the queue never empty, and the model's share of its time.

        Who sends the requests waits for room, so that he and those who answer have the interpreter
        in turn.
        """
        flights, full = self._service.flights, self.schedule.batch_size // self._rows
        together = max(1, full // IN_FLOOD)
        batch = max(1, full // together)
        requests = FULL_BATCHES * flights * batch
        # Enough of a crowd that each worker takes as many at once as it may.
        queued = max(QUEUED * flights, (flights + 1) * self.schedule.batches)
        batcher = self._simulate(np.zeros(requests), together, room=queued * batch)
        threads_s = sum(batcher.ends_s) - sum(batcher.starts_s)
        return together * requests / max(batcher.ends_s), batcher.calls_s / threads_s
