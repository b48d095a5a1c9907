"""`compare`: which of two is faster, and by how much, timed in turn on this machine.

Each is a tuned folder, run as it recommends, or a model, run through `predict_on_batch`. Each has
a child of its own, and their short blocks alternate in random order, so that what slows the
machine down slows both.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct

from autotune import artifact
from autotune.comparing import Gap
from autotune.contest import LEAST_ROUNDS, Contender, Contest, Ratio, check_terms
from autotune.engines import REFERENCE
from autotune.entrants import Entrant, Opening, enter_model, enter_tuned
from autotune.errors import InvalidInput, InvalidSample
from autotune.intervals import Speed
from autotune.models import ModelFile
from autotune.nesting import Nested
from autotune.outcomes import Candidate
from autotune.records import Progress, TuningRecord
from autotune.subjects import Subject, subject_of
from autotune.workload import Synthetic

if TYPE_CHECKING:
    import keras

    from autotune.models import ModelFactory

    Model: TypeAlias = keras.Model | str | Path | ModelFile | ModelFactory
    Rows: TypeAlias = Nested | Synthetic | None

Winner = Literal["A faster", "B faster", "same", "undecided"]
Verdict = Literal[Winner, "fails"]


class Side(Struct, frozen=True, kw_only=True):
    """One of the two.

    Attributes:
        name: The folder, the file or the function that it comes from.
        candidate: How it was run.
        speed: Rows per second; None where it was not timed.
    """

    name: str
    candidate: Candidate
    speed: Speed | None


class Comparison(Struct, frozen=True, kw_only=True):
    """What came of comparing two.

    Attributes:
        verdict: "A faster" or "B faster" by more than the tolerance; "same" within it;
            "undecided" where the budget ended first; each at 95 %. "fails" where one of them does
            not run here.
        reason: The verdict in words.
        a: The one.
        b: The other.
        ratio: Rows per second of B over those of A; None where one was not timed.
        tolerance: A smaller difference, as a share, is none.
        rounds: How many rounds were timed.
        spent_s: Seconds that the probes took.
        warnings: What a reader should know before trusting the figures.
    """

    verdict: Verdict
    reason: str
    a: Side
    b: Side
    ratio: Ratio | None
    tolerance: float
    rounds: int
    spent_s: float
    warnings: tuple[str, ...] = ()


def compare(
    a: Model,
    b: Model,
    sample: Rows = None,
    sample_b: Rows = None,
    *,
    batch_size: int = 32,
    budget_s: float = 30.0,
    tolerance: float = 0.02,
    seed: int = 0,
    imports: Sequence[str] = (),
    unsafe: bool = False,
    on_event: Callable[[Progress], None] | None = None,
) -> Comparison:
    """Tell which of two serves more rows per second on this machine, and by how much.

    Args:
        a: A tuned folder, or a model as for `tune`.
        b: The other; it may be the same.
        sample: Rows that stand for production input, for both; None to draw them.
        sample_b: Rows for B, where it needs others than A.
        batch_size: Rows in a batch of a model that is not tuned.
        budget_s: Seconds for probing; loading the models comes on top.
        tolerance: A difference that counts, as a share.
        seed: Seed for the order of probes, and for drawn rows.
        imports: Modules that define the models' own classes.
        unsafe: Allow Python code in the models (Lambda layers). Only for files you trust.
        on_event: Called before and after each probe.

    Returns:
        The verdict, and the ratio with its 95 % interval.

    Raises:
        InvalidInput: An argument is out of range.
        InvalidRecord: A folder is no tuned folder, damaged, changed, or of a newer format.
        InvalidModel: A model cannot be opened, or cannot be cut into batches.
        InvalidSample: The rows do not fit a model.
        ProbeFailed: A child process could not load its model.
    """
    check_terms(budget_s, tolerance)
    plain, opening = Candidate(batch_size), Opening(imports, unsafe, seed)
    # Both, before anything slow begins.
    one, other = _look_at("A", a, opening), _look_at("B", b, opening)
    with contextlib.ExitStack() as stack:
        first = _enter(stack, "A", one, sample, opening)
        rows = sample if sample_b is None else sample_b
        second = _enter(stack, "B", other, rows, opening)
        return decide(
            (first, _way_of(first.record) or plain),
            (second, _way_of(second.record) or plain),
            budget_s=budget_s,
            tolerance=tolerance,
            seed=seed,
            on_event=on_event,
        )


def _look_at(side: str, model: Model, opening: Opening) -> artifact.Tuned | Subject:
    try:
        if isinstance(model, (str, Path)) and Path(model).is_dir():
            return artifact.read(model)
        if isinstance(model, (str, Path)) and (Path(model).exists() or ":" not in str(model)):
            model = ModelFile(str(model), tuple(opening.imports), opening.unsafe)
        return subject_of(model)
    except InvalidInput as error:
        raise type(error)(f"{side}: {error}") from error


def _enter(
    stack: contextlib.ExitStack,
    side: str,
    model: artifact.Tuned | Subject,
    rows: Rows,
    opening: Opening,
) -> Entrant:
    try:
        if isinstance(model, artifact.Tuned):
            return enter_tuned(stack, model, rows, opening, _engines_of)
        return enter_model(stack, model, rows, opening)
    except InvalidInput as error:
        mend = side == "B" and isinstance(error, InvalidSample)
        hint = " Give rows of its own to B (sample_b, --sample-b)." if mend else ""
        raise type(error)(f"{side}: {error}{hint}") from error


def _way_of(record: TuningRecord | None) -> Candidate | None:
    """How a tuned folder's record recommends to run it."""
    return record.recommendation.candidate if record and record.recommendation else None


