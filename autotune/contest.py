"""A contest: a few ways of running models, timed side by side until it is settled who is ahead.

In rounds, each once, in random order and in short blocks, as the race of a search does it; but
nobody drops out, and each may have a probe of its own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from msgspec import Struct

from autotune.comparing import Fit, Gap, are_always
from autotune.confirming import ENOUGH, UNSEEN_DRIFT
from autotune.errors import InvalidInput
from autotune.intervals import Speed, speed_from
from autotune.judging import speed_of
from autotune.known import Known
from autotune.outcomes import Block, Candidate, Measurement, Outcome, Probe, Purpose
from autotune.records import Progress
from autotune.waiting import Patience

LEAST_ROUNDS = 8  # before anything is said: with fewer the noise itself is hardly known
GROWTH = 1.25  # times the rounds of one look come before the next: each look may be wrong by chance
MOST_ROUNDS = 1_000  # for probes that take no time
BLOCK_S, LEAST_BLOCK_S = 0.1, 0.02
BLOCKS = 100  # so many would fit into a short budget, were a probe nothing but its timed calls

Name = TypeVar("Name", bound=Hashable)
Value = Callable[[Measurement], float]


class Ratio(Struct, frozen=True):
    """A ratio of two speeds that were timed side by side, with its 95 % interval."""

    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, gap: Gap | None) -> Ratio | None:
        """Return a gap between logarithms as a ratio; None where there is none."""
        if gap is None:
            return None
        return cls(math.exp(gap.log_ratio), math.exp(gap.low), math.exp(gap.high))


def fit_of(rounds: Sequence[Mapping[Name, Measurement]], value: Value = speed_of) -> Fit[Name]:
    """Fit levels and tides to rounds of measurements.

    Args:
        rounds: For each round the measurements, by whom they are of.
        value: What is compared, by default rows per second; more is better.
    """
    always = are_always([m.is_disturbed for row in rounds for m in row.values()])
    return Fit(
        [
            {name: (math.log(value(m)), m.is_disturbed and not always) for name, m in row.items()}
            for row in rounds
        ]
    )


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of running a model, and the probe that times it."""

    probe: Probe
    candidate: Candidate


