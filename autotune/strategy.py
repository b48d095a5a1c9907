"""What to try next: a pure function of what is known, so a search can stop and go on anywhere.

First a ladder of doublings for each engine, in step with each other; then sizes around the best
and up to the edge where a limit stopped the ladder; then the finalists again, in turn, because
speeds taken at different times on a shared machine cannot be compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from autotune.forecast import upper_bound_bytes
from autotune.goal import Goal
from autotune.judging import Lane, excesses, interval, is_allowed, lane_of, pooled, values_of
from autotune.outcomes import Candidate, Measurement, Outcome

PATIENCE = 2  # rungs without gain before a ladder ends: one dip is not a plateau
STEP = 8  # between powers of two only multiples of 8: tiles and vector registers
BISECTIONS = 3  # towards the edge where a limit stopped the ladder
FINAL_SHARE = 0.06  # who is this close to the best is tried again
FINALISTS = 6
ROUNDS = 3  # how often a finalist is tried in all
CALLS_AHEAD = 6  # a probe makes at least about this many calls, with warm-up
LARGEST = 2**20


@dataclass(slots=True)
class Situation:
    """All that the next step depends on.

    Attributes:
        goal: What to maximise, and under which limits.
        lanes: Engines and concurrencies to try.
        memory_limit_bytes: What peaks and forecasts are held against; None for no limit.
        seed: Seed for the order of the finals.
        outcomes: Every probe so far.
        remaining_s: Seconds of the budget that are left.
        refused: Candidates not tried, with the forecast of their memory in bytes; filled here.
    """

    goal: Goal
    lanes: Sequence[Lane]
    memory_limit_bytes: int | None
    seed: int
    outcomes: list[Outcome]
    remaining_s: float
    refused: dict[Candidate, int] = field(default_factory=dict)

    def tried(self, lane: Lane) -> dict[int, list[Outcome]]:
        """Outcomes of a lane by batch size, in rising order."""
        found: dict[int, list[Outcome]] = {}
        for outcome in self.outcomes:
            if lane_of(outcome.candidate) == lane:
                found.setdefault(outcome.candidate.batch_size, []).append(outcome)
        return dict(sorted(found.items()))

    def allows(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether these outcomes of one candidate, put together, are within the limits."""
        together = pooled(outcomes).values()
        return bool(together) and all(
            is_allowed(m, self.goal, self.memory_limit_bytes) for m in together
        )

    def values(self) -> dict[Candidate, float]:
        """What the objective says of each candidate within the limits; more is better."""
        measured = pooled(self.outcomes)
        allowed = {c: m for c, m in measured.items() if self.allows([m])}
        return values_of(allowed, self.goal)

    def may_try(self, lane: Lane, size: int) -> bool:
        """Whether a new size is within the bounds, the forecast and the time that is left."""
        goal = self.goal
        if not goal.min_batch_size <= size <= _top(goal):
            return False
        candidate = at(lane, size)
        if candidate in self.refused or not self._fits_in_memory(lane, candidate):
            return False
        return self._expected_s(lane, size) <= self.remaining_s

    def _fits_in_memory(self, lane: Lane, candidate: Candidate) -> bool:
        if self.memory_limit_bytes is None:
            return True
        measured = [o for many in self.tried(lane).values() for o in many]
        peaks: dict[int, int] = {}
        for outcome in measured:
            if isinstance(outcome, Measurement) and outcome.peak_bytes is not None:
                size = outcome.candidate.batch_size
                peaks[size] = max(peaks.get(size, 0), outcome.peak_bytes)
        bound = upper_bound_bytes(peaks, candidate.batch_size)
        if bound is None or bound <= self.memory_limit_bytes:
            return True
        self.refused[candidate] = bound
        return False

    def _expected_s(self, lane: Lane, size: int) -> float:
        """Seconds that a probe of this size takes: its calls, on the line through the last two."""
        curve = [
            (known, min(o.latency_s for o in many if isinstance(o, Measurement)))
            for known, many in self.tried(lane).items()
            if known <= size and any(isinstance(o, Measurement) for o in many)
        ]
        if not curve:
            return 0.0
        known, latency_s = curve[-1]
        if len(curve) > 1:
            before, before_s = curve[-2]
            slope = max(0.0, latency_s - before_s) / (known - before)
            latency_s += slope * (size - known)
        return CALLS_AHEAD * latency_s


def at(lane: Lane, size: int) -> Candidate:
    """Return the candidate of a lane at a batch size."""
    engine, concurrency, threads = lane
    return Candidate(size, engine, concurrency=concurrency, threads=threads)


def next_candidate(situation: Situation) -> Candidate | None:
    """Return what to try next; None when nothing is left that could change the answer."""
    steps: tuple[Callable[[Situation], Candidate | None], ...] = (_rung, _refinement, _final)
    for step in steps:
        candidate = step(situation)
        if candidate is not None:
            return candidate
    return None


def _rung(situation: Situation) -> Candidate | None:
    """The lowest rung that any ladder still wants: the ladders rise in step."""
    wanted = [(size, lane) for lane in situation.lanes for size in _next_rung(situation, lane)]
    if not wanted:
        return None
    size, lane = min(wanted, key=lambda item: item[0])  # the first lane wins ties
    return at(lane, size)


