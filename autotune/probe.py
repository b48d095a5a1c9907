"""The tuner's side: probes in a child that may crash, hang or be killed without harm."""

from __future__ import annotations

import time
from types import TracebackType

from autotune import device, errors
from autotune.child import Child, ChildDied
from autotune.errors import AutotuneError, ProbeFailed
from autotune.outcomes import Candidate, Failure, Outcome, OutOfMemory
from autotune.records import Loaded
from autotune.worker import Load, Reply, Try

LOAD_TIMEOUT_S = 300.0  # importing a backend takes seconds, a large model minutes
PROBE_TIMEOUT_S = 120.0  # besides the timed calls; an allocator waits 10 s before it gives up,
# and a compiler may take a minute


class IsolatedProbe:
    """A probe that measures in a child process, which keeps the model from size to size.

    The child is started with the first use and again after each death. Use it as a context
    manager: at the end no process is left.

    Args:
        request: What the child loads; its `id` does not matter.
        load_timeout_s: Seconds for starting the child and loading the model.
        probe_timeout_s: Seconds for a probe, besides those for timed calls.
    """

    def __init__(
        self,
        request: Load,
        *,
        load_timeout_s: float = LOAD_TIMEOUT_S,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        self._request = request
        self._load_timeout_s = load_timeout_s
        self._probe_timeout_s = probe_timeout_s
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
        """End the child, whatever it is doing."""
        if self._child is not None:
            self._child.end()
            self._child = None

    @property
    def pid(self) -> int | None:
        """Process id of the child; None while there is none."""
        return self._child.process.pid if self._child else None

    def load(self) -> Loaded:
        """Start the child and have it load the model, unless that is done.

        Raises:
            InvalidModel: The model cannot be opened or cut into batches.
            InvalidSample: The rows do not fit the model.
            ProbeFailed: The child died or did not answer in time.
        """
        if self._child is None or self.loaded is None:
            self._child = Child()
            try:
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
                self.close()
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
        kills = device.kernel_memory_kills()
        try:
            request = Try(id=0, candidate=candidate, seconds=seconds)
            reply = self._child.ask(request, self._probe_timeout_s + 5 * seconds)
        except ChildDied as death:
            self.close()
            killed_for_memory = death.killed and device.kernel_memory_kills() > kills
            return _outcome_of(candidate, death, killed_for_memory, time.perf_counter() - began)
        except BaseException:  # Ctrl-C: the child must not outlive the run
            self.close()
            raise
        if reply.outcome is None:
            raise _error_of(reply)
        if isinstance(reply.outcome, OutOfMemory):
            self.close()  # the next memory figure must come from a clean process
        return reply.outcome


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
