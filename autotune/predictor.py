"""The tuned predictor: any number of rows through the recommended engine and batch size."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optree

from autotune import artifact, engines
from autotune.errors import EngineUnavailable
from autotune.flights import fly
from autotune.inputs import check_inputs
from autotune.models import ModelFile, input_specs
from autotune.nesting import Array, Nested, cut, flatten, head, join, leaf_names
from autotune.records import Recommendation, TuningRecord
from autotune.rowfiles import to_inputs
from autotune.workload import Spec, Table, as_array, count_rows

if TYPE_CHECKING:
    import keras

_log = logging.getLogger("autotune")


class TunedPredictor:
    """Predicts as `model.predict` does, the way that was measured to be best.

    Made by `tune` and `load`. The model is opened with the first prediction.

    Args:
        record: The tuning run.
        open_model: Opens the model.
        put_model: Writes the model to a path, as `.keras`.
    """

    def __init__(
        self,
        record: TuningRecord,
        open_model: Callable[[], keras.Model],
        put_model: Callable[[Path], None],
    ) -> None:
        assert record.recommendation is not None  # noqa: S101  search has set it
        self._record = record
        self._recommendation = record.recommendation
        self._open_model = open_model
        self._put_model = put_model
        self._model: keras.Model | None = None
        self._specs: Sequence[Spec] = ()
        self._engines: dict[Hashable, engines.Engine] = {}
        self._lock = threading.RLock()
        self._pool: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"TunedPredictor({self._recommendation.candidate})"

    @property
    def recommendation(self) -> Recommendation:
        """The recommendation that this predictor follows."""
        return self._recommendation

    @property
    def record(self) -> TuningRecord:
        """The whole tuning run."""
        return self._record

    @property
    def model(self) -> keras.Model:
        """The model; opened when first asked for."""
        with self._lock:
            if self._model is None:
                self._model = self._open_model()
                self._specs = input_specs(self._model)
            return self._model

    def __call__(self, x: Nested) -> Nested:
        """Same as `predict`."""
        return self.predict(x)

    def predict(self, x: Nested) -> Nested:
        """Return the model's outputs for any number of rows, 0 included.

        Args:
            x: Rows: an array of shape `(rows, ...)`, or nested arrays as the model takes them.

        Returns:
            NumPy arrays of shape `(rows, ...)`, nested as `model.predict` gives them.

        Raises:
            InvalidSample: The rows do not fit the model; nothing was run.
        """
        x, rows, engine = self._make_ready(x)
        if rows == 0:
            return head(engine(_one_empty_row(x)), 0)
        if rows <= self._recommendation.batch_size:
            return engine(x)
        batches = cut(x, rows, self._recommendation.batch_size)
        return join(self._run(engine, batches), rows)

    def stream(self, batches: Iterable[Nested]) -> Iterator[Nested]:
        """Predict one piece of input after the other, and hold no more than one at a time.

        Args:
            batches: Pieces of any number of rows; they need not have the tuned batch size.

        Yields:
            The outputs of each piece, in order.
        """
        for batch in batches:
            yield self.predict(batch)

    def save(self, path: str | PathLike[str]) -> None:
        """Write a tuned directory, which `load` opens; an older one there is replaced.

        Raises:
            InvalidInput: The folder holds something else, or the model cannot be saved.
            EnvironmentFault: It cannot be written.
        """
        artifact.write(Path(path), self._record, self._put_model)

    def _make_ready(self, x: Nested) -> tuple[Nested, int, engines.Engine]:
        """Return the rows as arrays, their number, and the engine for their shapes and dtypes."""
        if isinstance(x, np.ndarray) and x.ndim:  # nothing to check where all this was seen before
            engine = self._engines.get((x.dtype, x.shape[1:]))
            if engine is not None:
                return x, len(x), engine
        model = self.model
        if isinstance(x, Table):
            x = to_inputs(x, self._specs)
        leaves, structure = flatten(x)
        names = leaf_names(x)
        arrays = [as_array(leaf, name) for leaf, name in zip(leaves, names, strict=True)]
        rows = count_rows(arrays, names)
        x = structure.unflatten(arrays)
        return x, rows, self._engine_for(model, x, names, arrays)

    def _engine_for(
        self, model: keras.Model, x: Nested, names: Sequence[str], arrays: Sequence[Array]
    ) -> engines.Engine:
        """Find the engine for rows of these shapes and dtypes, or check them and build it."""
        seen = [(array.dtype, array.shape[1:]) for array in arrays]
        kind = seen[0] if isinstance(x, np.ndarray) else (flatten(x)[1], *seen)
        with self._lock:
            if kind not in self._engines:
                check_inputs(self._specs, names, arrays)
                self._engines[kind] = self._build(model, _one_empty_row(x))
            return self._engines[kind]

    def _build(self, model: keras.Model, example: Nested) -> engines.Engine:
        try:
            engine = engines.build(self._recommendation.engine, model, example)
        except EngineUnavailable as error:
            _log.warning("%s Using 'keras' in its place.", error)
            engine = engines.build(engines.REFERENCE, model, example)
        return engine if engine.thread_safe else _Guarded(engine)

    def _run(self, engine: engines.Engine, batches: Iterable[Nested]) -> Iterable[Nested]:
        """Run batches, several in flight if that was found to be best; outputs in order."""
        if self._recommendation.concurrency == 1 or not engine.thread_safe:
            return map(engine, batches)
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._recommendation.concurrency, "autotune")
        return fly(self._pool, engine, batches, self._recommendation.concurrency)


def _one_empty_row(x: Nested) -> Nested:
    return optree.tree_map(lambda array: np.zeros((1, *array.shape[1:]), array.dtype), x)


class _Guarded:
    """An engine that gives wrong answers under threads, one call at a time."""

    thread_safe = False

    def __init__(self, engine: engines.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch."""
        with self._lock:
            return self._engine(batch)


def load(
    path: str | PathLike[str], *, imports: Sequence[str] = (), unsafe: bool = False
) -> TunedPredictor:
    """Open a tuned directory that `TunedPredictor.save` wrote.

    Neither Optuna nor anything of the search is imported.

    Args:
        path: The folder.
        imports: Modules that define the model's own classes.
        unsafe: Allow Python code in the model (Lambda layers). Only for folders you trust.

    Raises:
        InvalidRecord: The folder is damaged, changed, or of a newer format.
        InvalidModel: The model cannot be opened.
    """
    tuned = artifact.read(path)
    info = tuned.record.model
    source = ModelFile(
        str(tuned.model), tuple(imports), unsafe, jit_compile=info.jit_compile if info else None
    )
    source.check()
    predictor = TunedPredictor(tuned.record, source.open, copier(tuned.model))
    _ = predictor.model  # now, not with the first request
    return predictor


def copier(path: Path) -> Callable[[Path], None]:
    """Return a function that copies a model file."""

    def copy(target: Path) -> None:
        target.write_bytes(path.read_bytes())

    return copy
