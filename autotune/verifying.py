"""`verify`: does the recommendation of a tuned folder still hold, on this machine, now?

A new driver, another TensorFlow or another machine may have made something else the best. Rows per
second of then and of now cannot be compared, since a machine drifts by more than what is asked
for; ratios of what was timed side by side can. So two are taken anew: the recommendation over
`predict_on_batch`, and the best of the others over the recommendation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from os import PathLike

import msgspec
from msgspec import Struct

from autotune import artifact
from autotune.claims import claim_of
from autotune.contest import Contender, Contest, Ratio, check_terms
from autotune.entrants import Opening, enter_tuned
from autotune.intervals import Speed
from autotune.judging import merged
from autotune.nesting import Nested
from autotune.outcomes import Candidate, Probe
from autotune.records import Progress, TuningRecord
from autotune.trial import Trial, Verdict
from autotune.workload import Synthetic


class Verification(Struct, frozen=True, kw_only=True):
    """What became of a recommendation.

    Attributes:
        verdict: "same" or "faster" where it holds; "slower" where it lost its advantage, is no
            longer the best, or exceeds its latency budget; "fails" where it does not run here;
            "undecided" where the budget ended first.
        reason: The verdict in words.
        recommendation: What was recommended.
        runner_up: The best other candidate of the record; None where there is none.
        baseline: `predict_on_batch` as the record has it, as a rule of 32 rows; None where it
            has none.
        advantage: Rows per second of the recommendation over the baseline's, now.
        recorded_advantage: The same as it was measured after tuning.
        runner_up_lead: The runner-up over the recommendation by the goal's objective, now.
        speed: Rows per second of the recommendation, now; None where it was not timed.
        recorded_rows_per_s: What the record says. It cannot be held against it: machines drift.
        latency_s: Median seconds of a batch, now.
        tolerance: A smaller change, as a share, is none.
        rounds: How many rounds were timed.
        spent_s: Seconds that the probes took.
        differences: What differs here from the conditions of the tuning.
        warnings: What a reader should know before trusting the figures.
    """

    verdict: Verdict
    reason: str
    recommendation: Candidate
    runner_up: Candidate | None
    baseline: Candidate | None
    advantage: Ratio | None
    recorded_advantage: Ratio | None
    runner_up_lead: Ratio | None
    speed: Speed | None
    recorded_rows_per_s: float
    latency_s: float | None
    tolerance: float
    rounds: int
    spent_s: float
    differences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def verify(
    path: str | PathLike[str],
    sample: Nested | Synthetic | None = None,
    *,
    budget_s: float = 20.0,
    tolerance: float = 0.05,
    seed: int = 0,
    imports: Sequence[str] = (),
    unsafe: bool = False,
    on_event: Callable[[Progress], None] | None = None,
) -> Verification:
    """Measure again, briefly, whether a tuned folder's recommendation holds on this machine now.

    The recommendation, its runner-up and `predict_on_batch` are timed side by side in a child.
    Of a folder that holds tunings of several devices the one for this device is verified. The
    folder is not changed.

    Args:
        path: A folder that `TunedPredictor.save` wrote.
        sample: Rows that stand for production input, as for `tune`; None to draw them.
        budget_s: Seconds for probing; loading the model comes on top.
        tolerance: How much of its advantage may be lost, and by how much the runner-up may be
            ahead, as a share.
        seed: Seed for the order of probes, and for drawn rows.
        imports: Modules that define the model's own classes.
        unsafe: Allow Python code in the model (Lambda layers). Only for folders you trust.
        on_event: Called before and after each probe.

    Returns:
        The verdict, with all that it follows from.

    Raises:
        InvalidRecord: The folder is damaged, changed, or of a newer format.
        InvalidModel: The model cannot be opened.
        InvalidSample: The rows do not fit the model, or cannot be drawn.
        ProbeFailed: The child process could not load the model.
    """
    check_terms(budget_s, tolerance)
    tuned = artifact.read(path)
    opening = Opening(imports, unsafe, seed)
    with contextlib.ExitStack() as stack:
        entrant = enter_tuned(stack, tuned, sample, opening, _engines_of)
        assert entrant.record is not None  # noqa: S101  it is a tuned folder's
        found = measure_again(
            entrant.record,
            entrant.probe,
            budget_s=budget_s,
            tolerance=tolerance,
            seed=seed,
            on_event=on_event,
        )
    warnings = (*found.warnings, *entrant.warnings)
    return msgspec.structs.replace(found, differences=entrant.differences, warnings=warnings)


def _engines_of(record: TuningRecord) -> list[str]:
    return [candidate.engine for candidate in claim_of(record).candidates]


def measure_again(
    record: TuningRecord,
    probe: Probe,
    *,
    budget_s: float,
    tolerance: float,
    seed: int = 0,
    on_event: Callable[[Progress], None] | None = None,
) -> Verification:
    """Hold a record against what a probe measures now; `verify` with the loading left out."""
    claim = claim_of(record)
    contenders = {candidate: Contender(probe, candidate) for candidate in claim.candidates}
    contest = Contest(contenders, budget_s=budget_s, seed=seed, on_event=on_event)
    trial = Trial(claim, record.goal, contest, tolerance)
    contest.run(trial.is_settled)
    assert record.recommendation is not None  # noqa: S101  claim_of needs one
    chosen, blocks = claim.recommended, contest.measured(claim.recommended)
    return Verification(
        verdict=trial.verdict(),
        reason=trial.reason(),
        recommendation=chosen,
        runner_up=claim.runner_up,
        baseline=claim.baseline,
        advantage=Ratio.of(trial.advantage),
        recorded_advantage=Ratio.of(claim.advantage),
        runner_up_lead=Ratio.of(trial.lead),
        speed=contest.speed(chosen),
        recorded_rows_per_s=record.recommendation.rows_per_s,
        latency_s=merged(blocks).latency_s if blocks else None,
        tolerance=tolerance,
        rounds=len(contest.rounds),
        spent_s=contest.spent_s,
        warnings=tuple(trial.warnings()),
    )
