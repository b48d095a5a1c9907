"""The tuner's side: probes in a child that may crash, hang or be killed without harm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from autotune import errors, host
from autotune.child import Child, ChildDied, Nursery
from autotune.errors import AutotuneError, ProbeFailed
from autotune.outcomes import Candidate, Failure, Outcome, OutOfMemory
from autotune.records import Loaded
from autotune.worker import Load, Reply, Try

START_TIMEOUT_S = 120.0  # importing a backend takes seconds
LOAD_TIMEOUT_S = 300.0  # a large model takes minutes
PROBE_TIMEOUT_S = 120.0  # besides the timed calls; an allocator waits 10 s before it gives up,
# and a compiler may take a minute


class IsolatedProbe:
    """A probe that measures in a child process, which keeps the model from size to size.

    The child is started with the first use and again after each death. Use it as a context
    manager: at the end no process is left.

    Args:
        request: What the child loads; its `id` does not matter.
        fork: Whether the child may be forked from a process that has the backend imported, which
            takes a tenth of the time after the first; where that is not safe, it is not done.
        scratch: Folders to be removed if this process goes without closing the probe.
        load_timeout_s: Seconds for loading the model, once the child is there.
        probe_timeout_s: Seconds for a probe, besides those for timed calls.
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
        self._fork = fork
        self._scratch = scratch
        self._nursery: Nursery | None = None
        self._child: Child | None = None
        self.loaded: Loaded | None = None

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
        """End the child, whatever it is doing, and its keeper."""
        self._child = None
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _start_child(self) -> Child:
        if self._nursery is not None and self._nursery.is_lost:
            self.close()
        if self._nursery is None:
            self._nursery = Nursery(fork=self._fork, scratch=self._scratch)
        return self._nursery.start(START_TIMEOUT_S)

    @property
    def pid(self) -> int | None:
        """Process id of the child; None while there is none."""
        return self._child.pid if self._child else None

    def load(self) -> Loaded:
        """Start the child and have it load the model, unless that is done.

        Raises:
            InvalidModel: The model cannot be opened or cut into batches.
            InvalidSample: The rows do not fit the model.
            ProbeFailed: The child died or did not answer in time.
        """
        if self._child is None or self.loaded is None:
            try:
                self._child = self._start_child()
                reply = self._child.ask(self._request, self._load_timeout_s)
            except ChildDied as death:
                self.close()
                raise ProbeFailed(
                    f"The child process {death.reason} while loading the model. {death.log}"
                ) from None
            except BaseException:
                self.close()
                raise
            if reply.loaded is None:
                self._end_child()
                raise _error_of(reply)
            self.loaded = reply.loaded
        return self.loaded

    def __call__(self, candidate: Candidate, seconds: float) -> Outcome:
        """Measure a candidate in the child; its death is an outcome."""
        began = time.perf_counter()
        try:
            self.load()
        except ProbeFailed as error:
            elapsed_s = time.perf_counter() - began
            return Failure(candidate, kind="crash", elapsed_s=elapsed_s, message=str(error))
        assert self._child is not None  # noqa: S101  load has made it
        kills = host.kernel_memory_kills()
        try:
            request = Try(id=0, candidate=candidate, seconds=seconds)
            reply = self._child.ask(request, self._probe_timeout_s + 5 * seconds)
        except ChildDied as death:
            self._child = None
            killed_for_memory = death.killed and host.kernel_memory_kills() > kills
            return _outcome_of(candidate, death, killed_for_memory, time.perf_counter() - began)
        except BaseException:  # Ctrl-C: the child must not outlive the run
            self.close()
            raise
        if reply.outcome is None:
            raise _error_of(reply)
        if isinstance(reply.outcome, OutOfMemory) or _was_stopped(reply.outcome):
            self._end_child()  # gives memory back, and the next figure comes from a clean process
        return reply.outcome


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


def _error_of(reply: Reply) -> AutotuneError:
    """Make the error again that the child met."""
    kind = getattr(errors, reply.error_type, None)
    if isinstance(kind, type) and issubclass(kind, AutotuneError):
        return kind(reply.error)
    return ProbeFailed(reply.error)
