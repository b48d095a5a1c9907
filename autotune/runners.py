"""What runs rows of each kind that come: made once, found again quickly."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import optree

from autotune.dtypes import kind_of
from autotune.intake import to_arrays
from autotune.nesting import Nested, flatten
from autotune.outcomes import Candidate
from autotune.pace import Pace
from autotune.runner import Runner
from autotune.sources import Source
from autotune.stats import Counters

Ready = tuple[Nested, int, Runner]  # rows as arrays, how many there are, and what runs them


class Runners:
    """Makes rows of any kind ready for what runs them.

    Args:
        source: Makes engines.
        way: Engine, batches in flight and threads, and the tuned batch size.
        pace: Is told what ran and what did not.
        counters: Counts.
    """

    def __init__(self, source: Source, way: Candidate, pace: Pace, counters: Counters) -> None:
        self._source = source
        self._way = way
        self._pace = pace
        self._counters = counters
        self._specs = source.open()
        self._takes_floats = all("float" in spec.dtype for spec in self._specs)
        self._made: dict[Hashable, Runner] = {}
        self._seen: dict[Hashable, Runner] = {}  # by what can be told of the input at a glance
        self._turn = threading.Lock()
        self._lock = threading.RLock()

    def read(self, x: Any) -> Nested:
        """Return rows as arrays, checked against the model's inputs.

        Raises:
            InvalidSample: They do not fit.
        """
        return to_arrays(x, self._specs)[0]

    def ready(self, x: Any) -> Ready:
        """Return rows as arrays, their number, and the runner for their shapes and dtypes.

        Raises:
            InvalidSample: They do not fit.
        """
        seen = glance(x)
        if seen is not None:
            kind, rows = seen
            runner = self._seen.get(kind)
            if runner is not None:  # nothing to check, nothing to convert
                return x, rows, runner
        arrays, rows = to_arrays(x, self._specs)
        runner = self._runner_for(arrays)
        if seen is not None and self._is_right(x, arrays):
            self._seen[seen[0]] = runner
        return arrays, rows, runner

    def needs_no_look(self, x: Any) -> bool:
        """Whether rows of this kind were seen before, and are right as they are."""
        seen = glance(x)
        return seen is not None and seen[0] in self._seen

    def _is_right(self, x: Nested, arrays: Nested) -> bool:
        """Whether rows that look like these are right as they are: no NaN may go to integers."""
        leaves = flatten(arrays)[0]
        as_it_is = all(a is b for a, b in zip(flatten(x)[0], leaves, strict=True))
        return as_it_is and (self._takes_floats or all(a.dtype.kind != "f" for a in leaves))

    def _runner_for(self, x: Nested) -> Runner:
        """Find what runs rows of these shapes and dtypes, or make it."""
        arrays, structure = flatten(x)
        exact = structure, *((kind_of(a.dtype), a.shape[1:]) for a in arrays)
        free = {i for spec in self._specs for i, size in enumerate(spec.shape) if size is None}
        shapes = [[None if i in free else n for i, n in enumerate(a.shape[1:])] for a in arrays]
        alike = structure, *((kind_of(a.dtype), *n) for a, n in zip(arrays, shapes, strict=True))
        with self._lock:
            runner = self._made.get(exact) or self._made.get(alike)
            if runner is None:
                example = one_empty_row(x)
                runner = Runner(
                    self._source.build(self._way, example),
                    example,
                    self._way.batch_size,
                    self._pace,
                    self._counters,
                    self._turn,
                )
                # A program a shape is one a length as well; else one serves rows of any length.
                self._made[alike if runner.any_size else exact] = runner
            return runner


def glance(x: Any) -> tuple[Hashable, int] | None:
    """Tell the kind and number of rows of plain arrays, without a look inside; else None."""
    kind = type(x)
    leaves: Iterable[Any]
    names: Hashable
    if kind is dict:
        leaves, names = x.values(), tuple(x)
    elif kind is list or kind is tuple:
        leaves, names = x, kind.__name__
    elif isinstance(x, np.ndarray):
        return ((x.dtype, x.shape[1:]), len(x)) if x.ndim else None
    else:
        return None
    kinds: list[Hashable] = [names]
    rows = -1
    for leaf in leaves:
        if not isinstance(leaf, np.ndarray) or not leaf.ndim:
            return None
        first, *shape = leaf.shape
        if first != rows >= 0:
            return None
        rows = first
        kinds += leaf.dtype, *shape
    return (tuple(kinds), rows) if rows >= 0 else None


def one_empty_row(x: Nested) -> Nested:
    """Return one row of zeros that looks like those of a nesting."""
    return optree.tree_map(lambda array: np.zeros((1, *array.shape[1:]), array.dtype), x)
