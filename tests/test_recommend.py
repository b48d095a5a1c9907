"""The recommendation: what is chosen, what kept it from being larger, and in which words."""

from __future__ import annotations

import pytest

from autotune import Candidate, Failure, Goal, NoFeasibleBatchSize, OutOfMemory
from autotune.goal import MOST_ROWS_PER_SECOND
from autotune.outcomes import Outcome
from autotune.recommend import recommend, rounds_of
from autotune.records import Recommendation, Round
from tests.blocks import blocks_of, standing_of, timed

GIB = 2**30


def recommended(
    outcomes: list[Outcome], goal: Goal = MOST_ROWS_PER_SECOND, limit: int | None = None
) -> Recommendation:
    """What is recommended after five rounds of these outcomes."""
    return recommend(standing_of([outcomes] * 5, goal, limit))


def test_the_smallest_within_the_tolerance_is_chosen() -> None:
    """64 rows are 1 % slower than 128 and take half the memory: they are the answer."""
    found = recommended([timed(32, 0.40), timed(64, 0.6465), timed(128, 1.28)])
    assert found.candidate == Candidate(64)
    assert found.tied == (Candidate(128),)
    assert "128 rows, keras, but by no more than the tolerance of 2%" in found.reason


def test_among_engines_at_one_size_the_faster_is_chosen() -> None:
    """At the same batch size speed decides."""
    outcomes: list[Outcome] = [timed(64, 0.100), timed(64, 0.099, "compiled")]
    assert recommended(outcomes).engine == "compiled"


def test_among_equal_latencies_the_higher_throughput_is_chosen() -> None:
    """For the latency objective, rows per second break the tie."""
    outcomes: list[Outcome] = [timed(1, 0.0100), timed(8, 0.0101), timed(64, 0.05)]
    assert recommended(outcomes, Goal("latency")).batch_size == 8


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
    outcomes += [above] if above else []
    found = recommended(outcomes, Goal(latency_budget_s=budget_s), 2 * GIB)
    assert (found.batch_size, found.limited_by) == (32, limited_by)
    assert words in found.reason


def test_a_forecast_that_forbade_a_size_is_a_memory_limit() -> None:
    """A size that was refused counts like one that did not fit."""
    standing = standing_of([[timed(32, 0.32)]], Goal(), GIB)
    found = recommend(standing, {Candidate(64): 2 * GIB})
    assert found.limited_by == "memory"


def test_the_largest_that_was_allowed_is_told() -> None:
    """At the caller's own bound, that bound is named."""
    found = recommended([timed(32, 0.32)], Goal(max_batch_size=32))
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
        recommended(outcomes, Goal(latency_budget_s=0.005), 2 * GIB)


def test_only_a_settled_and_confirmed_choice_is_sure() -> None:
    """Confidence is high where the search was settled and enough fresh rounds were quiet."""
    pair = [timed(32, 0.4), timed(64, 0.64)]
    fresh = [[timed(64, 0.64)]] * 6
    assert recommend(standing_of([pair] * 5, confirming=fresh)).confidence == "high"
    assert (
        recommend(standing_of([pair] * 5, confirming=fresh), pending=[Candidate(256)]).confidence
        == "low"
    )
    assert recommend(standing_of([pair] * 5, confirming=fresh[:5])).confidence == "low"


def test_an_undecided_tail_is_not_sure() -> None:
    """For p95 within the budget 59 calls are needed: with fewer, confidence is low."""
    goal = Goal(latency_budget_s=0.1)
    for calls, confidence in ((4, "low"), (5, "high")):
        block = timed(32, 0.09, calls=calls)
        standing = standing_of([[block]] * 6, goal, confirming=[[block]] * 6)
        assert recommend(standing).confidence == confidence


def test_how_much_more_time_would_settle_it_is_told() -> None:
    """Where candidates are still open, more_s is positive, and None once it is settled."""
    even = [timed(64, 0.640), timed(128, 1.270)]
    assert (recommend(standing_of([even]), pending=[Candidate(256)]).more_s or 0) > 0
    assert recommend(standing_of([even] * 5, confirming=[[even[0]]] * 12)).more_s is None


