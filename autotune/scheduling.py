"""How long a batch may wait for company, judged by what the record measured."""

from __future__ import annotations

import math

import numpy as np

from autotune.judging import lane_of
from autotune.outcomes import Measurement
from autotune.records import Recommendation, TuningRecord
from autotune.schedule import Schedule

# A batch this share as fast as the tuned one is worth starting when the model is free: waiting
# for the rest would win less than a tenth.
WORTHWHILE = 0.9

# Rows that may wait unless the caller says otherwise: a second of work, so that a queue that long
# still means something, but never so few that ordinary bursts are turned away.
_QUEUE_S = 1.0
_LEAST_QUEUE_BATCHES = 4
_LEAST_QUEUE_ROWS = 256

# A worker takes batches for so many seconds at once where more wait than all workers can begin: to
# hand out answers wakes threads, which takes processors from the calls of the other workers.
LOAD_S = 0.02
MOST_BATCHES = 8

# What one more batch costs Python: 19 microseconds in the batcher, 8 in the predictor and 22 to
# wake a thread (`service.MEASURED`).
BATCH_S = 50e-6


def schedule_for(
    recommendation: Recommendation,
    record: TuningRecord,
    max_wait_s: float | None = None,
    max_queue_rows: int | None = None,
    max_batch_size: int | None = None,
) -> Schedule:
    """Choose the schedule; what is given is kept to the letter.

    A `max_batch_size` above the chosen limit makes no larger batches: more rows were not found to
    pay. With one, batches are not taken several at once.

    The record's curve gives the median and the quantile of the call time for each batch size
    that was measured in the recommended way. Two sizes are read from it:

    * `enough`, the smallest that is at least 0.9 times as fast as the tuned one. Its median time
      is the longest wait: longer, and a batch that is worth running could have been run meanwhile.
      Or what one such batch saves beside calls of one row each, where that is less and was
      measured: for company that may never come nobody waits longer than it would save (as whoever
      rents skis until he has paid what they cost, and then buys them, never pays more than twice
      as much as need be).
    * the limit. A request that just missed a batch waits for that batch, and then for its own:
      twice the time of a batch has to fit into the latency budget. So the limit is the largest
      size of which two fit, but no less than `enough`, because slower batches would let the
      queue grow. Without a budget it is the tuned size.

    With a budget the wait is also at most half of what one batch leaves of it; the other half is
    for what cannot be foreseen.

    Rows that wait are not shared out among the workers where that wins less of the model's time
    than one more batch takes of Python's; but none waits for that.
    """
    curve = curve_of(recommendation, record)
    tuned = recommendation.batch_size
    worthwhile = WORTHWHILE * tuned / curve[tuned][0]
    enough = min(size for size, (median_s, _) in curve.items() if size / median_s >= worthwhile)
    limit, wait_s, budget_s = tuned, _worth_waiting_s(curve, enough), record.goal.latency_budget_s
    if budget_s is not None:
        limit = max(
            [enough, *(size for size, (_, late_s) in curve.items() if 2 * late_s <= budget_s)]
        )
        wait_s = min(wait_s, max(0.0, budget_s - curve[limit][1]) / 2)
    batches = 1
    if max_batch_size is not None:
        limit, enough = min(limit, max_batch_size), min(enough, max_batch_size)
    elif limit == tuned:  # the predictor runs them in batches of that
        batches = _batches(curve[limit], budget_s)
    if max_queue_rows is None:
        least = max(_LEAST_QUEUE_ROWS, _LEAST_QUEUE_BATCHES * tuned * recommendation.concurrency)
        max_queue_rows = max(least, round(recommendation.rows_per_s * _QUEUE_S))
    if max_wait_s is None:
        # By the speed of the tuned size: what is the same in all calls is not won by sharing.
        least_share = int(BATCH_S * tuned / curve[tuned][0])
        return Schedule(limit, enough, wait_s, True, max_queue_rows, batches, least_share)
    return Schedule(limit, limit, max_wait_s, False, max_queue_rows)


def _worth_waiting_s(curve: dict[int, tuple[float, float]], enough: int) -> float:
    """Longest wait for so many rows, by the medians: what they take together, or save by that."""
    together_s = curve[enough][0]
    if 1 not in curve or enough == 1:
        return together_s
    return min(together_s, enough * curve[1][0] - together_s)  # more than 0: one row is slower


def _batches(times_s: tuple[float, float], budget_s: float | None) -> int:
    """Batches that a worker takes at once, by the median and the quantile of a full one's time.

    As for the limit, what is taken together has to fit into the budget twice.
    """
    median_s, late_s = times_s
    fitting = math.inf if budget_s is None else budget_s / 2 / late_s
    return int(max(1, min(LOAD_S / median_s, fitting, MOST_BATCHES)))


def curve_of(
    recommendation: Recommendation, record: TuningRecord
) -> dict[int, tuple[float, float]]:
    """Return median and quantile of the call time in seconds by batch size, up to the tuned one."""
    way, times = recommendation.candidate, dict[int, list[float]]()
    for outcome in record.outcomes:
        if isinstance(outcome, Measurement) and not outcome.is_disturbed:
            tried = outcome.candidate
            if lane_of(tried) == lane_of(way) and tried.batch_size < way.batch_size:
                times.setdefault(tried.batch_size, []).extend(outcome.times_s)
    curve = {
        size: (float(np.median(t)), float(np.quantile(t, record.goal.quantile)))
        for size, t in times.items()
    }
    # Measured afresh after the choice: the best that is known of the tuned size.
    curve[way.batch_size] = recommendation.latency_s, recommendation.latency_quantile_s
    return curve
