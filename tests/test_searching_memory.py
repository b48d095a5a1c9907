"""Searching while others take memory: the limit falls, a stopped probe is tried again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autotune import Candidate, Failure, Goal, Measurement, NoFeasibleBatchSize, Outcome, search

MIB = 2**20
PER_ROW = MIB


def measured(candidate: Candidate, seconds: float, limit_bytes: int | None) -> Measurement:
    """A device on which a batch takes 1 ms and 10 us a row, and 1 MiB a row."""
    call_s = 0.001 + 0.00001 * candidate.batch_size
    return Measurement(
        candidate,
        (call_s,) * 5,
        elapsed_s=seconds,
        device_peak_bytes=candidate.batch_size * PER_ROW,
        memory_limit_bytes=limit_bytes,
    )


def stopped(candidate: Candidate, limit_bytes: int) -> Failure:
    """A probe that the watch has ended."""
    return Failure(
        candidate, kind="stopped", elapsed_s=0.1, memory_limit_bytes=limit_bytes, message="short"
    )


def device(answer: Callable[[int, Candidate, float], Outcome]) -> Callable[..., Outcome]:
    """A probe that knows how often it was asked."""
    asked = iter(range(10**6))
    return lambda candidate, seconds: answer(next(asked), candidate, seconds)


def test_the_answer_fits_beside_whoever_came() -> None:
    """Once others have taken memory, the answer fits in what they left, and no more is tried."""

    def answer(number: int, candidate: Candidate, seconds: float) -> Outcome:
        if number < 12:
            return measured(candidate, seconds, 4096 * MIB)
        assert candidate.batch_size <= 100 or number < 14
        return measured(candidate, seconds, 100 * MIB)

    record = search(device(answer), Goal(max_batch_size=2048), memory_limit_bytes=4096 * MIB)
    assert record.recommendation is not None
    assert record.recommendation.batch_size <= 100
    assert record.recommendation.limited_by == "memory"
    assert record.memory_limit_bytes == 100 * MIB


def test_a_stopped_probe_is_tried_again() -> None:
    """A candidate that was stopped is not to blame: later it may be the answer."""
    stops: dict[int, int] = {}

    def answer(number: int, candidate: Candidate, seconds: float) -> Outcome:
        size = candidate.batch_size
        if size == 256 and stops.setdefault(size, 0) < 2:
            stops[size] += 1
            return stopped(candidate, 4096 * MIB)
        return measured(candidate, seconds, 4096 * MIB)

    record = search(device(answer), Goal(max_batch_size=256), memory_limit_bytes=4096 * MIB)
    assert stops == {256: 2}
    assert record.recommendation is not None
    assert record.recommendation.batch_size == 256


def test_a_probe_that_is_always_stopped_is_given_up() -> None:
    """Three stops of a candidate are enough; the answer is the best below it."""

    def answer(number: int, candidate: Candidate, seconds: float) -> Outcome:
        if candidate.batch_size > 64:
            return stopped(candidate, 4096 * MIB)
        return measured(candidate, seconds, 4096 * MIB)

    record = search(device(answer), Goal(max_batch_size=128), memory_limit_bytes=4096 * MIB)
    assert record.recommendation is not None
    assert record.recommendation.batch_size == 64
    stops = [o for o in record.outcomes if isinstance(o, Failure) and o.candidate.batch_size == 128]
    assert len(stops) == 3
    assert record.recommendation.limited_by == "memory"


def test_nothing_that_runs_is_an_error_with_the_reason() -> None:
    """Where every probe is stopped, the error says by what."""
    with pytest.raises(NoFeasibleBatchSize, match="short"):
        search(lambda candidate, _: stopped(candidate, 0))


def test_forecasts_stand_beside_what_came() -> None:
    """Each size has its bound and its peak, a refused one its bound and the limit."""
    limit = 300 * MIB
    record = search(
        lambda candidate, seconds: measured(candidate, seconds, None),
        Goal(max_batch_size=2048),
        memory_limit_bytes=limit,
    )
    met = [f for f in record.forecasts if f.peak_bytes is not None]
    refused = [f for f in record.forecasts if f.peak_bytes is None]
    assert met
    assert all((f.peak_bytes or 0) <= f.upper_bound_bytes for f in met)
    assert refused
    assert all(f.upper_bound_bytes > limit == f.limit_bytes for f in refused)
    assert max(f.candidate.batch_size for f in met) < min(f.candidate.batch_size for f in refused)


def test_what_stays_of_large_batches_is_expected_of_those_that_come_later() -> None:
    """A session that keeps a tenth of its largest batch breaks no bound."""
    kept = {1: 0, 2: 0}

    def keeping(candidate: Candidate, seconds: float) -> Measurement:
        """A size is worth trying up to 300 rows; each row takes a megabyte."""
        idle, needed = kept[candidate.concurrency], candidate.batch_size * MIB
        kept[candidate.concurrency] = max(idle, needed // 10)
        call_s = 1e-3 * max(1, candidate.batch_size / 300)
        return Measurement(
            candidate,
            (call_s,) * max(3, int(seconds / call_s)),
            span_s=None if candidate.concurrency == 1 else seconds,
            elapsed_s=seconds,
            device_peak_bytes=idle + needed,
            device_idle_bytes=idle,
            device_left_bytes=kept[candidate.concurrency],
        )

    record = search(keeping, Goal(max_batch_size=2048), concurrency=(1, 2), budget_s=20)
    met = [f for f in record.forecasts if f.peak_bytes is not None]
    assert min(f.candidate.batch_size for f in met[8:]) < 1024
    assert [f for f in met if (f.peak_bytes or 0) > f.upper_bound_bytes] == []
