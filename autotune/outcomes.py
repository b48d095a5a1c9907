"""Candidates, and what a probe of one brings back: the words between tuner and probe."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from autotune.errors import InvalidInput

Positive = Annotated[int, Meta(ge=1)]


class _BatchAndEngine(Struct, frozen=True):
    batch_size: Positive
    engine: str = "keras"


class Candidate(_BatchAndEngine, frozen=True, kw_only=True):
    """One way of running the model that can be tried.

    Attributes:
        batch_size: Rows in a batch.
        engine: What runs one batch; "keras" is `model.predict_on_batch`, the reference.
        concurrency: How many batches are in flight at once, each on a thread of its own.
        threads: Threads that the engine uses for one call; None leaves it to the engine.

    Example:
        >>> str(Candidate(512, "compiled"))
        '512 rows, compiled'
    """

    concurrency: Positive = 1
    threads: Positive | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "concurrency", "threads"):
            value = getattr(self, name)
            if name == "threads" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidInput(
                    f"{name} must be a whole number of at least 1, but got {value!r}."
                )

    def fills(self, processors: float | None) -> bool:
        """Whether its calls leave none of so many processors free; None where that is not told.

        The threads of a call that the engine chooses are as many as there are processors for them.

        Example:
            >>> Candidate(8, concurrency=2, threads=1).fills(4.0)
            False
            >>> Candidate(8).fills(4.0)
            True
        """
        if processors is None or self.threads is None:
            return True
        return self.threads * self.concurrency >= processors

    def __str__(self) -> str:
        flights = f", {self.concurrency} in flight" if self.concurrency > 1 else ""
        each = " each" if self.concurrency > 1 else ""
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}{each}" if self.threads else ""
        plural = "" if self.batch_size == 1 else "s"
        return f"{self.batch_size} row{plural}, {self.engine}{flights}{threads}"


class _CandidateAndTimes(Struct, frozen=True):
    candidate: Candidate
    times_s: tuple[float, ...]


class Measurement(
    _CandidateAndTimes, frozen=True, kw_only=True, tag_field="outcome", tag="measured"
):
    """One candidate, timed.

    Attributes:
        candidate: What was timed.
        times_s: Seconds of each timed call, in the order they were made; NumPy in, NumPy out.
        span_s: Seconds of all timed calls together, in a long row of such calls, all threads busy;
            None where they ran one after another, when it is their sum.
        lost_s: Seconds of each timed call in which the processors were held up, as the hypervisor
            of a virtual machine does, by the work that was not done meanwhile; () where they were
            in none. Times and `rows_per_s` hold them; candidates are compared without them.
        first_call_s: Seconds of the first call at this size, with tracing and compilation; where
            it was timed before, those of the first timed call.
        elapsed_s: Seconds that the probe took in all.
        device_peak_bytes: Highest use of the framework's allocator during the probe, weights
            included; None where the allocator keeps no count.
        host_peak_bytes: Highest resident memory of the process during the probe.
        device_idle_bytes: What was held of `device_peak_bytes` before the first call: weights,
            mostly, and what a session has kept of larger batches.
        host_idle_bytes: Resident memory of the process before the first call.
        device_left_bytes: What was held of `device_peak_bytes` after the last call.
        device_waste_bytes: What the allocator may leave unused of a chunk, and count as in use.
        disturbed: How many of the timed calls something else on the machine disturbed.
        memory_limit_bytes: The highest peak that was allowed then, which falls when others take
            memory; None where that is not known.
        warnings: What a reader of the figures should know.
        largest_error: Largest difference from the outputs of `keras` for the same rows, as a share
            of the output's largest value; 0 where nothing was compared.
        changed_classes: Share of rows whose largest output stands elsewhere than with `keras`,
            near ties and all; None where no output has scores to choose from.
    """

    span_s: float | None = None
    lost_s: tuple[float, ...] = ()
    first_call_s: float = 0.0
    elapsed_s: float = 0.0
    device_peak_bytes: int | None = None
    host_peak_bytes: int | None = None
    device_idle_bytes: int | None = None
    host_idle_bytes: int | None = None
    device_left_bytes: int | None = None
    device_waste_bytes: int = 0
    disturbed: int = 0
    memory_limit_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    largest_error: float = 0.0
    changed_classes: float | None = None

    def __post_init__(self) -> None:
        if not self.times_s or not all(0 < t < math.inf for t in self.times_s):
            raise InvalidInput("times_s must hold at least one call, each longer than 0 seconds.")
        if self.span_s is not None and not 0 <= self.span_s < math.inf:
            raise InvalidInput(f"span_s must be a time in seconds, but got {self.span_s!r}.")
        if self.lost_s and not self._loses_less_than_it_takes():
            raise InvalidInput("lost_s must hold less of each timed call than it took, or nothing.")
        msgspec.structs.force_setattr(self, "times_s", tuple(map(float, self.times_s)))

    def _loses_less_than_it_takes(self) -> bool:
        if len(self.lost_s) != len(self.times_s):
            return False
        return all(0 <= lost < t for lost, t in zip(self.lost_s, self.times_s, strict=True))

    @property
    def latency_s(self) -> float:
        """Median seconds of a call."""
        return statistics.median(self.times_s)

    @property
    def running_s(self) -> tuple[float, ...]:
        """Seconds of each timed call, without those in which the processors were held up."""
        if not self.lost_s:
            return self.times_s
        return tuple(t - lost for t, lost in zip(self.times_s, self.lost_s, strict=True))

    @property
    def rows_per_s(self) -> float:
        """Rows of all timed calls over the time that they took together."""
        return self.candidate.batch_size * len(self.times_s) / (self.span_s or sum(self.times_s))

    @property
    def is_disturbed(self) -> bool:
        """Whether something else on the machine disturbed most of it."""
        return 2 * self.disturbed >= len(self.times_s)

    @property
    def peak_bytes(self) -> int | None:
        """The peak that is held against the memory limit: the allocator's, else the process's."""
        return self.host_peak_bytes if self.device_peak_bytes is None else self.device_peak_bytes

    @property
    def idle_bytes(self) -> int | None:
        """How much of `peak_bytes` was there before the first call."""
        return self.host_idle_bytes if self.device_peak_bytes is None else self.device_idle_bytes


class _OnlyCandidate(Struct, frozen=True):
    candidate: Candidate


class OutOfMemory(
    _OnlyCandidate, frozen=True, kw_only=True, tag_field="outcome", tag="out_of_memory"
):
    """One candidate that did not fit: an answer like any other, not an error.

    Attributes:
        candidate: What was tried.
        where: Whose memory ran out: "device" or "host".
        elapsed_s: Seconds that the probe took in all.
        memory_limit_bytes: As of a `Measurement`.
        message: What the framework or the kernel said.
    """

    where: Literal["device", "host"] = "device"
    elapsed_s: float = 0.0
    memory_limit_bytes: int | None = None
    message: str = ""


FailureKind = Literal["timeout", "crash", "model_error", "mismatch", "stopped"]


class Failure(_OnlyCandidate, frozen=True, kw_only=True, tag_field="outcome", tag="failure"):
    """One candidate that could not be timed, for another reason than memory.

    Attributes:
        candidate: What was tried.
        kind: "timeout", "crash" (the child died), "model_error" (it raised), "mismatch" (the
            engine's answer differs from that of `keras`), or "stopped", for which the candidate is
            not to blame: others took the memory, the GPU was lost, or the model could not be
            loaded again.
        elapsed_s: Seconds that the probe took in all.
        memory_limit_bytes: As of a `Measurement`.
        message: What is known of the reason.
    """

    kind: FailureKind
    elapsed_s: float = 0.0
    memory_limit_bytes: int | None = None
    message: str = ""


class Rehearsal(Struct, frozen=True, kw_only=True):
    """Calls that served requests, which came one by one, at random.

    They take longer than calls of one size one right after the other, up to three times as long
    where they are short: what they need is not in the processor's caches, and others want the
    processors, too.

    Attributes:
        candidate: The way of running the model.
        rows_per_s: How many requests came a second, of one row each.
        rows: Rows of each call, none more than the candidate's batch size; those that a batch was
            padded to, where it was.
        flights: How many calls were in flight when each began, itself among them.
        times_s: Seconds of each call; NumPy in, NumPy out.
        lost_s: As of a `Measurement`.
        warm_s: Median seconds of a call of the candidate as the search times it, the mean of just
            before and just after: how fast the machine was then. None where that was not timed.
    """

    candidate: Candidate
    rows_per_s: float
    rows: tuple[Positive, ...]
    flights: tuple[Positive, ...]
    times_s: tuple[float, ...]
    lost_s: tuple[float, ...] = ()
    warm_s: float | None = None

    def __post_init__(self) -> None:
        each = self.rows, self.flights, self.times_s, self.lost_s or self.times_s
        if len(set(map(len, each))) > 1 or not self.times_s:
            raise InvalidInput("rows, flights, times_s and lost_s must hold one for each call.")
        if not 0 < self.rows_per_s < math.inf:
            raise InvalidInput(f"rows_per_s must be more than 0, but got {self.rows_per_s!r}.")
        lost_s = self.lost_s or (0.0,) * len(self.times_s)
        if not all(0 <= lost < t < math.inf for lost, t in zip(lost_s, self.times_s, strict=True)):
            raise InvalidInput("times_s must be longer than 0 seconds each, and than lost_s.")
        if self.warm_s is not None and not 0 < self.warm_s < math.inf:
            raise InvalidInput(f"warm_s must be a time in seconds, but got {self.warm_s!r}.")

    @property
    def running_s(self) -> tuple[float, ...]:
        """Seconds of each call without those in which processors were held up."""
        if not self.lost_s:
            return self.times_s
        return tuple(t - lost for t, lost in zip(self.times_s, self.lost_s, strict=True))


Outcome = Measurement | OutOfMemory | Failure
"""What a probe brings back."""

Purpose = Literal["search", "wait", "confirm"]


class Block(Struct, frozen=True):
    """One probe in its place: blocks of one round were timed side by side.

    Attributes:
        outcome: What the probe brought back.
        round: Number of the round, rising.
        purpose: "search" to find the answer; "wait" to see a disturbance end; "confirm" to
            measure the answer afresh, with the baselines.
    """

    outcome: Outcome
    round: int
    purpose: Purpose = "search"


Probe = Callable[[Candidate, float], Outcome]
"""Tries a candidate, spending about that many seconds on timed calls."""
