"""What is known of one candidate, from all its probes."""

from __future__ import annotations

import math

from autotune.judging import first_call_extra_s
from autotune.outcomes import Block, Failure, Measurement

MOST_STOPS = 3  # because others took the memory, before it is given up


class Known:
    """What is known of one candidate.

    Attributes:
        parts: Its measurements.
        failed: Whether it ever ran out of memory or failed by its own fault.
        peak_bytes: Highest peak; None where it could not be read.
        left_bytes: The most that was held after a last call, as the allocator and the session
            count; 0 where they do not.
        waste_bytes: What the allocator may leave unused of a chunk.
        latency_s: Least median seconds of a call in a block; infinite before the first.
        first_call_extra_s: What its very first call took more than the slowest one after it.
        elapsed_s: Seconds of its last probe.
    """

    def __init__(self) -> None:
        self.parts: list[Measurement] = []
        self.failed = False
        self.peak_bytes: int | None = None
        self._idle_bytes: int | None = None
        self.left_bytes = 0
        self.waste_bytes = 0
        self.latency_s = math.inf
        self.first_call_extra_s = 0.0
        self.elapsed_s = 0.0
        self._stops = 0

    @property
    def is_tried(self) -> bool:
        """Whether anything is known of it; one that was stopped may be tried again."""
        return bool(self.parts) or self.failed

    @property
    def idle_bytes(self) -> int:
        """Least of what was held before its first call; 0 where that is not known."""
        return self._idle_bytes or 0

    def add(self, block: Block) -> None:
        """Take in one more probe."""
        outcome = block.outcome
        self.elapsed_s = outcome.elapsed_s
        if not isinstance(outcome, Measurement):
            stopped = isinstance(outcome, Failure) and outcome.kind == "stopped"
            self._stops += stopped
            self.failed = self.failed or not stopped or self._stops >= MOST_STOPS
            return
        if not self.parts:
            self.first_call_extra_s = first_call_extra_s(outcome)
        self.parts.append(outcome)
        self.latency_s = min(self.latency_s, outcome.latency_s)
        if outcome.peak_bytes is not None:
            self.peak_bytes = max(self.peak_bytes or 0, outcome.peak_bytes)
        self.left_bytes = max(self.left_bytes, outcome.device_left_bytes or 0)
        self.waste_bytes = max(self.waste_bytes, outcome.device_waste_bytes)
        if outcome.idle_bytes is not None:
            self._idle_bytes = min(self._idle_bytes or outcome.idle_bytes, outcome.idle_bytes)