def test_the_published_figures_are_fresh() -> None:
    """Speed and median latency come from the confirmation, the quantile from all calls."""
    pair = [timed(32, 0.40), timed(64, 0.64)]
    found = recommend(standing_of([pair] * 5, confirming=[[timed(64, 0.65)]] * 12))
    assert found.rows_per_s == pytest.approx(64 / 0.65)
    assert found.latency_s == 0.65
    assert recommend(standing_of([pair] * 5)).latency_s == 0.64


def test_rounds_are_told_with_what_disturbed_them() -> None:
    """A round counts its outcomes, and those of them of which half the calls were disturbed."""
    blocks = blocks_of(
        [[timed(1, 0.1), timed(2, 0.2, disturbed=True)], [OutOfMemory(Candidate(4))]]
    ) + blocks_of([[timed(2, 0.2)]], "confirm", 3)
    assert rounds_of(blocks) == (
        Round("search", 2, 1),
        Round("search", 1, 0),
        Round("confirm", 1, 0),
    )


def test_the_published_tail_is_the_one_that_is_judged() -> None:
    """A disturbed block counts neither against the latency budget nor in the published tail."""
    slow = timed(64, 0.9, calls=20, disturbed=True)
    rounds = [[timed(64, 0.09, calls=20)]] * 5 + [[slow]]
    found = recommend(standing_of(rounds, Goal(latency_budget_s=0.1)))
    assert found.latency_quantile_s == pytest.approx(0.09)


@pytest.mark.parametrize(("quantile", "text"), [(0.999, "99.9%"), (0.975, "97.5%"), (0.5, "50%")])
def test_quantiles_and_tolerances_are_told_as_they_are(quantile: float, text: str) -> None:
    """None is rounded to whole percents: 99.9 % is not the slowest call of all."""
    goal = Goal(latency_budget_s=1e-3, quantile=quantile)
    with pytest.raises(NoFeasibleBatchSize, match=f"at the {text} quantile"):
        recommended([timed(8, 0.1, calls=100)], goal)
    found = recommended([timed(32, 0.400), timed(64, 0.798)], Goal(tolerance=0.005))
    assert "by no more than the tolerance of 0.5%" in found.reason


def test_an_answer_that_others_stopped_once_is_still_one() -> None:
    """Without a fresh measurement its figures are those of the blocks that ended."""
    stopped = Failure(Candidate(8), kind="stopped", message="Others took the memory.")
    found = recommend(standing_of([[stopped], [timed(8, 0.01)], [timed(8, 0.01)]]))
    assert found.candidate == Candidate(8)
    assert found.rows_per_s == pytest.approx(800)


def test_what_failed_later_is_not_told_as_too_slow() -> None:
    """Nobody gave a latency budget: the reason is what ended the only candidate."""
    rounds: list[list[Outcome]] = [[timed(8, 0.001, peak=1)], [OutOfMemory(Candidate(8))]]
    with pytest.raises(NoFeasibleBatchSize, match="8 rows, keras ran out of memory"):
        recommend(standing_of(rounds))
    rounds = [[timed(8, 0.001, peak=1)], [Failure(Candidate(8), kind="crash")]]
    with pytest.raises(NoFeasibleBatchSize, match="16 rows, keras ran out of memory"):
        recommend(standing_of([*rounds, [OutOfMemory(Candidate(16))]]))
    stopped = Failure(Candidate(8), kind="stopped", message="Others took the memory.")
    with pytest.raises(NoFeasibleBatchSize, match=r"No batch size meets 1\.00 ms"):
        recommend(standing_of([[timed(8, 0.1, calls=100)], [stopped]], Goal(latency_budget_s=1e-3)))
    crash = Failure(Candidate(8), kind="crash", message="Segmentation fault.")
    with pytest.raises(NoFeasibleBatchSize, match="No candidate ran: Segmentation fault"):
        recommend(standing_of([[timed(8, 0.001, peak=1)], [crash]]))
