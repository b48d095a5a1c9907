"""The model, and what runs rows of each kind that come: made once, found again quickly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from autotune import engines
from autotune.errors import EngineUnavailable
from autotune.intake import to_arrays
from autotune.models import input_specs
from autotune.nesting import Nested, flatten
from autotune.pace import Pace
from autotune.runner import Runner
from autotune.stats import Counters
from autotune.workload import Spec

if TYPE_CHECKING:
    import keras

_log = logging.getLogger("autotune")

Ready = tuple[Nested, int, Runner]  # rows as arrays, how many there are, and what runs them


class Runners:
    """Opens the model when it is first needed, and makes rows of any kind ready for it.

    Args:
        engine: Name of the engine that runs batches.
        size: The tuned batch size.
        open_model: Opens the model.
        pace: Is told what ran and what did not.
        counters: Counts.
    """

    def __init__(
        self,
        engine: str,
        size: int,
        open_model: Callable[[], keras.Model],
        pace: Pace,
        counters: Counters,
    ) -> None:
        self._engine = engine
        self._size = size
        self._open_model = open_model
        self._pace = pace
        self._counters = counters
        self._model: keras.Model | None = None
        self._specs: Sequence[Spec] = ()
        self._takes_floats = False
        self._made: dict[Hashable, Runner] = {}
        self._seen: dict[Hashable, Runner] = {}  # by what can be told of the input at a glance
        self._turn = threading.Lock()
        self._lock = threading.RLock()

    @property
    def is_open(self) -> bool:
        """Whether the model was opened."""
        return self._model is not None

    @property
    def model(self) -> keras.Model:
        """The model; opened when first asked for."""
        with self._lock:
            if self._model is None:
                model = self._open_model()
                self._specs = input_specs(model)
                self._takes_floats = all("float" in spec.dtype for spec in self._specs)
                self._model = model
            return self._model

    def read(self, x: Any) -> Nested:
        """Return rows as arrays, checked against the model's inputs.

        Raises:
            InvalidSample: They do not fit.
        """
        _ = self.model
        return to_arrays(x, self._specs)[0]

    def ready(self, x: Any) -> Ready:
        """Return rows as arrays, their number, and the runner for their shapes and dtypes.

        Raises:
            InvalidSample: They do not fit.
        """
        glance = _glance(x)
        if glance is not None:
            kind, rows = glance
            runner = self._seen.get(kind)
            if runner is not None:  # nothing to check, nothing to convert
                return x, rows, runner
        model = self.model
        arrays, rows = to_arrays(x, self._specs)
        runner = self._runner_for(model, arrays)
        if glance is not None and self._is_right(x, arrays):
            self._seen[glance[0]] = runner
        return arrays, rows, runner

    def needs_no_look(self, x: Any) -> bool:
        """Whether rows of this kind were seen before, and are right as they are."""
        glance = _glance(x)
        return glance is not None and glance[0] in self._seen

    def _is_right(self, x: Nested, arrays: Nested) -> bool:
        """Whether rows that look like these are right as they are: no NaN may go to integers."""
        leaves = flatten(arrays)[0]
        as_it_is = all(a is b for a, b in zip(flatten(x)[0], leaves, strict=True))
        return as_it_is and (self._takes_floats or all(a.dtype.kind != "f" for a in leaves))

    def _runner_for(self, model: keras.Model, x: Nested) -> Runner:
        """Find what runs rows of these shapes and dtypes, or make it."""
        arrays, structure = flatten(x)
        exact = structure, *((a.dtype, a.shape[1:]) for a in arrays)
        free = {i for spec in self._specs for i, size in enumerate(spec.shape) if size is None}
        shapes = [[None if i in free else n for i, n in enumerate(a.shape[1:])] for a in arrays]
        alike = structure, *((a.dtype, *n) for a, n in zip(arrays, shapes, strict=True))
        with self._lock:
            runner = self._made.get(exact) or self._made.get(alike)
            if runner is None:
                example = one_empty_row(x)
                runner = Runner(
                    self._build(model, example),
                    example,
                    self._size,
                    self._pace,
                    self._counters,
                    self._turn,
                )
                # A program a shape is one a length as well; else one serves rows of any length.
                self._made[alike if runner.any_size else exact] = runner
            return runner

    def _build(self, model: keras.Model, example: Nested) -> engines.Engine:
        try:
            return engines.build(self._engine, model, example)
        except EngineUnavailable as error:
            _log.warning("%s Using 'keras' in its place.", error)
            return engines.build(engines.REFERENCE, model, example)


def _glance(x: Any) -> tuple[Hashable, int] | None:
    """Tell the kind and number of rows of plain arrays, without a look inside; else None."""
    if isinstance(x, np.ndarray):
        return ((x.dtype, x.shape[1:]), len(x)) if x.ndim else None
    if type(x) is dict:
        leaves, names = list(x.values()), tuple(x)
    elif type(x) in (list, tuple):
        leaves, names = x, (type(x),)
    else:
        return None
    kinds, rows = [], set()
    for leaf in leaves:
        if not isinstance(leaf, np.ndarray) or not leaf.ndim:
            return None
        kinds.append((leaf.dtype, leaf.shape[1:]))
        rows.add(len(leaf))
    return ((names, *kinds), rows.pop()) if len(rows) == 1 else None


def one_empty_row(x: Nested) -> Nested:
    """Return one row of zeros that looks like those of a nesting."""
    return optree.tree_map(lambda array: np.zeros((1, *array.shape[1:]), array.dtype), x)
