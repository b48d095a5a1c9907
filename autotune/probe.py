"""The tuner's side: probes in children that may crash, hang or be killed without harm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from autotune import engines, errors, host
from autotune.child import Child, ChildDied
from autotune.errors import AutotuneError, EngineUnavailable, ProbeFailed
from autotune.family import Family
from autotune.outcomes import Candidate, Failure, FailureKind, Outcome, OutOfMemory, Rehearsal
from autotune.records import Loaded
from autotune.schedule import Schedule
from autotune.worker import Export, Load, Rehearse, Reply, Try

EXPORTER = 0  # the child that exports the model has its place where others have their threads
LOAD_TIMEOUT_S = 300.0  # a large model takes minutes
PROBE_TIMEOUT_S = 120.0  # besides the timed calls; an allocator waits 10 s before it gives up,
# and a compiler may take a minute


class IsolatedProbe:
    """A probe that measures in child processes, which keep the model from size to size.

    A backend's threads are fixed for a process, so each number of threads that is asked for has
    a child of its own beside the first; all of them stay, so that candidates can take turns. Each
    is started with its first use and again after each death. Use it as a context manager: at the
    end no process is left.

    Args:
        request: What the children load; its `id` does not matter.
        fork: Whether children may be forked from a process that has the backend imported, which
            takes a tenth of the time after the first; where that is not safe, it is not done.
        scratch: Folders to be removed if this process goes without closing the probe.
        load_timeout_s: Seconds for loading the model, once the child is there.
        probe_timeout_s: Seconds for a probe, besides those for timed calls.

    Attributes:
        loaded: What the first child told of model and machine; None before it is there.
        unavailable_threads: Numbers of threads that no child can be had for, with the reason.
    """

    def __init__(
        self,
        request: Load,
        *,
        fork: bool = True,
        scratch: Sequence[str] = (),
        load_timeout_s: float = LOAD_TIMEOUT_S,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        self._request = request
        self._load_timeout_s = load_timeout_s
        self._probe_timeout_s = probe_timeout_s
        self._family = Family(fork=fork, scratch=scratch)
        self.loaded: Loaded | None = None
        self._loaded_with: set[int | None] = set()  # threads
        self.unavailable_threads: dict[int, str] = {}

    def __enter__(self) -> IsolatedProbe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the children, whatever they are doing, and their keeper."""
        self._family.close()

    @property
    def pids(self) -> dict[int | None, int]:
        """Process ids of the children, by their number of threads; None is the backend's own."""
        return self._family.pids

    @property
    def pid(self) -> int | None:
        """Process id of the first child; None while there is none."""
        return self.pids.get(None)

    def load(self) -> Loaded:
        """Start the first child and have it load the model, unless that is done.

        Raises:
            InvalidModel: The model cannot be opened or cut into batches.
            InvalidSample: The rows do not fit the model.
            ProbeFailed: The child died or did not answer in time.
        """
        if self.loaded is None:
            self._export()
        if self.loaded is None or None not in self.pids:
            self._load(None)
        assert self.loaded is not None  # noqa: S101  the first child has told it
        return self.loaded

    def _export(self) -> None:
        """Have a child of its own export the model for engines that run it so; once is enough.

        If it dies or is refused the model, the folder tells, or the next child meets the same.
        """
        forms, place = engines.formats_wanted(self._request.engines), self._request.exports
        if not place or all((Path(place) / form).is_dir() for form in forms):
            return
        try:
            child = self._family.start(EXPORTER)
            child.ask(Export(id=0, load=self._request), self._load_timeout_s)
        except ChildDied:
            pass
        finally:  # also after Ctrl-C
            self._family.end(EXPORTER)

    def _load(self, threads: int | None) -> Child:
        """Start a child and have it load the model."""
        request = msgspec.structs.replace(
            self._request,
            threads=threads,
            siblings_bytes=self._family.make_room(threads),
            save_to="" if threads else self._request.save_to,  # the first child does that
        )
        kills = host.kernel_memory_kills()
        try:
            child = self._family.start(threads)
            reply = child.ask(request, self._load_timeout_s)
        except ChildDied as death:
            message = f"The child process {death.reason} while loading the model. {death.log}"
            if threads is None:
                self.close()
                raise ProbeFailed(message) from None
            self._family.end(threads)
            if death.killed and host.kernel_memory_kills() > kills:
                raise self._refuse(threads, message.rstrip()) from None
            raise ProbeFailed(message) from None
        except BaseException:
            self.close()
            raise
        if reply.loaded is None:
            self._family.end(threads)
            raise self._refuse(threads, reply.error) if threads else error_of(reply)
        self._loaded_with.add(threads)
        if threads is None:
            self.loaded = reply.loaded
            self._family.measure_one(child)
        return child

    def _child_for(self, candidate: Candidate) -> Child:
        """Return the child that has a candidate's threads, with the model loaded.

        Raises:
            EngineUnavailable: There is none, and cannot be; the message says why.
            ProbeFailed: It died or did not answer in time.
        """
        # The first child may have been ended to make room: then it is not needed before its turn.
        loaded, threads = self.loaded or self.load(), process_threads(candidate)
        if candidate.threads and candidate.engine not in loaded.sets_threads:
            raise EngineUnavailable(
                loaded.unavailable.get(candidate.engine)
                or f"The threads of one call of the {candidate.engine!r} engine cannot be set with "
                f"{loaded.model.backend} on {loaded.machine.device}."
            )
        if threads in self.unavailable_threads:
            raise EngineUnavailable(self.unavailable_threads[threads])
        child = self._family.child(threads)
        if child is None and threads:
            why = self._family.why_no_room()
            if why:
                raise self._refuse(threads, why)
        return child or self._load(threads)

    def rehearse(
        self, candidate: Candidate, schedule: Schedule, rows_per_s: float, seconds: float
    ) -> Rehearsal | None:
        """Serve requests, and time the calls; see `rehearsals.RehearsingProbe`."""
        threads = process_threads(candidate)
        try:
            child = self._child_for(candidate)
            request = Rehearse(
                id=0,
                candidate=candidate,
                schedule=schedule,
                rows_per_s=rows_per_s,
                seconds=seconds,
                siblings_bytes=self._family.make_room(threads),
            )
            return child.ask(request, self._probe_timeout_s + 5 * seconds).rehearsal
        except ChildDied:
            self._family.end(threads)
        except (EngineUnavailable, ProbeFailed):
            pass
        except BaseException:  # Ctrl-C: no child must outlive the run
            self.close()
            raise
        return None

    def _refuse(self, threads: int, why: str) -> EngineUnavailable:
        """Note that no child with so many threads is to be had: the others go on."""
        calls = "1 thread" if threads == 1 else f"{threads} threads"
        self.unavailable_threads[threads] = f"No child process for calls of {calls}: {why}"
        return EngineUnavailable(self.unavailable_threads[threads])

    def __call__(self, candidate: Candidate, seconds: float) -> Outcome:
        """Measure a candidate in the child that has its threads; the death of one is an outcome."""
        began = time.perf_counter()
        try:
            child = self._child_for(candidate)
        except EngineUnavailable as error:
            elapsed_s = time.perf_counter() - began
            return Failure(candidate, kind="mismatch", elapsed_s=elapsed_s, message=str(error))
        except ProbeFailed as error:
            elapsed_s = time.perf_counter() - began
            # That a model which was loaded before could not be again is not the candidate's fault.
            again = process_threads(candidate) in self._loaded_with
            kind: FailureKind = "stopped" if again else "crash"
            return Failure(candidate, kind=kind, elapsed_s=elapsed_s, message=str(error))
        asked, threads = time.perf_counter(), process_threads(candidate)
        siblings_bytes = self._family.make_room(threads)
        request = Try(id=0, candidate=candidate, seconds=seconds, siblings_bytes=siblings_bytes)
        kills = host.kernel_memory_kills()
        try:
            reply = child.ask(request, self._probe_timeout_s + 5 * seconds)
        except ChildDied as death:
            self._family.end(threads)
            killed_for_memory = death.killed and host.kernel_memory_kills() > kills
            return _outcome_of(candidate, death, killed_for_memory, time.perf_counter() - began)
        except BaseException:  # Ctrl-C: no child must outlive the run
            self.close()
            raise
        if reply.outcome is None:
            raise error_of(reply)
        if isinstance(reply.outcome, OutOfMemory) or _was_stopped(reply.outcome):
            self._family.end(threads)  # gives memory back; the next figure comes from a clean one
        # With what it takes to ask; but not to load a model, which each child does once.
        return msgspec.structs.replace(reply.outcome, elapsed_s=time.perf_counter() - asked)


def process_threads(candidate: Candidate) -> int | None:
    """Return the threads that a process must have to try a candidate; None for the backend's own.

    An engine that is told its threads when it is built runs in the first child, whatever they are.
    """
    return candidate.threads if engines.threads_are_the_process(candidate.engine) else None


def _was_stopped(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.kind == "stopped"


def _outcome_of(
    candidate: Candidate, death: ChildDied, killed_for_memory: bool, elapsed_s: float
) -> Outcome:
    message = f"The child process {death.reason}. {death.log}".rstrip()
    if killed_for_memory:
        return OutOfMemory(candidate, where="host", elapsed_s=elapsed_s, message=message)
    kind = "timeout" if death.timed_out else "crash"
    return Failure(candidate, kind=kind, elapsed_s=elapsed_s, message=message)  # type: ignore[arg-type]


def error_of(reply: Reply) -> AutotuneError:
    """Make the error again that the child met."""
    kind = getattr(errors, reply.error_type, None)
    if isinstance(kind, type) and issubclass(kind, AutotuneError):
        return kind(reply.error)
    return ProbeFailed(reply.error)
