"""The search driver: ask what to try, probe it, tell what came of it, until it is settled.

`search` reads no clock and knows no model: given the same seed and the same outcomes it tries
the same candidates, on a GPU as on a simulated device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from autotune.errors import InvalidInput, NoFeasibleBatchSize
from autotune.goal import MOST_ROWS_PER_SECOND, Goal
from autotune.judging import excesses, values_of
from autotune.ledger import Ledger
from autotune.outcomes import Candidate, Measurement, Outcome, Probe
from autotune.recommend import recommend
from autotune.records import Progress, TuningRecord
from autotune.strategy import FINALISTS, LARGEST, ROUNDS, Situation, next_candidate
from autotune.studies import study_in_memory

if TYPE_CHECKING:
    import optuna

Strategy = Literal["ladder", "sampler"]

FIRST_LOOK_SHARE = 0.3  # of the budget is planned for the first look at each candidate,
FINALS_SHARE = 0.35  # and so much for the finals; the rest goes into first calls and warm-up
RUNGS = 14  # of a ladder, as a rule
OTHERS = 12  # refinements
MAX_PROBE_S, MIN_PROBE_S = 1.0, 0.02
SAMPLER_TRIALS = 60
MOST_IN_FLIGHT = 256  # threads; far more than any machine gains from


def search(
    probe: Probe,
    goal: Goal = MOST_ROWS_PER_SECOND,
    *,
    engines: Sequence[str] = ("keras",),
    concurrency: Sequence[int] = (1,),
    budget_s: float = 60.0,
    memory_limit_bytes: int | None = None,
    study: optuna.Study | None = None,
    strategy: Strategy = "ladder",
    seed: int = 0,
    on_event: Callable[[Progress], None] | None = None,
) -> TuningRecord:
    """Find the candidate that serves a goal best, by trying candidates with a probe.

    Args:
        probe: Tries one candidate; the float is the seconds to spend on timed calls. Time is
            counted by the `elapsed_s` of what it returns.
        goal: What to maximise, and under which limits.
        engines: Engines to try.
        concurrency: Numbers of batches in flight to try.
        budget_s: Seconds for all probes; the last one begun may exceed it.
        memory_limit_bytes: Most memory a candidate may use; a size whose forecast is above it
            is not tried.
        study: An Optuna study to write to and go on from; by default one in memory.
        strategy: "ladder" doubles, refines and repeats; "sampler" tries what the study's own
            sampler proposes.
        seed: Seed for the order of probes.
        on_event: Called before and after each probe.

    Returns:
        The record, with `recommendation` set.

    Raises:
        NoFeasibleBatchSize: Nothing that was tried is within the limits; the error carries the
            record.
        InvalidInput: An argument is out of range.

    Example:
        A device on which a batch takes 1 ms and 10 µs a row:

        >>> def probe(candidate, seconds):
        ...     call_s = 0.001 + 0.00001 * candidate.batch_size
        ...     return Measurement(candidate, (call_s,) * 5, elapsed_s=seconds)
        >>> record = search(probe, Goal(max_batch_size=512))
        >>> record.recommendation.batch_size
        512
    """
    driver = Driver(
        goal,
        engines=engines,
        concurrency=concurrency,
        budget_s=budget_s,
        memory_limit_bytes=memory_limit_bytes,
        study=study or study_in_memory(),
        strategy=strategy,
        seed=seed,
    )
    tell = on_event or (lambda _: None)
    while (ask := driver.ask()) is not None:
        try:
            tell(driver.progress(ask[0], None))
            outcome = probe(*ask)
        except BaseException:
            driver.abandon()
            raise
        driver.tell(outcome)
        tell(driver.progress(ask[0], outcome))
    return driver.record()


class Driver:
    """Decides what to try and keeps what came of it; `search` puts it and a probe together."""

    def __init__(
        self,
        goal: Goal,
        *,
        engines: Sequence[str],
        concurrency: Sequence[int],
        budget_s: float,
        memory_limit_bytes: int | None,
        study: optuna.Study,
        strategy: Strategy,
        seed: int,
    ) -> None:
        check_arguments(engines, concurrency, budget_s, strategy)
        if memory_limit_bytes is not None and memory_limit_bytes < 1:
            raise InvalidInput(
                f"memory_limit_bytes must be positive, but got {memory_limit_bytes}."
            )
        bounds = goal.min_batch_size, goal.max_batch_size or LARGEST
        self._ledger = Ledger(study, engines, max(concurrency), bounds)
        self._strategy = strategy
        self._budget_s = budget_s
        self._situation = Situation(
            goal=goal,
            lanes=[(engine, flights, None) for engine in engines for flights in concurrency],
            memory_limit_bytes=memory_limit_bytes,
            seed=seed,
            outcomes=self._ledger.outcomes(),
            remaining_s=0.0,
        )
        self._count_time()
        looks = RUNGS * len(self._situation.lanes) + OTHERS
        self._first_look_s = _within(FIRST_LOOK_SHARE * budget_s / looks)
        self._final_s = _within(FINALS_SHARE * budget_s / (FINALISTS * (ROUNDS - 1)))

    @property
    def _spent_s(self) -> float:
        return sum(outcome.elapsed_s for outcome in self._situation.outcomes)

    def _count_time(self) -> None:
        self._situation.remaining_s = self._budget_s - self._spent_s

    def ask(self) -> tuple[Candidate, float] | None:
        """Return what to try and the seconds for timed calls; None when the search is over."""
        if self._situation.remaining_s <= 0 and self._situation.outcomes:
            return None
        if self._strategy == "sampler":
            return self._ask_sampler()
        candidate = next_candidate(self._situation)
        if candidate is None:
            return None
        candidate = self._ledger.begin(candidate)
        known = any(outcome.candidate == candidate for outcome in self._situation.outcomes)
        return candidate, self._final_s if known else self._first_look_s

    def _ask_sampler(self) -> tuple[Candidate, float] | None:
        """What the sampler proposes, but at most twice the largest size that went well."""
        goal, lanes = self._situation.goal, self._situation.lanes
        count = len(self._situation.outcomes)
        if count >= SAMPLER_TRIALS:
            return None
        if count < len(lanes):
            engine, flights, _ = lanes[count]
            candidate = Candidate(goal.min_batch_size, engine, concurrency=flights)
            return self._ledger.begin(candidate), self._final_s
        good = [c.batch_size for c in self._situation.values()]
        highest = min(2 * max(good, default=goal.min_batch_size), goal.max_batch_size or LARGEST)
        return self._ledger.propose(goal.min_batch_size, highest), self._final_s

    def abandon(self) -> None:
        """Give up the last ask without an outcome; a later run may ask it again."""
        self._ledger.abandon()

    def tell(self, outcome: Outcome) -> None:
        """Take in what came of the last ask."""
        situation = self._situation
        situation.outcomes.append(outcome)
        self._count_time()
        value = 0.0
        if isinstance(outcome, Measurement):
            value = values_of({outcome.candidate: outcome}, situation.goal)[outcome.candidate]
        over = excesses(outcome, situation.goal, situation.memory_limit_bytes)
        self._ledger.finish(outcome, value, over)

    def progress(self, candidate: Candidate, outcome: Outcome | None) -> Progress:
        """Return where the search stands."""
        measured = [o for o in self._situation.outcomes if isinstance(o, Measurement)]
        allowed = [o for o in measured if self._situation.allows([o])]
        return Progress(
            candidate=candidate,
            outcome=outcome,
            best=max(allowed, key=lambda m: m.rows_per_s, default=None),
            spent_s=self._spent_s,
            budget_s=self._budget_s,
        )

    def record(self) -> TuningRecord:
        """Judge what is known.

        Raises:
            NoFeasibleBatchSize: Nothing is within the limits; the error carries the record.
        """
        situation = self._situation
        record = TuningRecord(
            goal=situation.goal,
            outcomes=tuple(situation.outcomes),
            recommendation=None,
            memory_limit_bytes=situation.memory_limit_bytes,
            budget_s=self._budget_s,
            spent_s=self._spent_s,
            seed=situation.seed,
        )
        try:
            recommendation = recommend(
                situation.outcomes,
                situation.goal,
                situation.memory_limit_bytes,
                situation.refused,
            )
        except NoFeasibleBatchSize as error:
            error.record = record
            raise
        return msgspec.structs.replace(record, recommendation=recommendation)


def _within(seconds: float) -> float:
    return min(MAX_PROBE_S, max(MIN_PROBE_S, seconds))


def check_arguments(
    engines: Sequence[str], concurrency: Sequence[int], budget_s: float, strategy: str
) -> None:
    """Check arguments of `search`, before anything slow begins.

    Raises:
        InvalidInput: One is out of range; the message names it.
    """
    if isinstance(engines, str) or not engines:
        raise InvalidInput(f"engines must be a sequence of names, but got {engines!r}.")
    if not concurrency or any(
        not isinstance(n, int) or not 1 <= n <= MOST_IN_FLIGHT for n in concurrency
    ):
        raise InvalidInput(
            f"concurrency must hold whole numbers from 1 to {MOST_IN_FLIGHT}, "
            f"but got {list(concurrency)}."
        )
    if not 0 < budget_s < float("inf"):
        raise InvalidInput(f"budget_s must be a positive number of seconds, but got {budget_s!r}.")
    if strategy not in get_args(Strategy):
        known = ", ".join(get_args(Strategy))
        raise InvalidInput(f"strategy must be one of {known}, but got {strategy!r}.")
