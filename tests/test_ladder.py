"""The ladder: doublings that no dip ends, and that end where nothing more is gained."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from autotune import Candidate, Failure, Goal, Measurement, Outcome, search
from autotune.bounds import Bounds, at, rounded, top_of
from autotune.goal import MOST_ROWS_PER_SECOND
from autotune.judging import Lane
from autotune.ladder import PATIENCE, anchor, climb, is_rung
from autotune.outcomes import Block
from autotune.standing import OFTEN, Standing
from tests.blocks import standing_of, timed
from tests.simulated import SimulatedDevice

KERAS: Lane = ("keras", 1, None)


def wanted(standing: Standing, remaining_s: float = 60.0, lanes: int = 1) -> set[Candidate]:
    """What the ladder wants timed next."""
    found = climb(standing, Bounds(standing, remaining_s), KERAS, lanes)
    return {at(KERAS, found), *anchor(standing)} if isinstance(found, int) else set(found)


def climbed(goal: Goal, speeds: Sequence[float], engine: str = "keras") -> list[list[Outcome]]:
    """Three rounds with rungs of so many rows per second, from the smallest size up."""
    sizes = [goal.min_batch_size * 2**step for step in range(len(speeds))]
    row = [timed(size, size / speed, engine) for size, speed in zip(sizes, speeds, strict=True)]
    return [list(row) for _ in range(3)]


def test_it_begins_with_the_smallest_size() -> None:
    """Nothing is known, so one is tried alone, and then its double beside it."""
    goal = Goal(min_batch_size=3)
    assert wanted(Standing(goal, None)) == {Candidate(3)}
    assert wanted(standing_of([[timed(3, 0.1)]], goal)) == {Candidate(3), Candidate(6)}


def test_the_next_rung_is_timed_beside_the_best_so_far() -> None:
    """So rounds can be compared with each other."""
    standing = standing_of(climbed(Goal(), [100, 150]))
    assert wanted(standing) == {Candidate(4), Candidate(2)}


def test_who_leads_after_one_block_is_timed_beside_who_is_well_known() -> None:
    """Else a lucky block would be followed by rounds with newcomers alone, and not found out."""
    known = [[timed(4, 4 / 400), timed(8, 8 / 300)] for _ in range(OFTEN)]
    standing = standing_of([*known, [timed(4, 4 / 400), timed(16, 16 / 500)]])
    assert anchor(standing) == [Candidate(16), Candidate(4)]
    assert anchor(standing_of([*known, *[[timed(16, 16 / 500)]] * OFTEN])) == [Candidate(16)]


@pytest.mark.parametrize("dip", [0.9, 0.7, 0.4])
def test_a_dip_does_not_end_it(dip: float) -> None:
    """One rung, or two, below the best of before are no plateau."""
    for speeds in ([100, 200, 400, 400 * dip], [100, 200, 400, 400 * dip, 400 * dip]):
        standing = standing_of(climbed(Goal(), speeds))
        assert Candidate(2 ** len(speeds)) in wanted(standing)


def test_after_three_rungs_without_gain_it_ends() -> None:
    """A plateau that is one beyond doubt asks for nothing more."""
    assert wanted(standing_of(climbed(Goal(), [100, 200, 400] + [402] * PATIENCE))) == set()


def test_a_plateau_in_doubt_is_timed_again() -> None:
    """Before a ladder ends, the best before and after are timed until it is sure."""
    (row, *_) = climbed(Goal(), [100, 200, 400] + [402] * PATIENCE)
    assert wanted(standing_of([row])) & {Candidate(8), Candidate(16), Candidate(32)}
    assert Candidate(4) in wanted(standing_of([row]))


def test_a_rung_that_would_take_all_the_time_is_not_tried() -> None:
    """A rung is left out where its calls would take longer than what is left."""
    standing = standing_of(climbed(Goal(), [1, 2, 4]))  # a second a batch
    assert wanted(standing, remaining_s=60.0)
    assert wanted(standing, remaining_s=3.0) == set()


def test_the_time_left_is_for_all_lanes() -> None:
    """A rung that is dear with ten more lanes to come ends a plateau that is cheap alone."""
    standing = standing_of(climbed(Goal(), [100, 200, 400, 400, 400]))  # 40 ms for the last
    assert Candidate(32) in wanted(standing)
    assert wanted(standing, lanes=10) == set()


@pytest.mark.parametrize("goal", [Goal(max_batch_size=6), Goal("makespan", rows=6)])
def test_its_last_rung_is_the_largest_allowed(goal: Goal) -> None:
    """Above 4 comes 6, if that is the bound or the whole job, and then nothing."""
    rows = climbed(goal, [100, 200, 400])
    assert Candidate(6) in wanted(standing_of(rows, goal))
    for row in rows:
        row.append(timed(6, 6 / 600))
    assert wanted(standing_of(rows, goal)) == set()


def test_a_rung_that_failed_ends_it() -> None:
    """Nothing above a size at which the model raises is tried."""
    device = SimulatedDevice(fails_at=lambda size: size == 16)
    search(device, Goal(max_batch_size=512))
    assert max(c.batch_size for c in device.tried) == 16


def test_a_rung_too_slow_by_chance_is_timed_again() -> None:
    """One block over the latency budget may be a hiccup; two full ones are not."""
    goal = Goal(latency_budget_s=0.05)
    rows = [[timed(1, 0.01), timed(2, 0.02), timed(4, 0.06)]]
    standing = standing_of(rows, goal)
    assert Candidate(4) in wanted(standing)
    standing.add(Block(timed(4, 0.06), 2))
    assert wanted(standing) == set()


def test_a_hiccup_in_the_very_first_block_does_not_end_the_search() -> None:
    """Where nothing is within the limits yet, and that may be chance, it is timed again."""
    device = SimulatedDevice()

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        outcome = device(candidate, seconds)
        if len(device.tried) > 1 or not isinstance(outcome, Measurement):
            return outcome
        slow = (0.5, 0.5, *outcome.times_s[:18])
        return Measurement(candidate, slow, elapsed_s=outcome.elapsed_s)

    found = search(probe, Goal(latency_budget_s=0.02), budget_s=20).recommendation
    assert found is not None
    assert found.batch_size > 1


def test_a_rung_that_fails_later_leaves_a_ladder_that_can_be_climbed() -> None:
    """A size that went well at first and then crashed is left out, and the search goes on."""
    device = SimulatedDevice(call_s=1e-7, row_s=1e-4)

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        outcome = device(candidate, seconds)
        if candidate == Candidate(1) and device.tried.count(candidate) == 3:
            return Failure(candidate, kind="crash", elapsed_s=0.1)
        return outcome

    found = search(probe, Goal(max_batch_size=64)).recommendation
    assert found is not None
    assert found.batch_size == 2


def test_a_dip_and_a_cliff_are_passed_by_a_search() -> None:
    """Beyond a dip at 32 and 64 rows lies the best size: the search finds it."""

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        size = candidate.batch_size
        call_s = (1e-3 + 1e-4 * size) * (1.5 if 24 <= size < 100 else 1.0)
        return Measurement(candidate, (call_s,) * 5, elapsed_s=0.1)

    found = search(probe, Goal(max_batch_size=1024)).recommendation
    assert found is not None
    assert found.batch_size > 100


def test_rungs_are_doublings_of_the_smallest_size() -> None:
    """And the largest allowed."""
    goal = Goal(min_batch_size=3, max_batch_size=50)
    assert [size for size in range(1, 60) if is_rung(size, goal)] == [3, 6, 12, 24, 48, 50]


def test_no_batch_is_larger_than_the_job_or_its_bound() -> None:
    """Except that the smallest allowed is always allowed."""
    assert top_of(Goal(max_batch_size=50)) == 50
    assert top_of(Goal("makespan", rows=30, max_batch_size=50)) == 30
    assert top_of(Goal("makespan", rows=30, min_batch_size=40)) == 40
    assert top_of(MOST_ROWS_PER_SECOND) >= 2**20


def test_sizes_between_are_multiples_of_eight() -> None:
    """From 16 rows on; below, every size may be tried."""
    assert [rounded(size) for size in (7.9, 15, 16, 23.9, 100)] == [7, 15, 16, 16, 96]


def test_a_measured_peak_over_the_limit_does_not_forbid_smaller_sizes() -> None:
    """A forecast rests on what fits: 96 rows are allowed although 128 took too much."""
    rows = [[timed(64, 0.64, peak=6000 * 2**20), timed(128, 1.28, peak=11000 * 2**20)]]
    standing = standing_of(rows, Goal(), 10000 * 2**20)
    assert Bounds(standing, 60.0).allow(KERAS, 80)
    assert not Bounds(standing, 60.0).allow(KERAS, 120)
    assert at(KERAS, 80) == Candidate(80)
