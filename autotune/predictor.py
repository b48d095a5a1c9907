"""The tuned predictor: any number of rows through the recommended engine and batch size."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from autotune import artifact, mapped
from autotune.crew import Crew
from autotune.cutting import Cutter, Part
from autotune.fitting import Allowance
from autotune.gathering import Done, check_rows, collect, collect_all
from autotune.intake import is_source, pieces, rebatch
from autotune.nesting import Nested, are_few, join
from autotune.pace import Pace
from autotune.records import Recommendation, TuningRecord
from autotune.runner import Runner
from autotune.runners import Ready, Runners, glance
from autotune.sources import KerasSource, Source
from autotune.stats import Counters, Stats
from autotune.terminal import count_rows_done

if TYPE_CHECKING:
    import keras

_log = logging.getLogger("autotune")

LOOK_EVERY_S = 1.0  # at the memory that is free
MOST_PLANS = 4096  # that are kept
MOST_BATCHES = 64  # whose spans are kept: for those of more there is time to find them again

# What runs rows of one shape, in which batches (none where that is to be found again), and whether
# it is known that they have few outputs.
Plan = tuple[Runner, Sequence[slice], bool]


class TunedPredictor:
    """Predicts as `model.predict` does, the way that was measured to be best.

    Made by `tune` and `load`. Any number of threads may use it at once. The model is opened with
    the first prediction.

    Args:
        record: The tuning run.
        source: Opens the model, or makes what runs batches of it.
        put_model: Writes the model to a path, as `.keras`.
        exports: A folder with what was exported of the model, which is saved with it.
    """

    def __init__(
        self,
        record: TuningRecord,
        source: Source | Callable[[], keras.Model],
        put_model: Callable[[Path], object],
        exports: Path | None = None,
    ) -> None:
        assert record.recommendation is not None  # noqa: S101  search has set it
        self._crew = Crew()
        self._record = record
        if callable(source):
            source = KerasSource(source, exports, record.precision)
        self._source = source
        self._put_model = put_model
        self._exports = exports
        self._counters = Counters()
        self._runners: Runners | None = None
        self._lock = threading.RLock()
        self._allowance: Allowance | None = None
        self._look_after = 0.0
        self._plans: dict[Hashable, Plan] = {}
        self._calls: list[None] = []  # in flight; a list, for that is counted without a lock
        self._go_by(record.recommendation)

    def _go_by(self, recommendation: Recommendation) -> None:
        way = recommendation.candidate
        self._recommendation = recommendation
        self._pace = Pace(way.batch_size)
        self._cutter = Cutter(way, self._record.outcomes, self._pace)

    def __repr__(self) -> str:
        return f"TunedPredictor({self._recommendation.candidate})"

    @property
    def strict(self) -> bool:
        """Whether running out of memory is an error; False at first.

        By default the batch size steps down, the rows are run again in smaller batches, and it
        steps up later; see `stats`.
        """
        return self._crew.strict

    @strict.setter
    def strict(self, strict: bool) -> None:
        self._crew.strict = strict

    @property
    def recommendation(self) -> Recommendation:
        """The recommendation that this predictor follows."""
        return self._recommendation

    @property
    def record(self) -> TuningRecord:
        """The whole tuning run."""
        return self._record

    @property
    def stats(self) -> Stats:
        """What it has done so far, and how large batches may be now."""
        return self._counters.stats(self._pace)

    @property
    def model(self) -> keras.Model:
        """The Keras model; opened when first asked for."""
        self.open()
        return self._source.model

    def open(self) -> Runners:
        """Open what runs batches, unless that is done; the first prediction does it otherwise.

        Where the tuned engine is not installed, or its threads cannot be set in this process any
        more, the best of what was measured without is taken, with a warning.
        """
        with self._lock:
            if self._runners is None:
                self._take_what_there_is()
                way = self._recommendation.candidate
                runners = Runners(self._source, way, self._pace, self._counters)
                followed = msgspec.structs.replace(
                    self._record, recommendation=self._recommendation
                )
                self._allowance = Allowance(followed, self._source.look_around().device)
                self._runners = runners
            return self._runners

    def _take_what_there_is(self) -> None:
        why = self._source.why_not(self._recommendation.candidate)
        if why:
            from autotune.fallback import recommendation_among

            usable = recommendation_among(self._record, lambda way: not self._source.why_not(way))
            self._go_by(usable)
            _log.warning("%s Running %s in its place.", why, usable.candidate)

    def __call__(self, x: Any) -> Nested:
        """Same as `predict`."""
        return self.predict(x)

    def predict(self, x: Any, *, out: Nested = None, progress: bool = False) -> Nested:
        """Return the model's outputs for any number of rows, 0 included.

        Args:
            x: Rows: an array of shape `(rows, ...)` or a tensor of TensorFlow, JAX or PyTorch;
                nested arrays as the model takes them; a pandas or pyarrow table whose columns
                are its inputs; or what gives such rows piece by piece: a generator, a
                `tf.data.Dataset`, a `DataLoader`. Each piece is an array of its own, not one
                that is filled again: with several batches in flight some are taken ahead.
            out: Arrays of shape `(rows, ...)` to write the outputs to, such as a `numpy.memmap`;
                by default new ones.
            progress: Show a bar on standard error.

        Returns:
            NumPy arrays of shape `(rows, ...)`, nested as `model.predict` gives them; `out`
            where that was given.

        Raises:
            InvalidSample: The rows do not fit the model, before any of them is run; or the outputs
                do not fit `out`, or batches have outputs of different shapes.
        """
        self._calls.append(None)
        try:
            return self._predict(x, out, progress, alone=len(self._calls) == 1)
        finally:
            self._calls.pop()

    def _predict(self, x: Any, out: Nested, progress: bool, *, alone: bool) -> Nested:
        """Predict, with no other call in flight or beside some; the usual cases first."""
        if out is None and not progress and self._pace.at_ease:
            plan = self._plans.get(_shapes(x))
            if plan is not None:
                return self._follow(plan, x)
        if is_source(x):
            return self._predict_source(x, out, progress)
        arrays, rows, runner = self._ready(x)
        check_rows(out, rows)
        if out is None and not progress and rows:
            spans = self._cutter.split(rows, runner, alone=alone)
            if self._is_short(runner, spans, arrays):
                whenever = alone or len(self._cutter.split(rows, runner)) == len(spans)
                usual = whenever and self._pace.at_ease and self._needs_no_look(x)
                outputs = self._follow((runner, spans, False), arrays)
                if usual:
                    kept = spans if len(spans) <= MOST_BATCHES else ()
                    self._keep((runner, kept, are_few(outputs)), x)
                return outputs
        self._look_at_memory()
        parts = self._cutter.cut(arrays, rows, runner, alone=alone)
        flights = self._recommendation.concurrency
        if out is None and not progress and rows and flights > 1:
            outputs = self._crew.run_whole(parts, rows, flights)
        else:
            done = self._run(parts)
            outputs = collect(count_rows_done(done, rows) if progress else done, rows, out)
        self._counters.answered(rows)
        return outputs

    def _is_short(self, runner: Runner, spans: Sequence[slice], x: Nested) -> bool:
        """Whether nothing needs to be arranged: one batch, or arrays run batch after batch."""
        if len(spans) == 1:
            return True
        in_turn = runner.is_plain and self._recommendation.concurrency == 1 and self._pace.at_ease
        return in_turn and isinstance(x, np.ndarray) and not mapped.is_mapped(x)

    def _keep(self, plan: Plan, x: Nested) -> None:
        """Remember the way for arrays of these shapes."""
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
        self._plans[_shapes(x)] = plan

    def _follow(self, plan: Plan, x: Nested) -> Nested:
        """Run rows the way that was found for such; the usual case, with nothing left to ask."""
        runner, spans, few = plan
        strict = self._crew.strict
        if len(spans) == 1:
            rows = spans[0].stop
            outputs = runner.run(x, rows, strict=strict)
            self._counters.answered(rows)
            return outputs
        if not spans or time.monotonic() > self._look_after:
            self._look_at_memory()
            spans = self._cutter.split(len(x), runner)
        if few:
            outputs = runner.run_in_turn(x, spans, strict=strict)
        else:
            outputs = join(runner.run_each(x, spans, strict=strict), len(x))
        self._counters.answered(len(x))
        return outputs

    def predict_in_turn(self, x: Any) -> Nested:
        """Return the outputs of rows, run in full batches one after the other, on this thread.

        For a caller who has such calls on as many threads as batches are to be in flight.

        Args:
            x: Arrays, tensors or a table, as `predict` takes them; nothing that gives its rows
                piece by piece.

        Raises:
            InvalidSample: As `predict`.
        """
        self._calls.append(None)
        try:
            ready = self._ready(x)
            _, rows, _ = ready
            parts = self._cutter.cut_all([ready], self._look_at_memory)
            outputs = collect(self._crew.run(parts, 1), rows)
            self._counters.answered(rows)
            return outputs
        finally:
            self._calls.pop()

    def stream(self, batches: Iterable[Any], *, progress: bool = False) -> Iterator[Nested]:
        """Predict one piece of input after the other.

        The model is opened at once. With one batch in flight no piece is taken before the one
        before it was answered; with several, so many batches and one more are taken ahead.

        Args:
            batches: Pieces of any number of rows, each as `predict` takes them: they need not
                have the tuned batch size, but must be arrays of their own. As in `model.predict`,
                a tuple is `(x,)`, `(x, y)` or `(x, y, weights)`, of which x is taken.
            progress: Show on standard error how many rows are done.

        Yields:
            The outputs of each piece, in order.
        """
        done = self._run_all(map(self._ready, pieces(batches, endless=True)))
        return self._answer_each(count_rows_done(done) if progress else done)

    def _answer_each(self, done: Iterator[Done]) -> Iterator[Nested]:
        for first in done:
            yield collect(itertools.chain((first,), done), first.of)
            self._counters.answered(first.of)

    def save(self, path: str | PathLike[str]) -> None:
        """Write a tuned directory, which `load` opens; an older one there is replaced.

        Raises:
            InvalidInput: The folder holds something else, or the model cannot be saved.
            EnvironmentFault: It cannot be written.
        """
        artifact.write(Path(path), self._record, self._put_model, self._exports)

    def _predict_source(self, source: Any, out: Nested, progress: bool) -> Nested:
        """Predict rows that come piece by piece, in batches of the tuned size."""
        arrays = map(self.open().read, pieces(source))
        done = self._run_all(map(self._ready, rebatch(arrays, self._pace.limit)))
        outputs, rows = collect_all(count_rows_done(done) if progress else done, out)
        self._counters.answered(rows)
        return outputs

    def _ready(self, x: Any) -> Ready:
        return (self._runners or self.open()).ready(x)

    def _needs_no_look(self, x: Any) -> bool:
        return self._runners is not None and self._runners.needs_no_look(x)

    def _run_all(self, inputs: Iterable[Ready]) -> Iterator[Done]:
        self.open()  # which may find that it has to go by another recommendation
        return self._run(self._cutter.cut_all(inputs, self._look_at_memory))

    def _run(self, parts: Iterable[Part]) -> Iterator[Done]:
        """Run batches, several in flight if that was found to be best; outputs in order."""
        return self._crew.run(parts, self._recommendation.concurrency)

    def hold_to_memory(self, *, tell: bool = True) -> int:
        """Look at the memory that is free, and run no larger batches than fit there.

        Args:
            tell: Log it where that changes anything.

        Returns:
            The largest batch that would be run now.
        """
        if not self.strict and self._allowance is not None:
            self._pace.make_room(self._allowance.batch_size(self._pace.largest_ran), tell=tell)
        return self._pace.limit

    def _look_at_memory(self) -> None:
        """Before many rows are run, see how large batches may be; not at every call."""
        with self._lock:
            if time.monotonic() < self._look_after:
                return
            self._look_after = time.monotonic() + LOOK_EVERY_S
        self.hold_to_memory()


def _shapes(x: Any) -> Hashable:
    """What arrays have in common that are run in the same way; None for what is none."""
    return (x.dtype, x.shape) if type(x) is np.ndarray else glance(x)
