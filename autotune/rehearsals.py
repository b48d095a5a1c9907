"""After a search: what it recommends serves requests for a while, and its calls are timed."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Sequence
from typing import Protocol

from msgspec.structs import replace

from autotune.errors import one_line
from autotune.outcomes import Candidate, Measurement, Outcome, Rehearsal
from autotune.records import TuningRecord
from autotune.schedule import Schedule
from autotune.scheduling import schedule_for

_log = logging.getLogger("autotune")

SHARE = 0.1  # of the budget for probing, on top of it
LOADS = (0.3, 0.6, 0.9)  # shares of the rows that can be answered
ROUNDS = 3  # the machine is of another speed from one second to the next
CALLS = 40  # of full size have room in the time of each load
LEAST_S = 0.1  # of a part of it, in one round,
WARM_SHARE = 0.25  # of which so much is for calls as in the search
REQUEST_S = 15e-6  # of Python, about: where that takes most, no more requests come than it can take


class RehearsingProbe(Protocol):
    """A probe that can serve requests, too."""

    def __call__(self, candidate: Candidate, seconds: float, /) -> Outcome:
        """Measure a candidate."""

    def rehearse(
        self, candidate: Candidate, schedule: Schedule, rows_per_s: float, seconds: float
    ) -> Rehearsal | None:
        """Serve requests, and time the calls that it takes; None where that was not to be.

        Args:
            candidate: What was recommended.
            schedule: When a batch starts.
            rows_per_s: How many requests come a second, of one row each.
            seconds: How long, about.
        """


def rehearsals_of(
    probe: RehearsingProbe, record: TuningRecord, budget_s: float
) -> tuple[Rehearsal, ...]:
    """Have requests served that come at a few rates, one after the other, and again.

    Args:
        probe: Serves them.
        record: Has a recommendation, which is what it serves with.
        budget_s: Seconds that the search had.

    Returns:
        One for each rate in each round, up to the first that fails; none where there is no time.
    """
    recommendation = record.recommendation
    assert recommendation is not None  # noqa: S101  the caller has looked
    way = recommendation.candidate
    each_s = SHARE * budget_s / len(LOADS)
    rounds = min(ROUNDS, int(each_s / LEAST_S))
    if not rounds or each_s * way.concurrency < CALLS * recommendation.latency_s:
        return ()
    most_per_s = 1 / (1 / recommendation.rows_per_s + REQUEST_S)
    rates = [load * most_per_s for load in LOADS] * rounds
    schedule = schedule_for(recommendation, record)
    found: list[Rehearsal] = []
    try:
        found.extend(_rehearse(probe, way, schedule, rates, each_s / rounds))
    except Exception as error:  # such as a model that cannot be loaded again: the answer stands
        _log.debug("Calls as of a service: %s", one_line(error))
    return tuple(found)


def _rehearse(
    probe: RehearsingProbe,
    way: Candidate,
    schedule: Schedule,
    rates: Sequence[float],
    seconds: float,
) -> Iterator[Rehearsal]:
    """Have requests served at one rate after the other, up to the first that fails.

    Before and after each, calls as in the search tell how fast the machine is.
    """
    before_s = _warm_s(probe, way, WARM_SHARE * seconds)
    for rate in rates:
        part = probe.rehearse(way, schedule, rate, (1 - WARM_SHARE) * seconds)
        after_s = _warm_s(probe, way, WARM_SHARE * seconds)
        if not (part and before_s and after_s):
            return
        yield replace(part, warm_s=(before_s + after_s) / 2)
        before_s = after_s


def _warm_s(probe: RehearsingProbe, way: Candidate, seconds: float) -> float | None:
    """Median seconds of calls as in the search; None where they fail."""
    warm = probe(way, seconds)
    return statistics.median(warm.running_s) if isinstance(warm, Measurement) else None
