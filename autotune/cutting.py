"""Cutting: rows into batches, as large as may be run at that time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from autotune.nesting import Nested, head
from autotune.outcomes import Candidate, Outcome
from autotune.pace import Pace
from autotune.runner import Runner
from autotune.runners import Ready, one_empty_row
from autotune.splitting import Splitter


class Part(NamedTuple):
    """A batch on its way.

    Attributes:
        runner: What runs it.
        batch: The rows.
        rows: How many they are.
        of: Rows of the whole input that it is of; of an input without rows, 0, one row is run, to
            see the shape of its answer.
        start: Its first row's place in the input.
    """

    runner: Runner
    batch: Nested
    rows: int
    of: int
    start: int = 0


class Cutter:
    """Cuts inputs into batches.

    Args:
        way: The tuned batch size and way of running.
        outcomes: Times by batch size.
        pace: Tells how large a batch may be now.
    """

    def __init__(self, way: Candidate, outcomes: Sequence[Outcome], pace: Pace) -> None:
        self._pace = pace
        self._splitters = {
            any_size: Splitter(way, outcomes, any_size=any_size) for any_size in (True, False)
        }

    def split(self, rows: int, runner: Runner, *, alone: bool = True) -> tuple[slice, ...]:
        """Split rows that nothing follows into the batches that end soonest.

        Args:
            rows: How many.
            runner: What will run them.
            alone: Whether no other call is in flight. Beside others, what fits into a batch is one:
                in parts it would take more of the processors that they share, and end later.
        """
        ends = accumulate(self._sizes(rows, runner, alone), initial=0)
        return tuple(slice(start, end) for start, end in pairwise(ends))

    def _sizes(self, rows: int, runner: Runner, alone: bool) -> tuple[int, ...]:
        limit = runner.at_most(self._pace.limit)
        if rows <= limit and not alone:
            return (rows,)
        return self._splitters[runner.any_size].split(rows, limit)

    def _slices(self, rows: int, runner: Runner, alone: bool) -> Iterator[tuple[int, int]]:
        """Where batches begin and how many rows they have, by what may be run at that time."""
        start, limit = 0, 0
        sizes: Iterator[int] = iter(())
        while start < rows:
            if self._pace.limit != limit:
                limit = self._pace.limit
                sizes = iter(self._sizes(rows - start, runner, alone))
            size = next(sizes)
            yield start, size
            start += size

    def cut(self, x: Nested, rows: int, runner: Runner, *, alone: bool) -> Iterator[Part]:
        """Cut rows into batches as `split` does; where there are none, one row stands for them."""
        if rows == 0:
            yield Part(runner, one_empty_row(x), 1, 0)
        for start, size in self._slices(rows, runner, alone):
            yield Part(runner, head(x, size, start), size, rows, start)

    def cut_all(self, inputs: Iterable[Ready], look: Callable[[], object]) -> Iterator[Part]:
        """Cut inputs that follow each other into batches as large as may be.

        Args:
            inputs: Rows that are ready to run.
            look: Called before each.
        """
        for x, rows, runner in inputs:
            look()
            if rows == 0:
                yield Part(runner, one_empty_row(x), 1, 0)
            start = 0
            while start < rows:
                size = min(rows - start, runner.at_most(self._pace.limit))
                yield Part(runner, head(x, size, start), size, rows)
                start += size
