"""Entrants: what is to be timed beside something else, a tuned folder or a model, in a child."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autotune import fingerprint
from autotune.artifact import Tuned
from autotune.engines import REFERENCE
from autotune.errors import InvalidSample
from autotune.models import ModelFile
from autotune.nesting import Nested
from autotune.outcomes import Candidate, Measurement, Outcome, OutOfMemory, Probe
from autotune.preparation import Wish, make_ready, rows_of
from autotune.records import Loaded, TuningRecord
from autotune.subjects import Subject, subject_of
from autotune.units import format_bytes
from autotune.workload import Synthetic

DRAWN = (
    "The rows were drawn at random: speed can depend on the values, so give real rows when you "
    "have them."
)


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model that is loaded in a child, ready to be timed.

    Attributes:
        name: The folder, the file or the function that it comes from.
        probe: Times its candidates.
        record: The tuning of it that suits this machine; None for a model that is not tuned.
        differences: What differs here from the conditions that it was tuned under.
        warnings: What a reader should know before trusting the figures.
    """

    name: str
    probe: Probe
    record: TuningRecord | None = None
    differences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opening:
    """How models are opened.

    Attributes:
        imports: Modules that define the models' own classes.
        unsafe: Allow Python code in the models. Only for files you trust.
        seed: Seed for drawn rows.
    """

    imports: Sequence[str] = ()
    unsafe: bool = False
    seed: int = 0


def enter_model(
    stack: contextlib.ExitStack,
    subject: Subject,
    sample: Nested | Synthetic | None,
    opening: Opening,
) -> Entrant:
    """Have a model loaded that is to be run through `predict_on_batch`.

    Args:
        stack: Ends the child.
        subject: The model.
        sample: Rows that stand for production input, or how to draw them; None to draw them.
        opening: How to open it.
    """
    rows = Synthetic() if sample is None else sample
    probe, loaded = _load(stack, subject, rows, (REFERENCE,), opening)
    return Entrant(subject.name, probe, warnings=_warnings(loaded, rows))


def enter_tuned(
    stack: contextlib.ExitStack,
    tuned: Tuned,
    sample: Nested | Synthetic | None,
    opening: Opening,
    engines_of: Callable[[TuningRecord], Sequence[str]],
) -> Entrant:
    """Have a tuned folder loaded as production loads it: its exported model is taken as it is.

    Args:
        stack: Ends the child.
        tuned: What was read of the folder.
        sample: Rows that stand for production input, or how to draw them; None to draw them
            like the record's inputs.
        opening: How to open the model.
        engines_of: Which engines of a record are to be timed.
    """
    record, exported = tuned.record, [tuned.folder.absolute() / form for form in tuned.formats]
    while True:
        inner = stack.enter_context(contextlib.ExitStack())
        rows = _like(record) if sample is None else sample
        subject = subject_of(_model_of(tuned, record, opening))
        names = engines_of(record)
        probe, loaded = _load(
            inner, subject, rows, names, opening, exported=exported, precision=record.precision
        )
        for_here = tuned.record_for(loaded.machine, loaded.model.backend)
        if for_here is record:
            break
        inner.close()  # the latest tuning was made elsewhere, and this machine has its own
        record = for_here
    return Entrant(
        str(tuned.folder),
        _within_memory(probe, record, loaded.memory_limit_bytes),
        record,
        fingerprint.differences(record, loaded.machine, loaded.model),
        _warnings(loaded, rows),
    )


def _model_of(tuned: Tuned, record: TuningRecord, opening: Opening) -> ModelFile:
    jit_compile = record.model.jit_compile if record.model else None
    return ModelFile(str(tuned.model), tuple(opening.imports), opening.unsafe, jit_compile)


def _like(record: TuningRecord) -> Synthetic:
    """How to draw rows like those of a record.

    Raises:
        InvalidSample: The record does not tell the shape of a row.
    """
    inputs = record.model.inputs if record.model else ()
    free = next((one for one in inputs if None in one.shape), None)
    if free is not None:
        raise InvalidSample(
            f"Input {free.name!r} has free axes, {(None, *free.shape)}, and the record does not "
            "tell how long they were: give rows (--sample)."
        )
    shapes = {one.name: tuple(n for n in one.shape if n is not None) for one in inputs}
    return Synthetic(shapes=shapes)


def _load(
    stack: contextlib.ExitStack,
    subject: Subject,
    sample: Nested | Synthetic,
    names: Sequence[str],
    opening: Opening,
    *,
    exported: Sequence[Path] = (),
    precision: str = "",
) -> tuple[Probe, Loaded]:
    exports = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autotune-")))
    for folder in exported:  # not the folder above: what is exported besides must not go there
        (exports / folder.name).symlink_to(folder, target_is_directory=True)
    wish = Wish(tuple(dict.fromkeys(names)), precision, opening.seed, exports)
    return make_ready(stack, subject, rows_of(sample), "process", wish)


def _warnings(loaded: Loaded, rows: Nested | Synthetic) -> tuple[str, ...]:
    return (*loaded.warnings, *([DRAWN] if isinstance(rows, Synthetic) else []))


def _within_memory(probe: Probe, record: TuningRecord, limit_bytes: int | None) -> Probe:
    """A probe that does not try what took more memory in the record than there is here."""
    peaks: dict[Candidate, int] = {}
    for outcome in record.outcomes:
        if isinstance(outcome, Measurement) and outcome.peak_bytes is not None:
            before = peaks.get(outcome.candidate, 0)
            peaks[outcome.candidate] = max(before, outcome.peak_bytes)

    def admit(candidate: Candidate, seconds: float) -> Outcome:
        peak = peaks.get(candidate, 0)
        if limit_bytes is None or peak <= limit_bytes:
            return probe(candidate, seconds)
        took, allowed = format_bytes(peak), format_bytes(limit_bytes)
        message = f"It took {took} when it was tuned, and {allowed} may be used here now."
        return OutOfMemory(candidate, message=message)

    return admit
