"""What the answer is compared with: measured beside it, afresh, and never chosen."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from autotune.confirming import Confirmation
from autotune.judging import speed_of
from autotune.outcomes import Candidate
from autotune.records import Baseline
from autotune.standing import Standing

DEFAULT_BATCH = 32  # of `model.predict`
LONGEST_CALL_S = 0.25  # a baseline is cut to fewer rows that take no longer


class Baselines:
    """Candidates to compare the answer with.

    Args:
        candidates: As large as they should be, if the model is fast enough.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = candidates
        self._cut: list[Candidate] | None = None

    def __len__(self) -> int:
        return len(self._candidates)

    def that_run(self, standing: Standing) -> list[Candidate]:
        """Those that are known to fit in memory, cut to what does not take too long."""
        if self._cut is None:
            self._cut = self._cut_down(standing)
        known = standing.known
        return [c for c in self._cut if c not in known or not known[c].failed]

    def _cut_down(self, standing: Standing) -> list[Candidate]:
        small = [c for c in standing.allowed if c.batch_size <= DEFAULT_BATCH]
        largest = max((c.batch_size for c in standing.allowed), default=0)
        if not small or largest < DEFAULT_BATCH:
            return []  # 32 rows might not fit
        nearest = max(small, key=lambda c: c.batch_size)
        rows = max(DEFAULT_BATCH, int(LONGEST_CALL_S * speed_of(standing.measured[nearest])))
        cut = []
        for candidate in self._candidates:
            size = candidate.batch_size
            while size > DEFAULT_BATCH and size > rows:
                size //= 2
            cut.append(msgspec.structs.replace(candidate, batch_size=size))
        return cut

    def measured(self, standing: Standing, chosen: Candidate) -> tuple[Baseline, ...]:
        """What came of them, from the same quiet rounds as the choice's own figures."""
        confirmation = Confirmation(standing, chosen)
        found = []
        for candidate in self.that_run(standing):
            speed, times = confirmation.speed(candidate), confirmation.measurement(candidate)
            if speed and times:
                found.append(
                    Baseline(
                        candidate=candidate,
                        rows_per_s=speed.rows_per_s,
                        rows_per_s_low=speed.low,
                        rows_per_s_high=speed.high,
                        latency_s=times.latency_s,
                    )
                )
        return tuple(found)
