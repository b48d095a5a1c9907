"""The recommendation: what is chosen, what kept it from being larger, and in which words."""

from __future__ import annotations

import pytest

from autotune import Candidate, Failure, Goal, Measurement, NoFeasibleBatchSize, OutOfMemory
from autotune.outcomes import Outcome
from autotune.recommend import recommend

GIB = 2**30


def timed(size: int, call_s: float, engine: str = "keras", peak: int | None = None) -> Measurement:
    """A candidate whose calls all take the same time."""
    return Measurement(Candidate(size, engine), (call_s,) * 10, device_peak_bytes=peak)


def test_the_smallest_within_the_tolerance_is_chosen() -> None:
    """64 rows are 1 % slower than 128 and take half the memory: they are the answer."""
    outcomes = [timed(32, 0.40), timed(64, 0.6465), timed(128, 1.28)]
    found = recommend(outcomes, Goal())
    assert found.candidate == Candidate(64)
    assert found.tied == (Candidate(128),)
    assert "128 rows, keras, but by no more than the tolerance of 2%" in found.reason


def test_among_engines_at_one_size_the_faster_is_chosen() -> None:
    """At the same batch size speed decides."""
    outcomes = [timed(64, 0.100), timed(64, 0.099, "compiled")]
    assert recommend(outcomes, Goal()).engine == "compiled"


def test_among_equal_latencies_the_higher_throughput_is_chosen() -> None:
    """For the latency objective, rows per second break the tie."""
    outcomes = [timed(1, 0.0100), timed(8, 0.0101), timed(64, 0.05)]
    assert recommend(outcomes, Goal("latency")).batch_size == 8


@pytest.mark.parametrize(
    ("above", "limited_by", "words"),
    [
        (timed(64, 0.64), "plateau", "gain nothing"),
        (OutOfMemory(Candidate(64)), "memory", "raise the memory budget"),
        (timed(64, 0.5, peak=3 * GIB), "memory", "raise the memory budget"),
        (timed(64, 0.9, peak=1), "latency", r"takes longer than 600 ms at the 95% quantile"),
        (Failure(Candidate(64), kind="crash"), "failure", "its message is in the record"),
        (None, "budget", "time budget ended"),
    ],
)
def test_what_kept_the_batch_from_being_larger_is_told(
    above: Outcome | None, limited_by: str, words: str
) -> None:
    """The next larger batch says why it was not chosen."""
    budget_s = 0.6 if limited_by == "latency" else None
    outcomes: list[Outcome] = [timed(32, 0.32, peak=1)]
    found = recommend(
        [*outcomes, above] if above else outcomes, Goal(latency_budget_s=budget_s), 2 * GIB
    )
    assert (found.batch_size, found.limited_by) == (32, limited_by)
    assert words in found.reason


def test_a_forecast_that_forbade_a_size_is_a_memory_limit() -> None:
    """A size that was refused counts like one that did not fit."""
    found = recommend([timed(32, 0.32)], Goal(), GIB, {Candidate(64): 2 * GIB})
    assert found.limited_by == "memory"


def test_the_largest_that_was_allowed_is_told() -> None:
    """At the caller's own bound, that bound is named."""
    found = recommend([timed(32, 0.32)], Goal(max_batch_size=32))
    assert found.limited_by == "max_batch_size"


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ([timed(1, 0.012, peak=1)], "No batch size meets 5.00 ms: the fastest, 1 row, keras"),
        ([timed(1, 0.001, peak=3 * GIB)], "1 row, keras needs 3.00 GiB, and 2.00 GiB may be used"),
        ([OutOfMemory(Candidate(1))], "No batch size fits: 1 row, keras ran out of memory"),
        ([Failure(Candidate(1), kind="timeout")], "No candidate ran: timeout"),
        ([], "No candidate ran: the budget allowed no probe"),
    ],
)
def test_when_nothing_is_feasible_the_limit_is_named(outcomes: list[Outcome], words: str) -> None:
    """The message says what limited it, with the figures."""
    with pytest.raises(NoFeasibleBatchSize, match=words):
        recommend(outcomes, Goal(latency_budget_s=0.005), 2 * GIB)
