"""Which sizes may be tried at all: the goal's bounds, the forecast of memory, the time left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autotune.forecast import INEXACT_BYTES, upper_bound_bytes
from autotune.goal import Goal
from autotune.judging import Lane, lane_of
from autotune.known import Known
from autotune.outcomes import Candidate, Measurement
from autotune.records import Forecast
from autotune.standing import Standing

LARGEST = 2**20
OTHER_ENGINE = 2  # times what one engine takes for its batches, another may take;
OF_XLA = 12  # a program of XLA's for a processor was seen to take 9 times (an upsampling net)
CALLS_AHEAD = 4  # a first probe of a slow call makes about this many, with warm-up
STEP = 8  # between powers of two only multiples of 8: tiles and vector registers


def at(lane: Lane, size: int) -> Candidate:
    """Return the candidate of a lane at a batch size."""
    engine, concurrency, threads = lane
    return Candidate(size, engine, concurrency=concurrency, threads=threads)


def top_of(goal: Goal) -> int:
    """No batch is larger than this; nor than the job, where the job's size is the question."""
    top = goal.max_batch_size or LARGEST
    if goal.objective == "makespan" and goal.rows is not None:
        top = min(top, max(goal.rows, goal.min_batch_size))
    return top


def rounded(size: float) -> int:
    """The size, or from 16 rows on the multiple of 8 below it."""
    return int(size) if size < 2 * STEP else int(size) // STEP * STEP


@dataclass(slots=True)
class Bounds:
    """Which sizes may be tried.

    Attributes:
        standing: What is known.
        remaining_s: Seconds that are left for new candidates.
        refused: Candidates not tried, with the forecast of their memory in bytes; filled here.
    """

    standing: Standing
    remaining_s: float
    refused: dict[Candidate, int] = field(default_factory=dict)

    def allow(self, lane: Lane, size: int) -> bool:
        """Whether a new size is within the bounds, the forecast and the time that is left."""
        goal = self.standing.goal
        if not goal.min_batch_size <= size <= top_of(goal):
            return False
        known = self.standing.known.get(at(lane, size))
        if (known and known.is_tried) or not self._fits_in_memory(lane, size):
            return False
        return self.expected_s(lane, size) <= self.remaining_s

    def _fits_in_memory(self, lane: Lane, size: int) -> bool:
        limit = self.standing.memory_limit_bytes
        bound = expected_peak_bytes(at(lane, size), self.standing.known)
        if limit is None or bound is None or bound <= limit:
            return True
        self.refused[at(lane, size)] = bound
        return False

    def largest_that_fits(self, lane: Lane, low: int, high: int) -> int:
        """The largest size from `low` up to below `high` whose forecast is within the limit."""
        limit = self.standing.memory_limit_bytes
        while low + 1 < high:
            middle = (low + high) // 2
            bound = expected_peak_bytes(at(lane, middle), self.standing.known)
            if limit is None or bound is None or bound <= limit:
                low = middle
            else:
                high = middle
        return low

    def expected_s(self, lane: Lane, size: int) -> float:
        """Seconds that a probe of this size takes: its calls, on the line through the last two.

        Of a lane not tried yet, those of the first lane, one call after another.
        """
        curve = self._latencies(lane, size)
        if not curve and self.standing.known:
            first = lane_of(next(iter(self.standing.known)))
            return lane[1] * self.expected_s(first, size) if first != lane else 0.0
        if not curve:
            return 0.0
        known, latency_s = curve[-1]
        if len(curve) > 1:
            before, before_s = curve[-2]
            slope = max(0.0, latency_s - before_s) / (known - before)
            latency_s += slope * (size - known)
        return CALLS_AHEAD * latency_s

    def _latencies(self, lane: Lane, size: int) -> list[tuple[int, float]]:
        """Seconds of a call at each measured size of a lane, up to this one."""
        known, sizes = self.standing.known, self.standing.of_lane(lane)
        measured = [n for n in sizes if n <= size and known[at(lane, n)].parts]
        return [(n, known[at(lane, n)].latency_s) for n in measured]


def expected_peak_bytes(candidate: Candidate, known: Mapping[Candidate, Known]) -> int | None:
    """Upper bound for a candidate's peak, in bytes; None where nothing like it was measured.

    It is forecast from other sizes of the same lane; before there are any, from the engine's other
    lanes by the rows that they have in flight together; of an engine that has not run, from a
    multiple of what all others took.
    """
    read = {c: k for c, k in known.items() if k.peak_bytes is not None}
    if not read:
        return None
    waste_bytes = max(of_it.waste_bytes for of_it in read.values())
    own = {c: k for c, k in read.items() if lane_of(c) == lane_of(candidate)}
    if own:
        peaks = {c.batch_size: k.peak_bytes or 0 for c, k in own.items()}
        idle_bytes = _idle_bytes(own)
        # Of what large batches took something stays, and is in the peaks of all that come later.
        stays_bytes = max(0, max(of_it.left_bytes for of_it in own.values()) - idle_bytes)
        bound = upper_bound_bytes(peaks, candidate.batch_size, idle_bytes, waste_bytes) or 0
        return bound + stays_bytes
    alike = {c: k for c, k in read.items() if c.engine == candidate.engine}
    times = 1 if alike else OF_XLA if candidate.engine == "xla" else OTHER_ENGINE
    alike, idle_bytes = alike or read, _idle_bytes(alike or read)
    peaks = {}
    for one, of_it in alike.items():
        peak = idle_bytes + times * ((of_it.peak_bytes or 0) - idle_bytes)
        rows = one.batch_size * one.concurrency
        peaks[rows] = max(peaks.get(rows, 0), peak)
    rows = candidate.batch_size * candidate.concurrency
    bound = upper_bound_bytes(peaks, rows, idle_bytes, waste_bytes) or 0
    if not waste_bytes:
        return bound
    # As many rows as were measured are not the same batches, nor is what is not counted of each.
    wasted = min(max(0, bound - idle_bytes), waste_bytes)
    return bound + wasted + candidate.concurrency * INEXACT_BYTES


def _idle_bytes(known: Mapping[Candidate, Known]) -> int:
    return min(of_it.idle_bytes for of_it in known.values())


def forecasts_of(standing: Standing, refused: Mapping[Candidate, int]) -> tuple[Forecast, ...]:
    """Return what was expected of each candidate from the peaks before it, and what came of it."""
    known: dict[Candidate, Known] = {}
    found: dict[Candidate, Forecast] = {}
    for block in standing.blocks:
        outcome = block.outcome
        if not isinstance(outcome, Measurement) or outcome.peak_bytes is None:
            continue
        candidate = outcome.candidate
        bound = expected_peak_bytes(candidate, known)
        if bound is not None and candidate not in known:
            found[candidate] = Forecast(
                candidate=candidate,
                upper_bound_bytes=bound,
                peak_bytes=outcome.peak_bytes,
                limit_bytes=outcome.memory_limit_bytes or standing.memory_limit_bytes,
            )
        known.setdefault(candidate, Known()).add(block)
    for candidate, bound in refused.items():
        limit = standing.memory_limit_bytes
        refusal = Forecast(
            candidate=candidate, upper_bound_bytes=bound, peak_bytes=None, limit_bytes=limit
        )
        found.setdefault(candidate, refusal)
    return tuple(found.values())
