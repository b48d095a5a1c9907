"""Where a search stands: what is known of each candidate, who is best, who is not told apart.

Everything here follows from the goal and the blocks alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import cached_property

from autotune.comparing import Fit, Gap, are_always
from autotune.goal import Goal
from autotune.judging import (
    Curve,
    Lane,
    Verdict,
    lane_of,
    makespan_s,
    merged,
    pooled,
    quantile_verdict,
    speed_of,
    value_of,
)
from autotune.known import Known
from autotune.outcomes import Block, Candidate, Measurement

OFTEN = 3  # blocks of a candidate before it may be the answer
CALM = 0.8  # quantile of the rounds' tides that stands for a calm machine
SLOWER = 0.08  # as a log ratio: a round that far below the calm ones is disturbed
MANY = 4  # so many disturbed blocks are worth one, and so are more


class Standing:
    """Where a search stands after some blocks.

    Args:
        goal: What to maximise, and under which limits.
        memory_limit_bytes: What peaks are held against at first; None for no limit. It falls
            with what the blocks tell: an answer must fit beside whoever else comes.
        blocks: Every probe, in order.
    """

    def __init__(
        self,
        goal: Goal,
        memory_limit_bytes: int | None,
        blocks: Sequence[Block] = (),
    ) -> None:
        self.goal = goal
        self.memory_limit_bytes = memory_limit_bytes
        self.blocks: list[Block] = []
        self.tolerance = -math.log1p(-goal.tolerance)
        self.known: dict[Candidate, Known] = {}
        self._worth: list[float] = []  # of each block, where it does not depend on others
        self._over: list[int] = []  # calls of each block over the latency budget
        for block in blocks:
            self.add(block)

    def add(self, block: Block) -> None:
        """Take in one more block; what follows from all of them is worked out anew."""
        self.blocks.append(block)
        limits = [self.memory_limit_bytes, block.outcome.memory_limit_bytes]
        self.memory_limit_bytes = min((n for n in limits if n is not None), default=None)
        self._worth.append(self._value(block))
        self.known.setdefault(block.outcome.candidate, Known()).add(block)
        self._over.append(self._calls_over_budget(block))
        for name, member in vars(Standing).items():
            if isinstance(member, cached_property):
                self.__dict__.pop(name, None)

    def _value(self, block: Block) -> float:
        """A block's value as a logarithm; for a job, its speed."""
        if not isinstance(block.outcome, Measurement):
            return 0.0
        if self.goal.objective == "makespan":
            return math.log(speed_of(block.outcome))
        return math.log(value_of(block.outcome, self.goal))

    @cached_property
    def _curve(self) -> Curve:
        known = {c: k for c, k in self.known.items() if k.parts and not k.failed}
        return Curve(
            {c: k.latency_s for c, k in known.items()},
            {c: k.first_call_extra_s for c, k in known.items()},
        )

    def _calls_over_budget(self, block: Block) -> int:
        budget_s = self.goal.latency_budget_s
        if budget_s is None or not isinstance(block.outcome, Measurement):
            return 0
        return sum(time_s > budget_s for time_s in block.outcome.times_s)

    @cached_property
    def measured(self) -> dict[Candidate, Measurement]:
        """The measurements of each candidate that never failed, put together."""
        return pooled([block.outcome for block in self.blocks if not self._has_failed(block)])

    def _has_failed(self, block: Block) -> bool:
        stopped = not isinstance(block.outcome, Measurement)
        return stopped or self.known[block.outcome.candidate].failed

    def undisturbed(self, candidate: Candidate) -> Measurement:
        """A candidate's measurements on which its limits are judged: the calm ones, if any."""
        own = [(b.round, b.outcome) for b in self.blocks if b.outcome.candidate == candidate]
        parts = [(n, part) for n, part in own if isinstance(part, Measurement)]
        calm = [part for number, part in parts if self.is_calm(number, candidate)]
        return merged(calm or [part for _, part in parts])

    @cached_property
    def rounds(self) -> dict[int, dict[Candidate, tuple[float, bool]]]:
        """For each round: the logarithm of each candidate's value, and whether it is disturbed."""
        found: dict[int, dict[Candidate, tuple[float, bool]]] = {}
        for block, value in zip(self.blocks, self._worth, strict=True):
            outcome = block.outcome
            if isinstance(outcome, Measurement) and not self.known[outcome.candidate].failed:
                if self.goal.objective == "makespan":
                    value = self._value_in_job(outcome.candidate, math.exp(value))
                found.setdefault(block.round, {})[outcome.candidate] = value, outcome.is_disturbed
        return found

    def _value_in_job(self, candidate: Candidate, rows_per_s: float) -> float:
        rows = self.goal.rows or 1
        return math.log(rows / makespan_s(candidate, rows_per_s, rows, self._curve))

    @cached_property
    def is_always_disturbed(self) -> bool:
        """Whether nearly all blocks were disturbed: then that is how this machine is now.

        What was timed only to see a disturbance end is not counted.
        """
        flags = [
            block.outcome.is_disturbed
            for block in self.blocks
            if isinstance(block.outcome, Measurement) and block.purpose != "wait"
        ]
        return are_always(flags)

    @cached_property
    def calm_share(self) -> float:
        """Share of the time so far that went to blocks of full worth."""
        spent_s = sum(block.outcome.elapsed_s for block in self.blocks)
        lost_s = sum(block.outcome.elapsed_s for block in self.blocks if self._is_lost(block))
        return 1 - lost_s / spent_s if spent_s else 1.0

    def _is_lost(self, block: Block) -> bool:
        disturbed = isinstance(block.outcome, Measurement) and block.outcome.is_disturbed
        return block.purpose == "wait" or (disturbed and not self.is_always_disturbed)

    @property
    def is_disturbed_now(self) -> bool:
        """Whether something disturbed the last probe."""
        last = self.blocks[-1].outcome if self.blocks else None
        return isinstance(last, Measurement) and last.is_disturbed

    @cached_property
    def fit(self) -> Fit[Candidate]:
        """Level of each candidate and tide of each round of the search.

        The fresh measurement has no part in it: it must not choose whom it is to confirm.
        """
        rounds = [self.rounds[number] for number in self._search_rounds]
        if self.is_always_disturbed:  # then no block is worth less than another
            rounds = [{c: (value, False) for c, (value, _) in row.items()} for row in rounds]
        return Fit(rounds, alike=True)

    @cached_property
    def _search_rounds(self) -> list[int]:
        numbers = {block.round for block in self.blocks if block.purpose == "search"}
        return [number for number in self.rounds if number in numbers]

    @property
    def levels(self) -> dict[Candidate, float]:
        """The logarithm of each candidate's value, in a calm round."""
        return self.fit.levels

    @cached_property
    def tides(self) -> dict[int, float]:
        """How far each round lies above or below a calm one, as a log ratio."""
        found = dict(zip(self._search_rounds, self.fit.tides, strict=True))
        for number, row in self.rounds.items():
            if number not in found:
                offsets = [v - self.levels[c] for c, (v, _) in row.items() if c in self.levels]
                found[number] = statistics.median(offsets) if offsets else 0.0
        return found

    @cached_property
    def _ebb(self) -> float:
        """The tide below which something must have slowed a round down."""
        tides = sorted(self.fit.tides)
        calm = tides[int(CALM * len(tides))] if tides else 0.0
        # A guess may be mostly tides, and would then call the slowest of them calm.
        noise = 0.0 if self.fit.is_guess else self.fit.noise
        return calm - max(SLOWER, 4 * noise)

    def is_calm(self, number: int, candidate: Candidate) -> bool:
        """Whether nothing disturbed a candidate's block in a round."""
        _, disturbed = self.rounds[number][candidate]
        if disturbed and not self.is_always_disturbed:
            return False
        return self.tides[number] >= self._ebb

    @property
    def calm_tides(self) -> list[float]:
        """The tides of the calm rounds, in order: what the machine itself does."""
        return [tide for tide in self.fit.tides if tide >= self._ebb]

    def _count_calls(self, *, calm: bool) -> dict[Candidate, tuple[int, int, int]]:
        """Of each candidate the blocks, the calls, and the calls over the latency budget."""
        found: dict[Candidate, tuple[int, int, int]] = {}
        for block, over in zip(self.blocks, self._over, strict=True):
            outcome = block.outcome
            if not isinstance(outcome, Measurement) or self.known[outcome.candidate].failed:
                continue
            if self.is_calm(block.round, outcome.candidate) or not calm:
                blocks, calls, before = found.get(outcome.candidate, (0, 0, 0))
                counted = blocks + 1, calls + len(outcome.times_s), before + over
                found[outcome.candidate] = counted
        return found

    @cached_property
    def _calm_calls(self) -> dict[Candidate, tuple[int, int, int]]:
        return self._count_calls(calm=True)

    @cached_property
    def _all_calls(self) -> dict[Candidate, tuple[int, int, int]]:
        return self._count_calls(calm=False)

    def verdict(self, candidate: Candidate) -> Verdict:
        """Whether the candidate meets the latency budget at the goal's quantile, undisturbed."""
        if self.goal.latency_budget_s is None:
            return "pass"
        blocks, calls, over = self._calm_calls.get(candidate, (0, 0, 0))
        found = quantile_verdict(calls, over, self.goal.quantile)
        # All calls of one block may have met the same hiccup.
        return "undecided" if found == "fail" and blocks < 2 else found

    def allows(self, candidate: Candidate) -> bool:
        """Whether it ran each time it was tried, and nothing speaks for its being over a limit."""
        return self.fits(candidate) and not self.is_too_slow(candidate)

    def fits(self, candidate: Candidate) -> bool:
        """Whether it ran each time it was tried, within the memory limit."""
        limit = self.memory_limit_bytes
        if candidate not in self.levels:
            return False
        return limit is None or (self.known[candidate].peak_bytes or 0) <= limit

    def is_too_slow(self, candidate: Candidate) -> bool:
        """Whether more calls exceed the latency budget than the quantile allows."""
        if self.goal.latency_budget_s is None:
            return False
        counted = self._calm_calls.get(candidate) or self._all_calls.get(candidate)
        _, calls, over = counted or (0, 0, 0)
        return over > (1 - self.goal.quantile) * calls

    @cached_property
    def allowed(self) -> list[Candidate]:
        """Candidates within the limits, in rising order of what a batch takes.

        A baseline is none: it was never timed in the search.
        """
        return sorted(filter(self.allows, self.levels), key=self.cost_of)

    def cost_of(self, candidate: Candidate) -> tuple[float, ...]:
        """What is preferred among equals: the smaller batch; for "latency", the faster one."""
        level = self.levels[candidate]
        if self.goal.objective == "latency":
            return (-candidate.batch_size * candidate.concurrency * math.exp(level),)
        return candidate.batch_size, candidate.concurrency, -level

    def gap(self, ahead: Candidate, behind: Candidate) -> Gap:
        """By how much one candidate is ahead of another."""
        return self.fit.gap(ahead, behind)

    def calls_of(self, candidate: Candidate) -> int:
        """How many calls of the candidate were timed."""
        return self._all_calls[candidate][1]

    def times_tried(self, candidate: Candidate) -> int:
        """In how many blocks the candidate was timed; all disturbed ones count as one at most."""
        parts = self.known[candidate].parts
        if self.is_always_disturbed:
            return len(parts)
        disturbed = sum(part.is_disturbed for part in parts)
        return len(parts) - disturbed + (disturbed >= MANY)

    @cached_property
    def _eligible(self) -> list[Candidate]:
        """Allowed candidates that were timed often enough to be believed, if there are any.

        One timed twice is believed where it is ahead of all those by more than the noise.
        """
        passed = [c for c in self.allowed if self.verdict(c) == "pass"] or self.allowed
        often = [c for c in passed if self.times_tried(c) >= OFTEN]
        if not often:
            return passed
        best = max(often, key=lambda c: self.levels[c])
        twice = [c for c in passed if self.times_tried(c) >= 2]
        return [c for c in twice if c in often or self.gap(c, best).low > 0]

    @cached_property
    def best(self) -> Candidate | None:
        """The candidate with the highest value."""
        return max(self._eligible, key=lambda c: self.levels[c], default=None)

    @cached_property
    def chosen(self) -> Candidate | None:
        """The first in order of cost that is not behind the best by more than the tolerance."""
        best = self.best
        if best is None:
            return None
        level = self.levels
        near = level[best] - self.tolerance
        return next(c for c in self._eligible if c == best or level[c] >= near)

    def of_lane(self, lane: Lane) -> list[int]:
        """Batch sizes of a lane that were tried in the search, rising."""
        tried = [c for c, known in self.known.items() if c in self.levels or known.failed]
        return sorted(c.batch_size for c in tried if lane_of(c) == lane)
