"""`tune`: model and sample in, tuned predictor out. The room to read first.

A model is opened in a child process, tried there at one batch size after another, and judged
here; this process loads no framework unless it has one already.
"""

from __future__ import annotations

import contextlib
import datetime
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec

from autotune.driver import Strategy
from autotune.engines import BASELINE, REDUCIBLE, REFERENCE
from autotune.engines import NAMES as ENGINES
from autotune.errors import (
    EngineUnavailable,
    InvalidInput,
    NoFeasibleBatchSize,
)
from autotune.goal import MOST_ROWS_PER_SECOND, Goal
from autotune.guard import PROCESS_PER_ALLOCATED
from autotune.judging import Lane
from autotune.nesting import Nested
from autotune.outcomes import Candidate
from autotune.predictor import TunedPredictor
from autotune.preparation import Isolation, Precision, Wish, make_ready, rows_of
from autotune.records import Loaded, Progress, TuningRecord
from autotune.rehearsals import rehearsals_of
from autotune.searching import check_arguments, search
from autotune.studies import bind
from autotune.subjects import subject_of
from autotune.units import format_bytes
from autotune.ways import lanes_of
from autotune.workload import Synthetic

if TYPE_CHECKING:
    import keras
    import optuna

    from autotune.models import ModelFactory, ModelFile

LESS = 0.9  # of the memory that there was at first: that much less is worth a word
# What the answer is compared with: how people run a model who have not tuned it.
BASELINES = (Candidate(32, REFERENCE), Candidate(1024, BASELINE))


def tune(
    model: keras.Model | str | Path | ModelFile | ModelFactory,
    sample: Nested | Synthetic,
    goal: Goal = MOST_ROWS_PER_SECOND,
    *,
    engines: Sequence[str] | None = None,
    concurrency: Sequence[int] | None = None,
    budget_s: float = 60.0,
    isolation: Isolation = "process",
    study: optuna.Study | None = None,
    strategy: Strategy = "ladder",
    seed: int = 0,
    on_event: Callable[[Progress], None] | None = None,
    precision: Precision | None = None,
) -> TunedPredictor:
    """Find the batch size, engine and concurrency that serve a goal best for one model here.

    Args:
        model: A Keras model, a path to a `.keras` file, or "package.module:function" that
            makes the model.
        sample: Rows that stand for production input: an array of shape `(rows, ...)`, or a
            dict, list or tuple of such arrays; `Synthetic()` draws rows from the model's inputs.
        goal: What to maximise, and under which limits; by default the most rows per second.
        engines: Engines to try; None for all that can run the model here.
        concurrency: Numbers of batches in flight to try; None for powers of two up to the
            processors that this process may use, by its affinity and CPU quota, at most 4, and
            for 1, 2 and 3 on two. Several share the processors out, where their threads can be
            set.
        budget_s: Seconds for probing. Loading the model comes on top, and for a tenth of it, with
            what engines take to begin with a size, requests that are served with the answer, from
            which `plan_capacity` reckons.
        isolation: "process" probes in a child, whose death harms nobody, and which is forked
            from a process that has the backend imported where that is safe; "spawn" never forks;
            "none" probes in this process.
        study: An Optuna study to write to and go on from; see `open_study`.
        strategy: "ladder", or "sampler" for the study's own sampler.
        seed: Seed of the search.
        on_event: Called before and after each probe.
        precision: "bfloat16" lets engines that can (OpenVINO) compute
            in it: answers differ by up to some percent. None for the model's own.

    Returns:
        A predictor that follows the recommendation.

    Raises:
        InvalidModel: The model cannot be opened, or cannot be cut into batches.
        InvalidSample: The rows do not fit the model.
        NoFeasibleBatchSize: No candidate is within the goal's limits.
        ProbeFailed: The child process could not load the model.
    """
    _check(engines, isolation, precision, seed)
    check_arguments(engines or ENGINES, concurrency or (1,), budget_s, strategy)
    rows = rows_of(sample)
    subject = subject_of(model)
    with contextlib.ExitStack() as stack:
        shelf = stack.enter_context(contextlib.ExitStack())
        exports = Path(shelf.enter_context(tempfile.TemporaryDirectory(prefix="autotune-")))
        wish = Wish(engines, precision or "", seed, exports)
        probe, loaded = make_ready(stack, subject, rows, isolation, wish)
        lanes = lanes_of(loaded, concurrency)
        if not lanes:
            raise EngineUnavailable(" ".join(loaded.unavailable.values()))
        if study is not None:
            bind(study, _subject_matter(loaded, goal, lanes, wish.precision))
        try:
            record = search(
                probe,
                goal,
                lanes=lanes,
                budget_s=budget_s,
                memory_limit_bytes=_memory_limit(goal, loaded),
                study=study,
                strategy=strategy,
                seed=seed,
                on_event=on_event,
                baselines=BASELINES,
            )
        except NoFeasibleBatchSize as error:
            if error.record:
                error.record = _complete(error.record, loaded, sample, wish.precision)
            raise
        record = _complete(record, loaded, sample, wish.precision)
        if record.recommendation:
            rehearsals = rehearsals_of(probe, record, budget_s)
            record = msgspec.structs.replace(record, rehearsals=rehearsals)
        predictor = TunedPredictor(record, subject.open, subject.put, exports)
        weakref.finalize(predictor, shelf.pop_all().close)  # the folder goes with it
        return predictor


