"""The lanes after the first: a quick look, and doublings only where they may hold the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from autotune import Candidate, Goal, InvalidInput, Outcome, search
from autotune.bounds import Bounds
from autotune.judging import Lane, lane_of
from autotune.lanes import look_around
from autotune.outcomes import OutOfMemory
from autotune.standing import Standing
from tests.blocks import standing_of, timed
from tests.lanes import drawn
from tests.simulated import SimulatedDevice

KERAS: Lane = ("keras", 1, None)
COMPILED: Lane = ("compiled", 1, None)
PAIRS: Lane = ("compiled", 2, None)

Curve = Mapping[int, float]  # rows per second by batch size

FIRST: Curve = {size: 1000 * size / (size + 20) for size in (2**step for step in range(10))}


def known(first: Curve, *others: tuple[str, Curve], goal: Goal | None = None) -> Standing:
    """Three rounds with these sizes of the first lane and of other engines."""
    row: list[Outcome] = [timed(size, size / speed) for size, speed in first.items()]
    for engine, curve in others:
        row += [timed(size, size / speed, engine) for size, speed in curve.items()]
    return standing_of([list(row) for _ in range(3)], goal or Goal(max_batch_size=512))


def wanted(standing: Standing, *lanes: Lane, remaining_s: float = 60.0) -> list[Candidate]:
    """What the other lanes want timed next."""
    return look_around(standing, Bounds(standing, remaining_s), (KERAS, *(lanes or (COMPILED,))))


def test_a_lane_is_looked_at_where_the_first_has_its_plateau_and_far_below() -> None:
    """The first lane gains less than 5 % from 256 rows on; 32 and 4 are an eighth of it each."""
    assert wanted(known(FIRST)) == [Candidate(n, "compiled") for n in (4, 32, 256)]


def test_a_lane_that_cannot_be_the_best_is_left() -> None:
    """At half the speed and hardly rising, it would not come near with any batch."""
    assert wanted(known(FIRST, ("compiled", {8: 300, 64: 480, 512: 500}))) == []


def test_a_lane_that_still_rises_goes_on() -> None:
    """At half the speed too, but calls cost it most: a larger batch may be the best of all."""
    goal = Goal(max_batch_size=4096)
    slow_calls = {size: 2000 * size / (size + 1500) for size in (8, 64, 512)}
    assert Candidate(1024, "compiled") in wanted(known(FIRST, ("compiled", slow_calls), goal=goal))


def test_a_lane_whose_best_is_small_climbs_down() -> None:
    """Where the smallest look was the best, half of that may be better still."""
    found = wanted(known(FIRST, ("compiled", {8: 1100, 64: 900, 512: 800})))
    assert found == [Candidate(4, "compiled"), Candidate(16, "compiled")]


def test_it_ends_when_both_neighbours_of_the_best_are_known() -> None:
    """One doubling up and one down, no better: there is no more to find for doublings."""
    curve = {4: 900, 8: 1100, 16: 1000, 64: 900, 512: 800}
    assert wanted(known(FIRST, ("compiled", curve))) == []


def test_several_in_flight_wait_for_what_one_does() -> None:
    """An engine that is far too slow alone is not tried with several batches in flight."""
    assert lane_of(wanted(known(FIRST), COMPILED, PAIRS)[0]) == COMPILED
    assert all(lane_of(c) == COMPILED for c in wanted(known(FIRST), COMPILED, PAIRS))
    fast, slow = (dict.fromkeys((8, 64, 512), speed) for speed in (700.0, 100.0))
    assert Candidate(256, "compiled", concurrency=2) in wanted(
        known(FIRST, ("compiled", fast)), COMPILED, PAIRS
    )
    assert wanted(known(FIRST, ("compiled", slow)), COMPILED, PAIRS) == []


def test_a_size_that_takes_long_is_tried_only_if_it_should_win() -> None:
    """With little time left a lane behind the best does not double again."""
    curve = {8: 200, 64: 600, 512: 830}
    standing = known(FIRST, ("compiled", curve), goal=Goal(max_batch_size=4096))
    assert Candidate(1024, "compiled") in wanted(standing, remaining_s=1e5)
    assert Candidate(1024, "compiled") not in wanted(standing, remaining_s=60)


def test_a_look_that_was_disturbed_is_taken_again() -> None:
    """Nothing follows from a block that something else slowed down."""
    looks = [timed(n, n / 700, "compiled", disturbed=n == 64) for n in (8, 64, 512)]
    rounds: list[list[Outcome]] = [[b.outcome for b in known(FIRST).blocks], [*looks]]
    assert wanted(standing_of(rounds)) == [Candidate(64, "compiled")]


@pytest.mark.parametrize("disturbed", [False, True])
@pytest.mark.parametrize("done", [(256,), (32,), (4, 256), (32, 256), (4, 32)])
def test_a_look_that_was_cut_short_goes_on(done: tuple[int, ...], disturbed: bool) -> None:
    """A round has room for a few, and ends where something disturbs it: the rest comes later."""
    begun = [timed(n, n / 700, "compiled", disturbed=disturbed and n == done[-1]) for n in done]
    rounds: list[list[Outcome]] = [[b.outcome for b in known(FIRST).blocks], [*begun]]
    left = [n for n in (4, 32, 256) if n not in done]
    again = [done[-1]] if disturbed else []
    assert wanted(standing_of(rounds)) == [Candidate(n, "compiled") for n in again + left]


def test_a_look_at_two_sizes_is_not_over_after_one() -> None:
    """Where the first lane has its plateau early, the look is a short one."""
    flat = {1: 900.0, 2: 950.0, 4: 990.0, 8: 1100.0, 16: 1100.0}
    for tried, left in ((1, 8), (8, 1)):
        assert wanted(known(flat, ("compiled", {tried: 700.0}))) == [Candidate(left, "compiled")]


def test_a_lane_that_would_not_fit_is_not_begun() -> None:
    """Two batches in flight take twice the memory of the one that was measured."""
    goal = Goal(min_batch_size=128, max_batch_size=128)
    two: Lane = ("keras", 2, None)
    for limit, fits in ((2**30, True), (358 * 2**20, False)):
        standing = standing_of([[timed(128, 0.1, peak=264 * 2**20)]] * 3, goal, limit)
        assert (wanted(standing, two) == [Candidate(128, concurrency=2)]) == fits


def test_a_lane_that_failed_at_every_look_is_tried_smaller() -> None:
    """What runs out of memory in one engine may fit in smaller batches."""
    out: list[Outcome] = [OutOfMemory(Candidate(size, "compiled")) for size in (8, 64, 512)]
    standing = standing_of([[*(b.outcome for b in known(FIRST).blocks)], out], Goal())
    assert wanted(standing) == [Candidate(1, "compiled")]


@pytest.mark.parametrize("seed", range(8))
def test_the_best_of_all_lanes_is_found(seed: int) -> None:
    """On machines of two to five engines and three ways of running each, within a minute."""
    bench = drawn(seed)
    record = search(bench, Goal(max_batch_size=bench.max_rows), lanes=list(bench.curves), seed=seed)
    assert record.recommendation is not None
    found = bench.rows_per_s(record.recommendation.candidate)
    assert found > 0.9 * bench.rows_per_s(bench.best())


def test_further_lanes_cost_a_few_probes_each() -> None:
    """Eleven engines at half the speed take three looks each; the ladder is climbed once."""
    names = ("keras", *(f"engine{n}" for n in range(11)))
    device = SimulatedDevice(engine_speed=dict.fromkeys(names[1:], 0.5))
    search(device, Goal(max_batch_size=4096), engines=names)
    others = {c for c in device.tried if c.engine != "keras"}
    assert len(others) <= 3 * 11
    assert math.log2(max(c.batch_size for c in device.tried)) == 12


def test_of_one_engine_and_number_in_flight_the_threads_are_one() -> None:
    """A study's trial names engine and batches in flight; the threads follow from these."""
    lanes: list[Lane] = [("keras", 2, 1), ("keras", 2, 2)]
    with pytest.raises(InvalidInput, match="threads"):
        search(SimulatedDevice(), lanes=lanes)
