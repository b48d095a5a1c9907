"""A claim on trial: what a contest says now of what a record says of then."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

from autotune.claims import Claim
from autotune.comparing import Gap
from autotune.contest import LEAST_ROUNDS, Contest
from autotune.goal import Goal
from autotune.judging import merged, quantile_verdict
from autotune.outcomes import Candidate
from autotune.units import format_seconds, format_share

Verdict = Literal["same", "faster", "slower", "fails", "undecided"]
Fact = Literal["advantage", "lead", "latency"]
Finding = Literal["holds", "gained", "lost", "unknown"]


def judge_advantage(now: Gap, then: Gap, tolerance: float) -> Finding:
    """Hold the advantage of now against that of then.

    It is "lost" where all of its interval lies below all of the recorded one by more than the
    tolerance, so that neither measurement's bad luck is taken for a change; it "holds" where all
    of it lies above the recorded figure less the tolerance.

    Example:
        >>> [judge_advantage(Gap(now, 0.02), Gap(1.0, 0.03), 0.05) for now in (0.98, 0.8)]
        ['holds', 'lost']
    """
    band = -math.log1p(-tolerance)
    if now.high < then.low - band:
        return "lost"
    if now.low > then.high + band:
        return "gained"
    return "holds" if now.low > then.log_ratio - band else "unknown"


def judge_lead(lead: Gap, tolerance: float) -> Finding:
    """Say whether a runner-up is ahead by more than the tolerance.

    Example:
        >>> judge_lead(Gap(0.0, 0.02), 0.05), judge_lead(Gap(0.2, 0.02), 0.05)
        ('holds', 'lost')
    """
    band = -math.log1p(-tolerance)
    if lead.low > band:
        return "lost"
    return "holds" if lead.high < band else "unknown"


class Trial:
    """A record's claim, and what a contest has measured so far.

    Args:
        claim: What the record says.
        goal: What it was tuned for.
        contest: Times the claim's candidates, by themselves as names.
        tolerance: A smaller change, as a share, is none.
    """

    def __init__(
        self, claim: Claim, goal: Goal, contest: Contest[Candidate], tolerance: float
    ) -> None:
        self._claim = claim
        self._goal = goal
        self._contest = contest
        self._tolerance = tolerance

    @property
    def advantage(self) -> Gap | None:
        """By how much the recommendation is ahead of the baseline, in rows per second."""
        chosen, baseline = self._claim.recommended, self._claim.baseline
        return None if baseline is None else self._contest.gap(chosen, baseline)

    @property
    def lead(self) -> Gap | None:
        """By how much the runner-up is ahead of the recommendation, by the goal's objective."""
        chosen, other = self._claim.recommended, self._claim.runner_up
        return None if other is None else self._contest.gap(other, chosen, self._claim.value)

    def findings(self) -> dict[Fact, Finding]:
        """What is known of each fact that the verdict hangs on."""
        now, then, lead = self.advantage, self._claim.advantage, self.lead
        found: dict[Fact, Finding] = {}
        if now and then:
            found["advantage"] = judge_advantage(now, then, self._tolerance)
        if lead:  # the recommendation may be behind by as much as the goal tolerates
            found["lead"] = judge_lead(lead, max(self._tolerance, self._goal.tolerance))
        if self._contest.calm_rounds < LEAST_ROUNDS:
            return dict.fromkeys(found, "unknown")
        if self._is_late():
            found["latency"] = "lost"
        return found

    def _is_late(self) -> bool:
        """Whether the latency budget is exceeded by more than the tolerance, at 95 %.

        That it is kept is not asked for: what was chosen at the edge of its budget stands there.
        """
        blocks = self._contest.measured(self._claim.recommended)
        if self._goal.latency_budget_s is None or not blocks:
            return False
        longest_s = self._goal.latency_budget_s * (1 + self._tolerance)
        times_s = merged(blocks).times_s
        over = sum(time_s > longest_s for time_s in times_s)
        return quantile_verdict(len(times_s), over, self._goal.quantile) == "fail"

    def is_settled(self) -> bool:
        """Whether more rounds would hardly change the verdict."""
        findings = self.findings()
        return not findings or self._verdict_by(findings) != "undecided"

    def verdict(self) -> Verdict:
        """What follows from the facts."""
        return self._verdict_by(self.findings())

    def _verdict_by(self, findings: Mapping[Fact, Finding]) -> Verdict:
        values = findings.values()
        if self._claim.recommended in self._contest.failures:
            return "fails"
        if "lost" in values:
            return "slower"
        if not values or "unknown" in values:
            return "undecided"
        return "faster" if "gained" in values else "same"

    def reason(self) -> str:
        """The verdict in words."""
        chosen = self._claim.recommended
        match self.verdict():
            case "same":
                return f"The recommendation holds: {chosen}."
            case "faster":
                return f"The recommendation holds, further ahead than it was: {chosen}."
            case "fails":
                return f"{chosen} does not run here: {self._contest.failures[chosen]}"
            case "slower":
                return " ".join([*self._losses(), "Tune again."])
        return " ".join(self._doubts())

    def _losses(self) -> Iterator[str]:
        claim, lost = self._claim, self._lost
        if "advantage" in lost and self.advantage and claim.advantage and claim.baseline:
            then, now = math.exp(claim.advantage.log_ratio), math.exp(self.advantage.log_ratio)
            yield (
                f"{claim.recommended} was {then:.2f} times as fast as {called(claim.baseline)} and "
                f"is {now:.2f} times as fast now."
            )
        if "lead" in lost and self.lead:
            ahead = math.exp(self.lead.log_ratio)
            yield (
                f"{claim.recommended} is no longer the best: "
                f"{claim.runner_up} is {ahead:.2f} times as good."
            )
        if "latency" in lost:
            budget = format_seconds(self._goal.latency_budget_s or 0.0)
            yield (
                f"A batch of {claim.recommended} takes longer than {budget} at the "
                f"{format_share(self._goal.quantile)} quantile."
            )

    @property
    def _lost(self) -> list[Fact]:
        return [fact for fact, finding in self.findings().items() if finding == "lost"]

    def _doubts(self) -> Iterator[str]:
        findings, share = self.findings(), f"{100 * self._tolerance:g}%"
        if not findings:
            yield "Undecided: the record holds nothing to compare with. Tune again."
            return
        counted = self._contest.calm_rounds
        few = f", of the {LEAST_ROUNDS} that it takes" if counted < LEAST_ROUNDS else ""
        yield f"Undecided after {counted} rounds{few}."
        if findings.get("advantage") == "unknown":
            yield f"It may have lost more than {share} of its advantage."
        if findings.get("lead") == "unknown":
            yield f"Its runner-up may be ahead by more than {share}."
        yield "More time (a larger budget) or a quieter machine would tell."

    def warnings(self) -> Iterator[str]:
        """What a reader should know before trusting the verdict."""
        claim, contest = self._claim, self._contest
        if claim.baseline is None:
            yield "The record has no predict_on_batch beside the recommendation."
        elif claim.advantage is None:
            yield (
                "The record has too few rounds of the recommendation beside predict_on_batch to "
                "tell its advantage."
            )
        if claim.runner_up is None:
            yield "The record has no other candidate to compare with."
        for candidate, message in contest.failures.items():
            if candidate != claim.recommended:
                yield f"Not timed: {candidate}. {message}"
        yield from contest.warnings()


def called(baseline: Candidate) -> str:
    """How people know a baseline."""
    return f"predict_on_batch of {baseline.batch_size:,} rows"