class Contest(Generic[Name]):
    """Times contenders side by side, and tells the gaps between them.

    It reads no clock: time is the sum of what the probes took.

    Args:
        contenders: Who is timed, by any name; `on_event` is told names that are text.
        budget_s: Seconds for all probes; the last one begun may exceed it.
        seed: Seed for the order in a round.
        on_event: Called before and after each probe.

    Attributes:
        rounds: What came of each round.
        failures: Who could not be timed, and why.
        spent_s: Seconds that the probes took.

    Example:
        >>> def probe(candidate, seconds):
        ...     call_s = 0.001 + 0.00001 * candidate.batch_size
        ...     return Measurement(candidate, (call_s,) * 5, elapsed_s=seconds)
        >>> small, big = (Contender(probe, Candidate(size)) for size in (100, 900))
        >>> contest = Contest({"small": small, "big": big}, budget_s=5.0)
        >>> contest.run(lambda: True)
        >>> round(Ratio.of(contest.gap("big", "small")).ratio, 2), len(contest.rounds)
        (1.8, 8)
    """

    def __init__(
        self,
        contenders: Mapping[Name, Contender],
        *,
        budget_s: float,
        seed: int = 0,
        on_event: Callable[[Progress], None] | None = None,
    ) -> None:
        self._contenders = contenders
        self._budget_s = budget_s
        self._block_s = min(BLOCK_S, max(LEAST_BLOCK_S, budget_s / BLOCKS))
        self._seed = seed
        self._tell = on_event or (lambda _: None)
        self._known = {name: Known() for name in contenders}
        self._patience = Patience(budget_s)
        self._is_disturbed = False
        self.rounds: list[dict[Name, Measurement]] = []
        self.failures: dict[Name, str] = {}
        self.spent_s = 0.0

    def run(self, is_settled: Callable[[], bool]) -> None:
        """Time rounds until a question is settled, or the budget ends.

        Args:
            is_settled: Asked after some rounds, more and more from look to look; and when
                somebody cannot be timed.
        """
        next_look = LEAST_ROUNDS
        while self._has_time and self._running:
            failed = len(self.failures)
            self._time_round()
            is_due = self.calm_rounds >= next_look
            if is_due:
                next_look = math.ceil(GROWTH * self.calm_rounds)
            if (is_due or len(self.failures) > failed) and is_settled():
                return

    @property
    def _has_time(self) -> bool:
        return self.spent_s < self._budget_s and len(self.rounds) < MOST_ROUNDS

    @property
    def _running(self) -> list[Name]:
        return [name for name in self._contenders if name not in self.failures]

    def _time_round(self) -> None:
        row: dict[Name, Measurement] = {}
        self.rounds.append(row)
        order = self._running
        random.Random(f"{self._seed}/{len(self.rounds)}").shuffle(order)  # noqa: S311
        for name in order:
            outcome = self._time(name)
            if isinstance(outcome, Measurement):
                row[name] = outcome
            elif self._known[name].failed:
                self.failures[name] = outcome.message or "It failed."
            if self._is_disturbed and self._patience.is_left:
                self._wait_for_quiet()  # the rest of the round would be worth little
                return
            if not self._has_time:
                return

    def _time(self, name: Name, purpose: Purpose = "search") -> Outcome:
        contender = self._contenders[name]
        self._tell(self._progress(name, None, purpose))
        outcome = contender.probe(contender.candidate, self._block_s)
        self.spent_s += outcome.elapsed_s
        self._known[name].add(Block(outcome, len(self.rounds), purpose))
        self._is_disturbed = isinstance(outcome, Measurement) and outcome.is_disturbed
        waiting, disturbed = purpose == "wait", self._is_disturbed
        self._patience.took(outcome.elapsed_s, waiting=waiting, disturbed=disturbed)
        self._tell(self._progress(name, outcome, purpose))
        return outcome

    def _wait_for_quiet(self) -> None:
        """Run the quickest probe there is until nothing disturbs it."""
        known = {name: self._known[name] for name in self._running if self._known[name].parts}
        quickest = min(known, key=lambda each: known[each].elapsed_s)
        while self._is_disturbed and self._patience.is_left and self._has_time:
            self._time(quickest, "wait")

    def _progress(self, name: Name, outcome: Outcome | None, purpose: Purpose) -> Progress:
        return Progress(
            candidate=self._contenders[name].candidate,
            outcome=outcome,
            best=None,
            spent_s=self.spent_s,
            budget_s=self._budget_s,
            purpose=purpose,
            side=name if isinstance(name, str) else "",
        )

    @property
    def calm_rounds(self) -> int:
        """Whole rounds in which nothing disturbed; all, where something always does."""
        whole = [row for row in self.rounds if row and row.keys() >= set(self._running)]
        if are_always(self._disturbed):
            return len(whole)
        return sum(not any(m.is_disturbed for m in row.values()) for row in whole)

    def warnings(self) -> list[str]:
        """Say how much other work on the machine disturbed, if any did."""
        flags = self._disturbed
        words = f"Other work on the machine disturbed {sum(flags)} of {len(flags)} blocks."
        return [words] if any(flags) else []

    @property
    def _disturbed(self) -> list[bool]:
        return [m.is_disturbed for row in self.rounds for m in row.values()]

    def gap(self, ahead: Name, behind: Name, value: Value = speed_of) -> Gap | None:
        """By how much one contender is ahead of another; None where one was not timed."""
        if any(n in self.failures or not self.measured(n) for n in (ahead, behind)):
            return None
        return fit_of(self.rounds, value).gap(ahead, behind)

    def measured(self, name: Name) -> list[Measurement]:
        """A contender's measurements: the undisturbed ones, if there are a few."""
        own = [row[name] for row in self.rounds if name in row]
        calm = [measurement for measurement in own if not measurement.is_disturbed]
        return calm if len(calm) >= ENOUGH else own

    def speed(self, name: Name) -> Speed | None:
        """Rows per second of a contender; None where it was not timed.

        With a doubt for what the machine does over minutes, which a ratio is free of.
        """
        logs = [math.log(speed_of(measurement)) for measurement in self.measured(name)]
        return speed_from(logs, UNSEEN_DRIFT) if logs else None


def check_terms(budget_s: float, tolerance: float) -> None:
    """Check what bounds a contest, before anything slow begins.

    Raises:
        InvalidInput: One is out of range; the message names it.
    """
    if not 0 < budget_s < math.inf:
        raise InvalidInput(f"budget_s must be a positive number of seconds, but got {budget_s!r}.")
    if not 0 < tolerance < 1:
        raise InvalidInput(f"tolerance must be more than 0 and less than 1, but got {tolerance!r}.")
