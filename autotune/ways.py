"""Ways of keeping the processors busy: batches in flight, and the threads that each call gets.

On a few cores several calls of one thread each are faster than one call of as many threads: what
a call does alone, such as copying, and what its threads wait for each other, others fill.
"""

from __future__ import annotations

from autotune import host
from autotune.records import Loaded

MAX_CONCURRENCY = 4


def processors_here() -> int:
    """How many processors this process may keep busy, by its affinity and CPU quota."""
    count = host.cpu_count()
    return max(1, round(min(count, host.cpu_quota() or count)))


def flights_here() -> list[int]:
    """Numbers of batches in flight: powers of two up to the processors, at most four."""
    most = min(MAX_CONCURRENCY, processors_here())
    return [flights for flights in (1, 2, 4) if flights <= most]


def ways_of(loaded: Loaded, engine: str) -> list[tuple[int, int | None]]:
    """List the ways of running an engine's batches that are worth a try here.

    Args:
        loaded: What is known of the engines.
        engine: Name of the engine.

    Returns:
        Pairs of concurrency and threads of one call: first one call as the engine has it by
        itself, then processors shared out among calls. None leaves the threads to the engine,
        also where they cannot be set.
    """
    processors = processors_here()
    several = [flights for flights in flights_here() if flights > 1]
    if processors == 2:
        several.append(3)  # the third fills in: up to 1.4 times as fast as two
    sets = engine in loaded.sets_threads
    return [(1, None), *((n, max(1, processors // n) if sets else None) for n in several)]
