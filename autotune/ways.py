"""Ways of keeping the processors busy: batches in flight, and the threads that each call gets.

On a few cores several calls of one thread each are faster than one call of as many threads: what
a call does alone, such as copying, and what its threads wait for each other, others fill.
"""

from __future__ import annotations

from collections.abc import Sequence

from autotune import host
from autotune.judging import Lane
from autotune.records import Loaded

MAX_CONCURRENCY = 4


def flights_here() -> list[int]:
    """Numbers of batches in flight: powers of two up to the processors, at most four.

    On two processors also three: where two wait, the third has been seen to gain a third more.
    """
    most = min(MAX_CONCURRENCY, host.usable_cpus())
    return [1, 2, 3] if most == 2 else [flights for flights in (1, 2, 4) if flights <= most]


def lanes_of(loaded: Loaded, concurrency: Sequence[int] | None = None) -> list[Lane]:
    """List what is worth a try here.

    Args:
        loaded: What is known of the engines.
        concurrency: Numbers of batches in flight; None for those that suit the processors.

    Returns:
        Engines with batches in flight and the threads of one call: alone a call has those that the
        engine takes by itself, several share the processors out. None leaves the threads to the
        engine, also where they cannot be set.
    """
    flights = list(dict.fromkeys(concurrency or flights_here()))
    return [
        (engine, n, _threads(n) if n > 1 and engine in loaded.sets_threads else None)
        for engine in loaded.engines
        for n in flights
    ]


def _threads(flights: int) -> int:
    return max(1, host.usable_cpus() // flights)
