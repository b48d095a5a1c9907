"""After a search: calls of what it recommends, as a service makes them."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from autotune.errors import one_line
from autotune.outcomes import Candidate, Measurement, Outcome, Rehearsal
from autotune.records import Recommendation
from autotune.runner import ready_sizes

_log = logging.getLogger("autotune")

SHARE = 0.05  # of the budget for probing, on top of it
ROUNDS = 3  # the machine is of another speed from one second to the next
CALLS = 40  # of full size have room in the time of each number of threads: ten of each size come
LEAST_S = 0.05  # of a part of it, in one round,
WARM_SHARE = 0.25  # of which so much is for calls as in the search


class RehearsingProbe(Protocol):
    """A probe that can make calls as a service does, too."""

    def __call__(self, candidate: Candidate, seconds: float, /) -> Outcome:
        """Measure a candidate."""

    def rehearse(
        self, candidate: Candidate, sizes: Sequence[int], callers: int, seconds: float
    ) -> Rehearsal | None:
        """Time calls as a service makes them; None where that was not to be.

        Args:
            candidate: What was recommended.
            sizes: Rows of the calls.
            callers: How many threads make them.
            seconds: How long, about.
        """


def rehearsals_of(
    probe: RehearsingProbe, recommendation: Recommendation, budget_s: float
) -> tuple[Rehearsal, ...]:
    """Have calls made by one thread, by two, and so on up to as many as are to be in flight.

    Args:
        probe: Makes them.
        recommendation: What they run.
        budget_s: Seconds that the search had.

    Returns:
        One for each number of threads; none where there is no time for them, or where one fails.
    """
    way = recommendation.candidate
    threads = range(1, way.concurrency + 1)
    each_s = SHARE * budget_s / len(threads)
    rounds = min(ROUNDS, int(each_s / LEAST_S))
    if not rounds or each_s < CALLS * recommendation.latency_s:
        return ()
    parts: dict[int, list[Rehearsal]] = {callers: [] for callers in threads}
    try:
        for _ in range(rounds):
            for callers in threads:
                part = _rehearse(probe, way, callers, each_s / rounds)
                if part is None:
                    return ()
                parts[callers].append(part)
    except Exception as error:  # such as a model that cannot be loaded again: the answer stands
        _log.debug("Calls as of a service: %s", one_line(error))
        return ()
    return tuple(map(_together, parts.values()))


def _rehearse(
    probe: RehearsingProbe, way: Candidate, callers: int, seconds: float
) -> Rehearsal | None:
    """Have calls made as in the search, and as in a service; None where either fails."""
    warm = probe(way, WARM_SHARE * seconds)
    if not isinstance(warm, Measurement):
        return None
    sizes, rest_s = ready_sizes(way.batch_size), (1 - WARM_SHARE) * seconds
    part = probe.rehearse(way, sizes, callers, rest_s)
    return part and replace(part, warm_s=statistics.median(warm.running_s))


def _together(parts: Sequence[Rehearsal]) -> Rehearsal:
    """Return the calls of rehearsals with as many threads as one."""
    lost_s = [lost for part in parts for lost in part.lost_s or (0.0,) * len(part.times_s)]
    return replace(
        parts[0],
        warm_s=statistics.median(part.warm_s for part in parts if part.warm_s),
        rows=tuple(rows for part in parts for rows in part.rows),
        times_s=tuple(time_s for part in parts for time_s in part.times_s),
        lost_s=tuple(lost_s) if any(lost_s) else (),
    )
