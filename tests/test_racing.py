"""The race: who could still change the answer, and so is timed again."""

from __future__ import annotations

import math

from autotune import Candidate, Goal, Measurement, OutOfMemory
from autotune.outcomes import Outcome
from autotune.racing import FAR, MOST_CALLS, unresolved
from autotune.standing import OFTEN
from tests.blocks import standing_of, timed

TENTH = Goal(latency_budget_s=0.1)


def test_who_looks_better_than_the_choice_is_timed_again() -> None:
    """A lucky block makes no answer, and is no reason to go on without asking again."""
    rows: list[list[Outcome]] = [[timed(64, 0.64)] for _ in range(OFTEN)]
    assert unresolved(standing_of([*rows, [timed(64, 0.64), timed(128, 1.0)]])) == [Candidate(128)]


def test_nothing_is_open_where_nothing_runs() -> None:
    """Without a choice there is no race."""
    assert unresolved(standing_of([[OutOfMemory(Candidate(1))]])) == []


def test_all_are_open_until_they_were_timed_often() -> None:
    """Two near each other are open after one round, and settled after some that agree."""
    row = [timed(64, 0.64), timed(128, 1.28)]
    assert unresolved(standing_of([row]))
    assert unresolved(standing_of([row] * 6)) == []


def test_who_is_far_behind_is_out_after_two_blocks() -> None:
    """One bad block may be a neighbour's; after a second a factor of three is the truth."""
    near, far = timed(64, 0.64), timed(32, 1.01 * 0.32 * math.exp(FAR))
    assert Candidate(32) in unresolved(standing_of([[near, far]]))
    assert Candidate(32) not in unresolved(standing_of([[near, far]] * 2))


def test_a_close_race_stays_open_under_noise() -> None:
    """At 4 % noise six rounds do not tell 64 rows from 128; what is exact enough is closed."""
    noise = [0.04, -0.04, 0.03, -0.05, 0.04, -0.02]
    rows: list[list[Outcome]] = [
        [timed(64, 0.645 * math.exp(n)), timed(128, 1.28 * math.exp(m))]
        for n, m in zip(noise, noise[1:] + noise[:1], strict=True)
    ]
    assert unresolved(standing_of(rows))
    assert unresolved(standing_of(rows * 60)) == []


def test_a_larger_one_that_may_be_much_better_is_open() -> None:
    """It is behind by luck as likely as not: three noisy blocks do not close the race."""
    rows = [[timed(64, 0.64), timed(128, 1.29 * noise)] for noise in (1.2, 0.83, 1.0)]
    standing = standing_of(rows)
    assert standing.chosen == Candidate(64)
    assert standing.gap(Candidate(128), Candidate(64)).high > 0.08
    assert Candidate(128) in unresolved(standing)


def test_a_verdict_not_yet_given_keeps_the_choice_open() -> None:
    """The choice is timed on until its tail is judged, up to so many calls."""
    block = timed(64, 0.05, calls=9)
    assert unresolved(standing_of([[block]] * 6, TENTH)) == [Candidate(64)]
    assert unresolved(standing_of([[block]] * 7, TENTH)) == []
    on_the_limit = Measurement(Candidate(64), (0.05,) * 95 + (0.2,) * 5)
    rounds = MOST_CALLS // 100
    assert unresolved(standing_of([[on_the_limit]] * (rounds - 1), TENTH)) == [Candidate(64)]
    assert unresolved(standing_of([[on_the_limit]] * rounds, TENTH)) == []


def test_a_candidate_that_does_not_fit_is_not_timed_again_for_its_tail() -> None:
    """A verdict that cannot make it the answer is not asked for."""
    rows = [[timed(64, 0.05, calls=60, peak=50), timed(128, 0.05, calls=9, peak=200)]] * 5
    standing = standing_of(rows, TENTH, 100)
    assert standing.verdict(Candidate(128)) == "undecided"
    assert unresolved(standing) == []