def _next_rung(situation: Situation, lane: Lane) -> Iterator[int]:
    goal = situation.goal
    tried = situation.tried(lane)
    rungs = [size for size in tried if _is_rung(size, goal)]
    if not rungs:
        yield goal.min_batch_size
        return
    last = tried[rungs[-1]]
    if not situation.allows(last):
        if len(last) == 1 and _is_slow_only(situation, last[0]):
            yield rungs[-1]  # once more: a hiccup must not end a ladder
        return
    if _is_plateau(situation, lane, rungs):
        return
    size = min(2 * rungs[-1], _top(goal))
    if size > rungs[-1] and situation.may_try(lane, size):
        yield size


def _is_slow_only(situation: Situation, outcome: Outcome) -> bool:
    """Whether latency is the only limit that an outcome exceeds."""
    over = excesses(outcome, situation.goal, situation.memory_limit_bytes)
    return {limit for limit, excess in over.items() if excess > 0} == {"latency"}


def _is_rung(size: int, goal: Goal) -> bool:
    if size == _top(goal):
        return True
    steps, rest = divmod(size, goal.min_batch_size)
    return rest == 0 and steps & (steps - 1) == 0


def _top(goal: Goal) -> int:
    """No batch is larger than this; nor than the job, where the job's size is the question."""
    top = goal.max_batch_size or LARGEST
    if goal.objective == "makespan" and goal.rows is not None:
        top = min(top, max(goal.rows, goal.min_batch_size))
    return top


def _is_plateau(situation: Situation, lane: Lane, rungs: Sequence[int]) -> bool:
    """Whether the last rungs gained neither enough to count nor more than their noise."""
    if len(rungs) <= PATIENCE:
        return False
    values, measured = situation.values(), pooled(situation.outcomes)
    line = [values.get(at(lane, size), 0.0) for size in rungs]
    before = max(line[:-PATIENCE])
    worth_it = before * (1 + situation.goal.tolerance) ** PATIENCE
    for size, value in zip(rungs[-PATIENCE:], line[-PATIENCE:], strict=True):
        low, speed = _low_and_speed(measured[at(lane, size)])
        if value >= worth_it and value * low / speed > before:
            return False
    return True


def _low_and_speed(measurement: Measurement) -> tuple[float, float]:
    found = interval(measurement)
    speed = measurement.rows_per_s
    return (found[0] if found else speed), speed


def _refinement(situation: Situation) -> Candidate | None:
    """A size between rungs: towards an edge while speed still rises, else beside the best."""
    values = situation.values()
    if not values:
        return None
    best = max(values, key=lambda c: values[c])
    near = (1 - FINAL_SHARE) * values[best]
    lanes = dict.fromkeys(
        lane_of(c) for c in sorted(values, key=lambda c: -values[c]) if values[c] >= near
    )
    for lane in lanes:
        for size in (*_towards_edge(situation, lane), *_beside(situation, lane, values)):
            if not situation.tried(lane).get(size) and situation.may_try(lane, size):
                return at(lane, size)
    return None


def _towards_edge(situation: Situation, lane: Lane) -> Iterator[int]:
    """Halfway between the largest size that is allowed and the smallest that is not."""
    tried = situation.tried(lane)
    good = [size for size, outcomes in tried.items() if situation.allows(outcomes)]
    bad = [size for size in tried if size not in good]
    bad += [c.batch_size for c in situation.refused if lane_of(c) == lane]
    above = [size for size in bad if good and size > good[-1]]
    if not above:
        return
    between = [size for size in (*tried, *bad) if not _is_rung(size, situation.goal)]
    low, high = good[-1], min(above)
    if len(between) < BISECTIONS and high - low > max(1, low // 8):
        yield _rounded((low + high) // 2)


def _beside(situation: Situation, lane: Lane, values: dict[Candidate, float]) -> Iterator[int]:
    """Sizes beside the best rung and the smallest that ties with it; for a job, its equal parts."""
    goal = situation.goal
    own = {c.batch_size: v for c, v in values.items() if lane_of(c) == lane}
    rungs = {size: value for size, value in own.items() if _is_rung(size, goal)}
    if not rungs:
        return
    best = max(rungs, key=lambda size: rungs[size])
    smallest = min(s for s, v in rungs.items() if v >= (1 - goal.tolerance) * rungs[best])
    if goal.objective == "makespan" and goal.rows is not None:
        parts = (-(-goal.rows // count) for count in range(1, 33))
        yield from [size for size in parts if smallest / 2 < size < 2 * best][:4]
    for size in (smallest * 3 // 4, best * 3 // 2, best * 3 // 4):
        yield _rounded(size)


def _rounded(size: int) -> int:
    return size if size < 2 * STEP else size // STEP * STEP


def _final(situation: Situation) -> Candidate | None:
    """The finalist that was tried least, in an order drawn afresh for each round."""
    values = situation.values()
    if not values:
        return None
    best = max(values.values())
    near = sorted(
        (c for c in values if values[c] >= (1 - FINAL_SHARE) * best), key=lambda c: -values[c]
    )
    counts = {c: sum(o.candidate == c for o in situation.outcomes) for c in near[:FINALISTS]}
    round_number = min(counts.values())
    if round_number >= ROUNDS:
        return None
    waiting = sorted((c for c in counts if counts[c] == round_number), key=str)
    rng = random.Random(f"{situation.seed}/{round_number}/{len(situation.outcomes)}")  # noqa: S311
    return rng.choice(waiting)