def _check(engines: Sequence[str] | None, isolation: str, precision: str | None, seed: int) -> None:
    if isinstance(engines, str):
        raise InvalidInput(f"engines must be a sequence of names, but got {engines!r}.")
    unknown = [name for name in engines or () if name not in ENGINES]
    if unknown:
        raise EngineUnavailable(
            f"There is no engine {unknown[0]!r}; there are: {', '.join(ENGINES)}."
        )
    if isolation not in get_args(Isolation):
        known = ", ".join(get_args(Isolation))
        raise InvalidInput(f"isolation must be one of {known}, but got {isolation!r}.")
    if precision not in (None, *get_args(Precision)):
        known = ", ".join(get_args(Precision))
        raise InvalidInput(f"precision must be {known} or None, but got {precision!r}.")
    if seed < 0:  # NumPy takes no other
        raise InvalidInput(f"seed must be a whole number of at least 0, but got {seed!r}.")


def _subject_matter(
    loaded: Loaded, goal: Goal, lanes: Sequence[Lane], precision: str
) -> dict[str, str]:
    """What all trials of one study must have in common."""
    return {
        "model": loaded.model.sha256,
        "sample": f"{loaded.sample_rows} rows of {loaded.model.inputs}",
        "goal": msgspec.json.encode(goal).decode(),
        "device": loaded.machine.device,
        "engines": " ".join(dict.fromkeys(engine for engine, _, _ in lanes)),
        "concurrency": " ".join(map(str, dict.fromkeys(flights for _, flights, _ in lanes))),
        "precision": precision or "the model's own",
    }


def _memory_limit(goal: Goal, loaded: Loaded) -> int | None:
    """What the peaks of candidates are held against, in bytes; None where nothing is known.

    On a GPU the goal's budget is for what the allocator counts, on a CPU for the whole process.
    """
    budget = goal.memory_budget_bytes
    if budget and loaded.machine.device_kind == "cpu" and loaded.counts_device_peaks:
        budget = int((budget - loaded.resident_bytes) / PROCESS_PER_ALLOCATED)
    limits = [limit for limit in (budget, loaded.memory_limit_bytes) if limit is not None]
    if limits and min(limits) <= 0:
        raise NoFeasibleBatchSize(
            f"No batch size fits: the process with the model takes "
            f"{format_bytes(loaded.resident_bytes)} before the first batch, and no more than "
            f"{format_bytes(goal.memory_budget_bytes or loaded.resident_bytes)} may be used. "
            "Raise the memory budget, or free memory."
        )
    return min(limits, default=None)


def _complete(
    record: TuningRecord, loaded: Loaded, sample: Nested | Synthetic, precision: str
) -> TuningRecord:
    """Add what the search cannot know: model, machine, date, warnings."""
    warnings = [*loaded.warnings, *_memory_taken(record, loaded)]
    if precision and not set(REDUCIBLE) & set(loaded.engines):
        warnings.append(f"No engine here computes in {precision}: {', '.join(REDUCIBLE)} would.")
    if isinstance(sample, Synthetic):
        warnings.append(
            "The rows were drawn at random: speed can depend on the values, so tune with real rows "
            "when you have them."
        )
    return msgspec.structs.replace(
        record,
        model=loaded.model,
        machine=loaded.machine,
        sample_rows=loaded.sample_rows,
        unavailable=loaded.unavailable,
        precision=precision,
        warnings=tuple(warnings),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _memory_taken(record: TuningRecord, loaded: Loaded) -> list[str]:
    """Say so where so much memory was taken that less was tried."""
    limits = [o.memory_limit_bytes for o in record.outcomes if o.memory_limit_bytes is not None]
    first = loaded.memory_limit_bytes
    if first is None or not limits or min(limits) > LESS * first:
        return []
    return [
        f"Memory was taken during the search, by other processes or the engines' sessions: at "
        f"first {format_bytes(first)} could be used, later {format_bytes(min(limits))}. The answer "
        "fits beside them."
    ]
