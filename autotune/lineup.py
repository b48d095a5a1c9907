"""The line-up: the engines that this process runs candidates with, each proved against `keras`.

An engine that runs an exported model is opened anew for each number of batches in flight and of
threads, when the first candidate asks for it; of the others one serves all.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autotune import engines
from autotune.engines import Engine
from autotune.errors import EngineUnavailable, is_out_of_memory, one_line
from autotune.exports import Exports
from autotune.footprint import Growth
from autotune.judging import Lane, lane_of
from autotune.nesting import Nested, flatten, head
from autotune.outcomes import Candidate
from autotune.parity import RELATIVE_BFLOAT16, Parity, compare, tolerance_of
from autotune.workload import Workload

if TYPE_CHECKING:
    import keras

PARITY_ROWS = 64
PARITY_BATCH = 8


class LineUp:
    """Engines of one model, ready to run.

    Args:
        model: The model, built.
        workload: Rows that fit the model.
        names: Engines to make ready.
        folder: Where exported models are put; None for a folder that goes with the line-up.
        threads: What the backend's threads of one call were set to; None for its default.
        precision: Lower precision that engines may compute in; "" for none.

    Attributes:
        unavailable: Engines that cannot run this model, with the reason.
        sessions_bytes: What the process has kept of opening sessions.
    """

    def __init__(
        self,
        model: keras.Model,
        workload: Workload,
        names: Sequence[str],
        folder: Path | None = None,
        threads: int | None = None,
        precision: str = "",
    ) -> None:
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="autotune-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._model = model
        self._workload = workload
        self._threads = threads
        self._depth, self._relative = tolerance_of(model)
        self._precision = precision
        self._exports = Exports(model, workload.take(1), folder)
        self._sessions: dict[Lane, tuple[Engine, Growth]] = {}
        self._opening_bytes: dict[str, int] = {}
        self.sessions_bytes = 0
        self._engines: dict[str, Engine] = {}
        self._reference = engines.build(engines.REFERENCE, model, workload.take(1))
        self._call_first(self._reference)
        self.unavailable: dict[str, str] = {}
        for name in names:
            try:
                self._make_ready(name)
            except EngineUnavailable as error:
                self.unavailable[name] = str(error)
            except Exception as error:  # it was built, and does not run
                if name == engines.REFERENCE or is_out_of_memory(error):
                    raise
                self.unavailable[name] = f"It does not run the model: {one_line(error, 200)}"

    def _make_ready(self, name: str) -> None:
        if name == engines.REFERENCE:
            self._engines[name] = self._reference
        elif engines.threads_are_the_process(name):
            engine = engines.build(name, self._model, self._workload.take(1))
            self._call_first(engine)
            self._engines[name] = engine
        else:
            self._engines[name] = self._session((name, 1, None))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the engines that are ready."""
        return tuple(name for name in self._engines if name != engines.BASELINE)

    def _call_first(self, engine: Engine) -> None:
        """Run what must be run before anything is measured.

        Graphs with a free batch axis come with the second size (docs/how-it-measures.md). Where
        each size is a program, one will do: that of the batches which outputs are compared in.
        """
        for size in (PARITY_BATCH,) if engine.compiles_per_shape else (7, 5):
            engine(self._workload.take(size))

    def engine_of(self, candidate: Candidate) -> Engine:
        """Return what runs a candidate's batches, with its threads.

        Raises:
            EngineUnavailable: There is none; the message says why in one sentence.
        """
        name = candidate.engine
        # The reference is there also where it is only a baseline.
        engine = self._reference if name == engines.REFERENCE else self._engines.get(name)
        if engine is None:
            raise EngineUnavailable(self.unavailable.get(name, "It was not asked for."))
        if not engines.threads_are_the_process(name):
            engine = self._session(lane_of(candidate))
        elif candidate.threads != self._threads:
            here = f"{self._threads} threads" if self._threads else "the threads of the backend"
            raise EngineUnavailable(
                f"The {name!r} engine has {here} for one call, and in this process that is fixed."
            )
        if candidate.concurrency > 1 and not engine.thread_safe:
            raise EngineUnavailable(f"The {name!r} engine gives wrong answers under threads here.")
        return engine

    def _session(self, lane: Lane) -> Engine:
        if lane not in self._sessions:
            name, concurrency, threads = lane
            if name in engines.FORMATS:  # a converter that runs here is none of the session
                if why := engines.why_not_installed(name):
                    raise EngineUnavailable(why)
                self._exports.folder_of(engines.FORMATS[name])
            opening = Growth()
            opening.begin()
            session = engines.build(
                name,
                self._model,
                self._workload.take(1),
                threads=threads,
                concurrency=concurrency,
                exports=self._exports,
                precision=self._precision,
            )
            self._call_first(session)
            self._opening_bytes[name] = opening.end()
            self.sessions_bytes += opening.kept_bytes
            self._sessions[lane] = session, Growth(self._release_of(session))
        return self._sessions[lane][0]

    def _release_of(self, session: Engine) -> Callable[[], None] | None:
        if not isinstance(session, engines.Session):
            return None
        return functools.partial(session.release, self._workload.take(1))

    def opening_bytes(self, candidate: Candidate) -> int:
        """What opening a session for a candidate is expected to take; 0 where it has one."""
        if lane_of(candidate) in self._sessions:
            return 0
        return self._opening_bytes.get(candidate.engine, 0)

    def kept_besides(self, candidate: Candidate) -> int:
        """What the sessions of all other candidates have kept of their batches, in bytes."""
        lane = lane_of(candidate)
        return sum(g.kept_bytes for other, (_, g) in self._sessions.items() if other != lane)

    def growth_of(self, candidate: Candidate) -> Growth | None:
        """Return what a candidate's session grew by in its calls.

        None for an engine that has no session: the framework's allocator counts what it takes.
        """
        session = self._sessions.get(lane_of(candidate))
        return session[1] if session else None

    def parity(self, candidate: Candidate, batch: Nested, outputs: Nested) -> Parity:
        """Compare a candidate's first rows with the reference's, run in batches that surely fit."""
        reduced = self._precision and candidate.engine in engines.REDUCIBLE
        relative = max(self._relative, RELATIVE_BFLOAT16) if reduced else self._relative
        found = []
        for start in range(0, PARITY_ROWS, PARITY_BATCH):
            rows = head(batch, PARITY_BATCH, start)
            if len(flatten(rows)[0][0]) == 0:
                break
            got = head(outputs, PARITY_BATCH, start)
            found.append(compare(got, self._reference(rows), self._depth, relative))
        changed = [one.changed_classes for one in found if one.changed_classes is not None]
        return Parity(
            max(one.largest_error for one in found),
            sum(changed) / len(changed) if changed else None,
            next((one.complaint for one in found if one.complaint), None),
        )