def _engines_of(record: TuningRecord) -> tuple[str]:
    way = _way_of(record)
    return (way.engine if way else REFERENCE,)


def decide(
    a: tuple[Entrant, Candidate],
    b: tuple[Entrant, Candidate],
    *,
    budget_s: float,
    tolerance: float,
    seed: int = 0,
    on_event: Callable[[Progress], None] | None = None,
) -> Comparison:
    """Time two entrants until it is settled; `compare` with the loading left out."""
    sides = {"A": a, "B": b}
    contenders = {name: Contender(entrant.probe, way) for name, (entrant, way) in sides.items()}
    contest = Contest(contenders, budget_s=budget_s, seed=seed, on_event=on_event)
    contest.run(lambda: _judge(contest, tolerance) != "undecided")
    verdict = _judge(contest, tolerance)
    return Comparison(
        verdict=verdict,
        reason=_reason(contest, verdict, tolerance),
        a=Side(name=a[0].name, candidate=a[1], speed=contest.speed("A")),
        b=Side(name=b[0].name, candidate=b[1], speed=contest.speed("B")),
        ratio=Ratio.of(contest.gap("B", "A")),
        tolerance=tolerance,
        rounds=len(contest.rounds),
        spent_s=contest.spent_s,
        warnings=tuple(dict.fromkeys((*contest.warnings(), *_notes(sides)))),
    )


def _judge(contest: Contest[str], tolerance: float) -> Verdict:
    if contest.failures:
        return "fails"
    gap = contest.gap("B", "A")
    if gap is None or contest.calm_rounds < LEAST_ROUNDS:
        return "undecided"
    return winner(gap, tolerance)


def winner(gap: Gap, tolerance: float) -> Winner:
    """Say who is faster by more than the tolerance, where all of the interval says so.

    Example:
        >>> [winner(Gap(ahead, 0.01), 0.02) for ahead in (-0.1, 0.0, 0.025, 0.1)]
        ['A faster', 'same', 'undecided', 'B faster']
    """
    band = -math.log1p(-tolerance)
    if gap.low > band:
        return "B faster"
    if gap.high < -band:
        return "A faster"
    return "same" if -band <= gap.low and gap.high <= band else "undecided"


def _reason(contest: Contest[str], verdict: Verdict, tolerance: float) -> str:
    share = f"{100 * tolerance:g}%"
    if contest.failures:
        return " ".join(f"{side} does not run: {why}" for side, why in contest.failures.items())
    gap = contest.gap("B", "A")
    if gap is None:
        return "Undecided: the budget ended before both were timed."
    times = math.exp(abs(gap.log_ratio))
    match verdict:
        case "same":
            return f"A and B are equally fast, to within {share}."
        case "undecided":
            return (
                f"Undecided after {contest.calm_rounds} rounds: they may differ by more than "
                f"{share} or not. More time (a larger budget) or a quieter machine would tell."
            )
    return f"{verdict[0]} is {times:.2f} times as fast as {'B' if verdict[0] == 'A' else 'A'}."


def _notes(sides: dict[str, tuple[Entrant, Candidate]]) -> list[str]:
    notes = []
    for side, (entrant, _) in sides.items():
        if entrant.differences:
            found = "; ".join(entrant.differences)
            notes.append(f"{side} was tuned under other conditions: {found}.")
        notes += entrant.warnings
    return notes
