"""The numbers that a server is given, each with its reason: said once, for every server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autotune.errors import InvalidRecord
from autotune.fallback import recommendation_among
from autotune.outcomes import Candidate, Measurement
from autotune.records import Recommendation, TuningRecord
from autotune.runner import ready_sizes
from autotune.schedule import Schedule
from autotune.scheduling import WORTHWHILE, curve_of, schedule_for
from autotune.units import format_rate, format_seconds, format_share

# A full queue is worked off in so many times its own length at the measured speed, or the machine
# is not what it was: then an answer that still comes is of no use to who waits for it.
_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class ServingLimits:
    """What a server must know of a model and a machine.

    Attributes:
        way: The candidate that the numbers were measured with.
        batch_size: Most rows in a batch.
        enough_rows: With so many rows a batch is worth starting when the model is free.
        sizes: Rows in a batch whose time is known or that are halves of the largest, rising; the
            last is `batch_size`. For servers that fill a batch up to the next of some sizes.
        max_wait_s: Longest that a request waits for company while the model is free, in seconds.
        queue_rows: Rows that may wait; more are turned away.
        deadline_s: Longest that a request may wait in all, in seconds.
        rows_per_s: Speed that was measured, all batches in flight together.
        cpus: Processors that the batches in flight use; None where the record does not tell.
        reasons: Why each number is what it is, by its name here.
    """

    way: Candidate
    batch_size: int
    enough_rows: int
    sizes: tuple[int, ...]
    max_wait_s: float
    queue_rows: int
    deadline_s: float
    rows_per_s: float
    cpus: int | None
    reasons: dict[str, str]

    @property
    def concurrency(self) -> int:
        """Batches in flight."""
        return self.way.concurrency

    @property
    def threads(self) -> int | None:
        """Threads of one call; None leaves it to what runs the model."""
        return self.way.threads


def limits_for(record: TuningRecord, engines: Sequence[str] = ()) -> ServingLimits:
    """Choose the numbers for a server.

    `scheduling.schedule_for` judges batch, wait and queue, as for a `MicroBatcher`.

    Args:
        record: A tuning run with a recommendation.
        engines: Those that run a batch as the server does. If the recommendation is for another
            and one of these was measured, the best of them gives the numbers. Empty for any.

    Raises:
        InvalidRecord: The record has no recommendation.
    """
    chosen = _chosen(record, engines)
    schedule, curve = schedule_for(chosen, record), curve_of(chosen, record)
    largest, way = schedule.batch_size, chosen.candidate
    measured = {size for size in curve if size <= largest}
    budget_s = record.goal.latency_budget_s
    full_queue_s = schedule.max_queue_rows / chosen.rows_per_s
    threads = way.concurrency * way.threads if way.threads else None
    return ServingLimits(
        way=way,
        batch_size=largest,
        enough_rows=schedule.enough_rows,
        sizes=tuple(sorted(measured.union(ready_sizes(largest)))),
        max_wait_s=schedule.max_wait_s,
        queue_rows=schedule.max_queue_rows,
        deadline_s=budget_s or _PATIENCE * full_queue_s,
        rows_per_s=chosen.rows_per_s,
        cpus=record.machine.cpus_for(way) if record.machine else threads,
        reasons=_reasons(record, chosen, schedule, curve),
    )


def _chosen(record: TuningRecord, engines: Sequence[str]) -> Recommendation:
    """The recommendation, or the best of what was measured with one of these engines."""
    chosen = record.recommendation
    if chosen is None:
        raise InvalidRecord("The record has no recommendation. Tune the model again.")
    if not engines or chosen.engine in engines:
        return chosen
    other = recommendation_among(record, lambda way: way.engine in engines)
    measured = {o.candidate for o in record.outcomes if isinstance(o, Measurement)}
    return other if other.candidate in measured else chosen


def _reasons(
    record: TuningRecord,
    chosen: Recommendation,
    schedule: Schedule,
    curve: dict[int, tuple[float, float]],
) -> dict[str, str]:
    """Say why each number is what it is, one sentence each."""
    largest, way, goal = schedule.batch_size, chosen.candidate, record.goal
    speed, late = format_rate(chosen.rows_per_s), format_seconds(curve[largest][1])
    worth = f"the smallest that was measured at {WORTHWHILE} times the tuned speed or more"
    wait = (
        f"the median time of a batch of {schedule.enough_rows}, {worth}, or what it saves beside "
        "calls of one row each, if that is less"
    )
    if goal.latency_budget_s is None:
        size = f"the tuned size, measured at {speed}"
        deadline = f"{_PATIENCE:g} times what a full queue takes at {speed}; no latency budget"
    else:
        budget = f"the latency budget of {format_seconds(goal.latency_budget_s)}"
        size = (
            f"the largest measured size of which two batches fit into {budget} ({late} each at "
            f"{format_share(goal.quantile)}), but no fewer rows than are worth a batch"
        )
        wait = f"at most {wait}, and half of what one batch leaves of {budget}"
        deadline = budget
    threads = "as many as were best" if way.threads else "as many as the engine takes by itself"
    return {
        "batch_size": f"{size}.",
        "enough_rows": f"{worth}.",
        "sizes": "those that were measured, with the half, quarter and eighth of a batch, and 1.",
        "max_wait_s": f"{wait}.",
        "queue_rows": "a second of work, at least 256 rows and four rounds of batches.",
        "deadline_s": f"{deadline}.",
        "concurrency": f"as many as were best, measured as {way}.",
        "threads": f"{threads}.",
    }
