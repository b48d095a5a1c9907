"""The runner: one engine, batches of any size, and what is done when memory runs out."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import optree

from autotune.engines import Engine, Session
from autotune.errors import is_out_of_memory, one_line
from autotune.joining import padded
from autotune.nesting import Array, Nested, concatenate, head, join
from autotune.pace import Pace
from autotune.stats import Counters

_log = logging.getLogger("autotune")

# TensorFlow makes a graph of its own for the first size that it sees, and one for all others with
# the second. 7 and 5 came first when the model was measured.
WARM_UP_SIZES = (7, 5)
SMALLER = (1, 2, 4, 8)  # parts of the batch that engines with a program a size are made ready for


def ready_sizes(size: int) -> list[int]:
    """Return the sizes that engines with a program for each are made ready for, rising.

    Example:
        >>> ready_sizes(48), ready_sizes(3)
        ([1, 6, 12, 24, 48], [1, 3])
    """
    return sorted({1, *(size // part for part in SMALLER if size >= part)})


class Runner:
    """Runs batches through an engine.

    Where the engine compiles a program for each size, a batch is padded with its own last row to
    the next of a few sizes, which are made ready as far as there is memory; elsewhere it is run as
    it is. One that runs out of memory is halved, and the halves are run one after the other.

    Args:
        engine: Runs a batch.
        example: One row, to make the engine ready with.
        size: The tuned batch size.
        pace: Is told what ran and what did not.
        counters: Counts.
        turn: Held during each call of an engine that is not thread-safe; one for all engines of
            a model, because it is the model that they share.

    Attributes:
        any_size: Whether batches are run as they are.
        is_plain: Whether they are just given to the engine, several at once if need be.
    """

    def __init__(
        self,
        engine: Engine,
        example: Nested,
        size: int,
        pace: Pace,
        counters: Counters,
        turn: threading.Lock,
    ) -> None:
        self._engine = engine
        self._pace = pace
        self._counters = counters
        self._turn = contextlib.nullcontext() if engine.thread_safe else turn
        self._short = threading.RLock()
        self.any_size = not engine.compiles_per_shape
        self.is_plain = engine.thread_safe and self.any_size
        self._sizes: Sequence[int] = ()
        if self.any_size:
            # A session's program comes with its file: its first answer need not wait for others.
            self._warm_up(example, () if isinstance(engine, Session) else WARM_UP_SIZES)
        else:
            fitting = [ready for ready in ready_sizes(size) if ready <= pace.limit]
            self._sizes = self._warm_up(example, fitting)

    def at_most(self, limit: int) -> int:
        """Return the largest size up to a limit that the engine is ready for."""
        if self.any_size:
            return limit
        return max(size for size in self._sizes if size <= limit)

    def run(self, batch: Nested, rows: int, *, strict: bool) -> Nested:
        """Return the outputs of a batch of so many rows, whole.

        Raises:
            Exception: What the engine raised; where it was out of memory, only if `strict`, for a
                single row, or if the engine does not survive that.
        """
        try:
            outputs = self._engine(batch) if self.is_plain else self._call(batch, rows)
        except Exception as error:
            if self._is_fatal(error, rows, strict):
                raise
        else:
            self._note(rows, 1)
            return outputs
        # Outside of the handler, which holds on to the frames of the failure and to their arrays.
        return self._run_halves(batch, rows)

    def run_in_turn(self, x: Array, spans: Sequence[slice], *, strict: bool) -> Nested:
        """Return the outputs of rows, run in batches one after the other; for few bytes of them.

        As little as possible is done between batches: after a batch the processor's caches have
        lost all else, and each function costs some ten times what it costs when it is warm.

        Args:
            x: The rows.
            spans: Where each batch begins and ends.
            strict: As in `run`.

        Raises:
            Exception: As `run`.
        """
        call, span = self._engine.__call__, spans[0]
        parts: list[Nested] = []
        put = parts.append
        try:
            for span in spans:
                put(call(x[span]))
        except Exception as error:
            if self._is_fatal(error, span.stop - span.start, strict):
                raise
        if parts:
            self._note(spans[0].stop, len(parts))
        if len(parts) < len(spans):  # outside of the handler, as in `run`
            parts += self.run_each(x, spans[len(parts) :], strict=strict)
        return concatenate(parts, len(x))

    def run_each(self, x: Array, spans: Sequence[slice], *, strict: bool) -> Iterator[Nested]:
        """Yield the outputs of one batch after the other.

        Where memory is short, all rows that are left are run in smaller batches.

        Args:
            x: The rows.
            spans: Where each batch begins and ends; the last one's end is that of the rows.
            strict: As in `run`.

        Raises:
            Exception: As `run`.
        """
        start = spans[0].start
        for span in spans:
            if not self._pace.at_ease:
                break
            yield self.run(x[span], span.stop - start, strict=strict)
            start = span.stop
        while start < len(x):
            size = min(len(x) - start, self.at_most(self._pace.limit))
            yield self.run(x[start : start + size], size, strict=strict)
            start += size

    def _note(self, size: int, batches: int) -> None:
        """Take in that so many batches went well, the first of which had so many rows."""
        self._counters.ran(batches)
        if self._pace.is_news(size):
            self._pace.ran(size, self.at_most(self._pace.limit))

    def _is_fatal(self, error: Exception, rows: int, strict: bool) -> bool:
        """Whether there is no way around an error; if there is, step down."""
        if not is_out_of_memory(error):
            return True
        self._counters.ran_out()
        if strict or rows == 1 or not self._engine.survives_shortage:
            return True
        self._pace.failed(rows, one_line(error, 200))
        return False

    def _run_halves(self, batch: Nested, rows: int) -> Nested:
        half = (rows + 1) // 2
        with self._short:
            halves = (half, 0), (rows - half, half)
            return join(
                (self.run(head(batch, n, start), n, strict=False) for n, start in halves), rows
            )

    def _call(self, batch: Nested, rows: int) -> Nested:
        size = next((size for size in self._sizes if size >= rows), rows)
        if size > rows:
            batch = optree.tree_map(lambda array: padded(array, size), batch)
        with self._turn:
            outputs = self._engine(batch)
        if size == rows:
            return outputs
        self._counters.padded(size - rows)
        return head(outputs, rows)

    def _warm_up(self, example: Nested, sizes: Sequence[int]) -> Sequence[int]:
        """Have programs compiled before production needs them; return the sizes that fit."""
        for place, size in enumerate(sizes):
            batch = optree.tree_map(lambda array: np.repeat(array, size, axis=0), example)  # noqa: B023
            try:
                with self._turn:
                    self._engine(batch)
            except Exception as error:  # rows of zeros may not be valid, which says nothing
                _log.debug("Warm-up with %d rows: %s", size, one_line(error))
                if is_out_of_memory(error):
                    return sizes[: max(1, place)]
        return sizes
