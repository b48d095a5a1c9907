"""What a record claims: who was best, beside whom, and by how much, as it was measured then."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.comparing import Gap
from autotune.confirming import ENOUGH
from autotune.contest import Value, fit_of
from autotune.engines import REFERENCE
from autotune.judging import curve_of, lane_of, value_of
from autotune.outcomes import Candidate, Measurement
from autotune.records import TuningRecord
from autotune.standing import Standing

APART = 2  # times the batch size: nearer sizes of one lane are the same answer


@dataclass(frozen=True, slots=True)
class Claim:
    """What can be measured again of a recommendation.

    Attributes:
        recommended: The recommended candidate.
        runner_up: The best other one that the goal allows; None where no other was timed.
        baseline: `predict_on_batch`, of 32 rows as a rule; None where the record has none, or
            where it is the recommendation.
        advantage: By how much the recommendation was ahead of the baseline in rows per second,
            in the rounds of the fresh measurement; None where they met in less than three.
        value: What the goal's objective says of a measurement; more is better.
    """

    recommended: Candidate
    runner_up: Candidate | None
    baseline: Candidate | None
    advantage: Gap | None
    value: Value

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All that are to be timed."""
        every = self.recommended, self.runner_up, self.baseline
        return tuple(candidate for candidate in every if candidate is not None)


def claim_of(record: TuningRecord) -> Claim:
    """Read a claim from a record that has a recommendation."""
    assert record.recommendation is not None  # noqa: S101  a tuned folder's record has one
    recommended = record.recommendation.candidate
    standing = Standing(record.goal, record.memory_limit_bytes, list(record.blocks()))
    baseline = _baseline(record, recommended)
    curve = curve_of(standing.measured)
    return Claim(
        recommended,
        _runner_up(standing, recommended),
        baseline,
        _advantage(record, recommended, baseline) if baseline else None,
        lambda measurement: value_of(measurement, record.goal, curve),
    )


def _runner_up(standing: Standing, recommended: Candidate) -> Candidate | None:
    """The best candidate of another lane, or of a clearly other size.

    If luck made it the best of those, that is no harm: it is measured anew.
    """
    others = [c for c in standing.allowed if _is_apart(c, recommended)]
    return max(others, key=lambda c: standing.levels[c], default=None)


def _is_apart(one: Candidate, other: Candidate) -> bool:
    small, large = sorted((one.batch_size, other.batch_size))
    return lane_of(one) != lane_of(other) or large >= APART * small


def _baseline(record: TuningRecord, recommended: Candidate) -> Candidate | None:
    found = (b.candidate for b in record.baselines if b.candidate.engine == REFERENCE)
    return next((candidate for candidate in found if candidate != recommended), None)


def _advantage(record: TuningRecord, recommended: Candidate, baseline: Candidate) -> Gap | None:
    rounds: dict[int, dict[Candidate, Measurement]] = {}
    for block in record.blocks():
        if block.purpose == "confirm" and isinstance(block.outcome, Measurement):
            rounds.setdefault(block.round, {})[block.outcome.candidate] = block.outcome
    met = sum(recommended in row and baseline in row for row in rounds.values())
    return fit_of(list(rounds.values())).gap(recommended, baseline) if met >= ENOUGH else None
