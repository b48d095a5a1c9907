"""The recommendation among fewer: where the tuned engine or its threads are not to be had."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from autotune.engines import REFERENCE
from autotune.errors import NoFeasibleBatchSize
from autotune.outcomes import Candidate
from autotune.recommend import recommend
from autotune.records import Recommendation, TuningRecord
from autotune.standing import Standing


def recommendation_among(
    record: TuningRecord, is_usable: Callable[[Candidate], bool]
) -> Recommendation:
    """Choose again among what was measured, without another probe.

    Args:
        record: A tuning run with a recommendation.
        is_usable: Whether batches can be run as a candidate says.

    Returns:
        The best that is usable; where none was within the limits, the recommended batch size
        through the reference, one batch at a time.
    """
    tried = {outcome.candidate for outcome in record.outcomes}
    usable = {candidate for candidate in tried if is_usable(candidate)}
    blocks = [block for block in record.blocks() if block.outcome.candidate in usable]
    try:
        return recommend(Standing(record.goal, record.memory_limit_bytes, blocks))
    except NoFeasibleBatchSize:
        assert record.recommendation is not None  # noqa: S101  a record in use has one
        return msgspec.structs.replace(
            record.recommendation,
            engine=REFERENCE,
            concurrency=1,
            threads=None,
            confidence="low",
            makespan_s=None,
        )
