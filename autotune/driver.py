"""The driver of a search: says what to try, takes in what came of it, and judges at the end.

Apart from any probe, so that whoever tries the candidates may do it in his own way and time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from autotune.baselines import Baselines
from autotune.bounds import LARGEST, Bounds, at, forecasts_of
from autotune.confirming import ROUNDS
from autotune.errors import InvalidInput, NoFeasibleBatchSize
from autotune.goal import Goal
from autotune.judging import Lane, excesses, is_allowed, lane_of, speed_of, value_name, value_of
from autotune.ladder import anchor
from autotune.ledger import Ledger
from autotune.outcomes import Block, Candidate, Measurement, Outcome, Purpose
from autotune.recommend import recommend, rounds_of
from autotune.records import Progress, TuningRecord
from autotune.standing import Standing
from autotune.strategy import (
    CONFIRM_SHARE,
    Plan,
    plan_confirmation,
    plan_race,
    plan_search,
    plan_waiting,
)
from autotune.waiting import Patience

if TYPE_CHECKING:
    import optuna

Strategy = Literal["ladder", "sampler"]

# Where a machine is of another speed every tenth of a second, candidates must be timed within the
# same one. Beside a busy process 99 % of blocks of this length are told to be disturbed, of those
# of 25 ms 92 %, of 12 ms 69 %.
BLOCK_S = 0.03
# So many would fit into a short and into a long budget, were a probe nothing but its timed calls.
FEWEST_BLOCKS, BLOCKS = 600, 2_000
MOST_BLOCKS = 2_000  # for probes that take no time, and noise that no tolerance allows for
MAX_BLOCK_S, MIN_BLOCK_S = 0.25, 0.02
RESERVE = 1.5  # times what the fresh measurement should take are kept for it,
LEAST_RESERVE = 0.05  # and at least this share of the budget
SAMPLER_TRIALS = 80
SAMPLER_SHARE = 0.5  # of the budget; the rest is for the race


class Driver:
    """Decides what to try and keeps what came of it; `search` puts it and a probe together."""

    def __init__(
        self,
        goal: Goal,
        *,
        lanes: Sequence[Lane],
        budget_s: float,
        memory_limit_bytes: int | None,
        study: optuna.Study,
        strategy: Strategy,
        seed: int,
        baselines: Sequence[Candidate] = (),
    ) -> None:
        if memory_limit_bytes is not None and memory_limit_bytes < 1:
            raise InvalidInput(
                f"memory_limit_bytes must be positive, but got {memory_limit_bytes}."
            )
        limits = [limit for limit in (memory_limit_bytes, goal.memory_budget_bytes) if limit]
        self._goal = goal
        sizes = goal.min_batch_size, goal.max_batch_size or LARGEST
        self._ledger = Ledger(study, lanes, sizes, value_name(goal))
        self._lanes = lanes
        self._strategy = strategy
        self._budget_s = budget_s
        self._seed = seed
        self._baselines = Baselines(baselines)
        self._standing = Standing(goal, min(limits, default=None), self._ledger.blocks())
        # What others held while an earlier run went on, they need not hold now.
        self._standing.memory_limit_bytes = min(limits, default=None)
        self._spent_s = sum(block.outcome.elapsed_s for block in self._standing.blocks)
        waited_s = sum(b.outcome.elapsed_s for b in self._standing.blocks if b.purpose == "wait")
        self._patience = Patience(budget_s, waited_s)
        self._round = max((block.round for block in self._standing.blocks), default=0)
        self._best: Measurement | None = None
        self._leading: Candidate | None = None
        self._purpose: Purpose = "search"
        self._queue: list[Candidate] = []
        self._samples = 0
        self._proposed: Candidate | None = None
        self._refused: dict[Candidate, int] = {}
        self._reserve_s = 0.0
        usual_s = max(min(BLOCK_S, budget_s / FEWEST_BLOCKS), budget_s / BLOCKS)
        self._block_s = min(MAX_BLOCK_S, max(MIN_BLOCK_S, usual_s))

    def ask(self) -> tuple[Candidate, float] | None:
        """Return what to try and the seconds for timed calls; None when the search is over."""
        blocks = len(self._standing.blocks)
        if blocks >= MOST_BLOCKS or (blocks and self._spent_s >= self._budget_s):
            return None
        if self._purpose == "search" and self._spent_s >= self._budget_s - self._reserve_s:
            self._queue.clear()  # what is left is for the fresh measurement
        candidate = self._ledger.wish()
        if candidate is not None:
            self._begin_round(Plan(()))
        elif self._queue:
            candidate = self._queue.pop(0)
            self._ledger.begin(candidate)
        else:
            candidate = self._first_of_round()
        return None if candidate is None else (candidate, self._block_s)

    def _first_of_round(self) -> Candidate | None:
        standing = self._standing
        plan = plan_waiting(standing) if self._patience.is_left else None
        if plan is None and self._strategy == "sampler" and (sampled := self._sample()):
            return sampled
        if plan is None:
            plan = self._search_plan()
        if plan is None:
            baselines = self._baselines.that_run(standing)
            plan = plan_confirmation(standing, baselines, CONFIRM_SHARE * self._budget_s)
        if plan is None:
            return None
        self._begin_round(plan)
        candidate = self._queue.pop(0)
        self._ledger.begin(candidate)
        return candidate

    def _begin_round(self, plan: Plan) -> None:
        self._round += 1
        self._purpose = plan.purpose
        self._queue = list(plan.candidates)
        # An order of its own for each round: who comes first must not always be the same.
        random.Random(f"{self._seed}/{self._round}").shuffle(self._queue)  # noqa: S311

    def _search_plan(self) -> Plan | None:
        """The next round of the search; None when it is settled or its time is over."""
        self._leading = self._standing.chosen
        self._reserve_s = self._confirmation_s()
        remaining_s = self._budget_s - self._reserve_s - self._spent_s
        if remaining_s <= 0 and self._standing.blocks:
            return None
        return self._next_plan(remaining_s)

    def _next_plan(self, remaining_s: float) -> Plan | None:
        if self._strategy == "sampler":
            return plan_race(self._standing, remaining_s)
        bounds = Bounds(self._standing, remaining_s, self._refused)
        return plan_search(self._standing, bounds, self._lanes)

    def _confirmation_s(self) -> float:
        """Seconds of the budget to keep for the fresh measurement."""
        if self._standing.chosen is None:
            return 0.0
        each_s = self._standing.known[self._standing.chosen].elapsed_s
        each_s += len(self._baselines) * 2 * self._block_s
        wanted_s = max(LEAST_RESERVE * self._budget_s, RESERVE * ROUNDS * each_s)
        return min(CONFIRM_SHARE * self._budget_s, wanted_s)

    def _sample(self) -> Candidate | None:
        """What the sampler proposes, or a doubling on the way there; None when it has had its time.

        No sampler may jump to a size that could end the run.
        """
        over_s = SAMPLER_SHARE * self._budget_s
        while self._samples < SAMPLER_TRIALS and self._spent_s < over_s:
            self._samples += 1
            if self._proposed is None:
                self._proposed = self._ledger.propose()
            else:
                self._ledger.take_up()
            step = self._step_towards(self._proposed)
            if step is None:
                self._ledger.refuse(self._why_not(self._proposed))
                self._proposed = None
                continue
            self._begin_round(Plan(tuple(c for c in anchor(self._standing) if c != step)))
            if step == self._proposed:
                self._ledger.start(step)
                self._proposed = None
            else:
                self._ledger.set_aside()
                self._ledger.begin(step)
            return step
        return None

    def _step_towards(self, proposed: Candidate) -> Candidate | None:
        """The proposal, or twice the largest size below it; None where that may not be tried."""
        standing, lane = self._standing, lane_of(proposed)
        sizes = [c.batch_size for c in standing.allowed if lane_of(c) == lane]
        largest = max((size for size in sizes if size <= proposed.batch_size), default=0)
        size = min(proposed.batch_size, max(2 * largest, self._goal.min_batch_size))
        if size in sizes:
            return proposed
        if lane not in self._lanes:  # an engine has not each number in flight, maybe
            return None
        step, bounds = at(lane, size), Bounds(standing, self._budget_s, self._refused)
        return step if bounds.allow(lane, size) else None

    def _why_not(self, proposed: Candidate) -> dict[str, float]:
        refused = [bytes_ for c, bytes_ in self._refused.items() if lane_of(c) == lane_of(proposed)]
        limit = self._standing.memory_limit_bytes
        if refused and limit:
            return {"memory": max(0.01, math.log(max(refused) / limit))}
        return {"runs": 1.0}

    def abandon(self) -> None:
        """Give up the last ask without an outcome; a later run may ask it again."""
        self._ledger.abandon()

    def tell(self, outcome: Outcome) -> None:
        """Take in what came of the last ask."""
        block = Block(outcome, self._round, self._purpose)
        self._standing.add(block)
        self._spent_s += outcome.elapsed_s
        disturbed, waiting = self._standing.is_disturbed_now, self._purpose == "wait"
        self._patience.took(outcome.elapsed_s, waiting=waiting, disturbed=disturbed)
        if disturbed and self._patience.is_left:
            self._queue.clear()  # the rest of the round would be worth little
        value = 0.0
        if isinstance(outcome, Measurement):
            value = value_of(outcome, self._goal)
        limit = self._standing.memory_limit_bytes
        over = excesses(outcome, self._goal, limit)
        if isinstance(outcome, Measurement) and is_allowed(outcome, self._goal, limit):
            best = self._best
            self._best = outcome if best is None or speed_of(outcome) > speed_of(best) else best
        self._ledger.finish(block, value, over)

    def progress(self, candidate: Candidate, outcome: Outcome | None) -> Progress:
        """Return where the search stands."""
        return Progress(
            candidate=candidate,
            outcome=outcome,
            best=self._best,
            spent_s=self._spent_s,
            budget_s=self._budget_s,
            purpose=self._purpose,
            memory_limit_bytes=self._standing.memory_limit_bytes,
            leading=self._leading,
        )

    def record(self) -> TuningRecord:
        """Judge what is known.

        Raises:
            NoFeasibleBatchSize: Nothing is within the limits; the error carries the record.
        """
        standing = self._standing
        record = TuningRecord(
            goal=self._goal,
            outcomes=tuple(block.outcome for block in self._standing.blocks),
            rounds=rounds_of(self._standing.blocks),
            forecasts=forecasts_of(standing, self._refused),
            recommendation=None,
            memory_limit_bytes=self._standing.memory_limit_bytes,
            budget_s=self._budget_s,
            spent_s=self._spent_s,
            seed=self._seed,
        )
        try:
            plan = self._next_plan(math.inf)  # what it would do if it had all the time
            pending = plan.candidates if plan else ()
            recommendation = recommend(standing, self._refused, pending)
        except NoFeasibleBatchSize as error:
            error.record = record
            raise
        return msgspec.structs.replace(
            record,
            recommendation=recommendation,
            baselines=self._baselines.measured(standing, recommendation.candidate),
        )
