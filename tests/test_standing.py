"""Where a search stands: verdicts, limits, and who is chosen."""

from __future__ import annotations

import pytest

from autotune import Candidate, Failure, Goal, Measurement, OutOfMemory
from autotune.outcomes import Block, Outcome
from autotune.standing import OFTEN, Standing
from tests.blocks import blocks_of, standing_of, timed

TENTH = Goal(latency_budget_s=0.1)


@pytest.mark.parametrize(("quantile", "calls"), [(0.9, 29), (0.95, 59), (0.99, 299)])
def test_a_budget_at_a_quantile_needs_so_many_calls(quantile: float, calls: int) -> None:
    """With no call over the budget, one call less than that is undecided; so they add up."""
    goal = Goal(latency_budget_s=0.1, quantile=quantile)
    first, rest, one = (timed(8, 0.05, calls=n) for n in (10, calls - 11, 1))
    standing = standing_of([[first], [rest]], goal)
    assert standing.verdict(Candidate(8)) == "undecided"
    assert standing.allows(Candidate(8))
    standing.add(Block(one, 3))
    assert standing.verdict(Candidate(8)) == "pass"


def test_without_a_budget_every_verdict_is_a_pass() -> None:
    """One call is enough where nothing is asked of the tail."""
    assert standing_of([[timed(8, 9.0, calls=1)]]).verdict(Candidate(8)) == "pass"


def test_a_hiccup_in_one_block_alone_is_never_a_failure() -> None:
    """All calls of a block may have met the same neighbour: it takes a second block to fail."""
    slow = timed(8, 0.5, calls=50)
    standing = standing_of([[slow]], TENTH)
    assert standing.verdict(Candidate(8)) == "undecided"
    assert not standing.allows(Candidate(8))
    standing.add(Block(slow, 2))
    assert standing.verdict(Candidate(8)) == "fail"


def test_a_hiccup_is_outweighed_by_calls_that_went_well() -> None:
    """Once few enough of all calls were over the budget, the candidate is allowed again."""
    standing = standing_of([[timed(8, 0.5, calls=3)], [timed(8, 0.05, calls=200)]], TENTH)
    assert standing.allows(Candidate(8))
    assert standing.verdict(Candidate(8)) == "pass"


def test_the_smallest_within_the_tolerance_is_chosen() -> None:
    """64 rows are 1 % slower than 128, and 32 rows are 5 %."""
    row = [timed(32, 32 / 0.95), timed(64, 64 / 0.99), timed(128, 128.0)]
    standing = standing_of([row] * 6)
    assert standing.best == Candidate(128)
    assert standing.chosen == Candidate(64)
    assert standing_of([row] * 6, Goal(tolerance=0.06)).chosen == Candidate(32)
    assert standing_of([row] * 6, Goal(tolerance=0)).chosen == Candidate(128)


def test_the_best_of_a_slow_round_is_not_the_worst() -> None:
    """A candidate that was timed beside a neighbour is judged by who shared the round."""
    rows = [[timed(64, 0.64), timed(128, 1.28)]] * 4
    rows += [[timed(64, 2 * 0.64), timed(256, 2 * 2.56 / 1.2)]] * 4
    assert standing_of(rows).chosen == Candidate(256)


@pytest.mark.parametrize(
    "trouble",
    [OutOfMemory(Candidate(128)), Failure(Candidate(128), kind="timeout"), timed(128, 1, peak=101)],
)
def test_what_is_not_allowed_is_never_chosen(trouble: Outcome) -> None:
    """One failure, or one peak over the limit, rules a candidate out, however fast it was."""
    rows: list[list[Outcome]] = [[timed(64, 0.64, peak=50), timed(128, 0.1, peak=100)]] * 5
    assert standing_of(rows, Goal(), 100).chosen == Candidate(128)
    standing = standing_of([*rows, [trouble]], Goal(), 100)
    assert standing.chosen == Candidate(64)
    assert Candidate(128) not in standing.allowed


def test_disturbance_that_never_ends_is_how_the_machine_is() -> None:
    """Nearly all blocks disturbed means no difference; some of them disturbed means one."""
    noisy, calm = timed(64, 0.64, disturbed=True), timed(64, 0.64)
    assert standing_of([[noisy]] * 20).is_always_disturbed
    assert not standing_of([[noisy]] * 8 + [[calm]] * 2).is_always_disturbed
    assert not standing_of([[calm]] * 5).is_always_disturbed


def test_half_of_the_calls_disturbed_make_a_disturbed_block() -> None:
    """A single disturbed call of ten leaves the block as it is."""
    for disturbed, flag in ((4, False), (5, True)):
        block = Measurement(Candidate(8), (0.1,) * 10, disturbed=disturbed)
        ((_, found),) = standing_of([[block]]).rounds[1].values()
        assert found == flag


def test_a_makespan_is_that_of_the_whole_job() -> None:
    """For 100 rows, 50 beat the faster 64, which need a second batch of 36."""
    row = [timed(50, 0.50), timed(64, 0.63), timed(36, 0.40)]
    standing = standing_of([row] * 5, Goal("makespan", rows=100))
    assert standing.best == Candidate(50)
    assert standing_of([row] * 5).best == Candidate(64)


def test_a_makespan_counts_what_the_first_call_compiled() -> None:
    """Ten seconds of compilation outweigh a speed twice as high for a short job only."""
    slow = Measurement(Candidate(8), (0.2,) * 5, first_call_s=0.2)
    compiled = Measurement(Candidate(8, "compiled"), (0.1,) * 5, first_call_s=10.1)
    for rows, best in ((80, slow), (80_000, compiled)):
        standing = standing_of([[slow, compiled]] * 5, Goal("makespan", rows=rows))
        assert standing.best == best.candidate


def test_one_by_one_or_at_once_a_standing_is_the_same() -> None:
    """What follows from the blocks is worked out anew after each."""
    blocks = blocks_of([[timed(64, 0.64), timed(128, 1.2)], [timed(64, 0.65)]])
    standing = Standing(Goal(), None, blocks[:1])
    assert standing.best == Candidate(64)
    for block in blocks[1:]:
        standing.add(block)
    at_once = Standing(Goal(), None, blocks)
    assert standing.best == at_once.best == Candidate(128)
    assert standing.levels == at_once.levels


def test_who_was_timed_once_is_not_believed_before_who_was_timed_often() -> None:
    """A lucky block does not make the answer while others have been timed three times."""
    rows: list[list[Outcome]] = [[timed(64, 0.64)] for _ in range(OFTEN)]
    standing = standing_of([*rows, [timed(64, 0.64), timed(128, 1.0)]])
    assert standing.chosen == Candidate(64)


def test_a_baseline_is_never_chosen() -> None:
    """It is timed in rounds that confirm, never in the search, however fast it is."""
    rows: list[list[Outcome]] = [[timed(64, 0.64)]] * 5
    fresh = [[timed(64, 0.64), timed(48, 0.01), timed(32, 0.01, "predict")]] * 5
    standing = standing_of(rows, confirming=fresh)
    assert (standing.chosen, standing.best) == (Candidate(64), Candidate(64))
    assert standing.allowed == [Candidate(64)]


def test_nothing_measured_is_nothing_chosen() -> None:
    """With failures only there is no best, no choice, and nothing to resolve."""
    standing = standing_of([[OutOfMemory(Candidate(1))], [Failure(Candidate(1), kind="crash")]])
    assert (standing.best, standing.chosen) == (None, None)
    assert standing.fit.levels == {}
