"""Between the rungs: edges, cliffs, equal parts, and the smallest size that is good enough."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from autotune import Candidate, Goal, Measurement, Outcome, OutOfMemory, TuningRecord, search
from autotune.bounds import Bounds
from autotune.ladder import is_rung
from autotune.outcomes import Block
from autotune.refining import MOST, refine
from autotune.strategy import plan_search
from tests.blocks import standing_of, timed
from tests.simulated import SimulatedDevice

MIB = 2**20


def sizes(record: TuningRecord) -> list[int]:
    """Batch sizes that were tried, rising."""
    return sorted({outcome.candidate.batch_size for outcome in record.outcomes})


def rising(*, until: int, call_s: float = 0.1, row_s: float = 1e-3) -> list[Outcome]:
    """Doublings up to a size, on a straight line."""
    return [timed(2**k, call_s + row_s * 2**k) for k in range(until.bit_length())]


def test_nothing_is_refined_before_anything_is_known() -> None:
    """Without a choice there is nothing to refine."""
    standing = standing_of([])
    assert refine(standing, Bounds(standing, 60.0)) is None


@pytest.mark.parametrize(("noise", "joins"), [(0.03, True), (0.2, False)])
def test_no_size_joins_while_noise_hides_the_best_rung(noise: float, joins: bool) -> None:
    """What sizes between the rungs gain could not be seen, and the time is needed for the rungs."""
    random, goal = np.random.default_rng(0), Goal(min_batch_size=16, max_batch_size=64)
    noisy = np.exp(noise * random.standard_normal((6, 3)))
    calls_s = noisy * [(8 + size) / 1000 for size in (16, 32, 64)]
    rows = [list(map(timed, (16, 32, 64), row)) for row in calls_s.tolist()]
    standing = standing_of(rows, goal)
    plan = plan_search(standing, Bounds(standing, 30.0), [("keras", 1, None)])
    assert plan is not None
    assert any(not is_rung(one.batch_size, goal) for one in plan.candidates) == joins


def test_the_edge_of_memory_is_approached_from_below() -> None:
    """Sizes above the last rung stay within the limit, and come as close as a chunk can waste."""
    device = SimulatedDevice(call_s=0.1, row_s=1e-4, row_bytes=64 * 2**20)
    limit = device.base_bytes + 700 * device.row_bytes
    record = search(device, memory_limit_bytes=limit, budget_s=300)
    tried = sizes(record)
    assert 600 <= tried[-1] <= 700
    assert not any(isinstance(outcome, OutOfMemory) for outcome in record.outcomes)
    assert record.recommendation is not None
    assert record.recommendation.batch_size >= 600


def test_an_edge_that_gains_nothing_is_left_alone() -> None:
    """Where speed has long levelled off, no size beyond the last rung is tried."""
    device = SimulatedDevice(call_s=1e-6, row_s=1e-3)
    device.memory_bytes = device.base_bytes + 48 * device.row_bytes
    record = search(device, memory_limit_bytes=device.memory_bytes)
    assert sizes(record)[-1] <= 32


@pytest.mark.parametrize("lowest", [1, 7, 90])
@pytest.mark.parametrize("rows", [100, 117, 130, 179])
def test_any_edge_of_memory_can_be_approached(lowest: int, rows: int) -> None:
    """Whatever the bounds, the edge is found within an eighth, or within a step of eight."""
    device = SimulatedDevice(call_s=0.1, row_s=1e-4)
    device.memory_bytes = device.base_bytes + rows * device.row_bytes
    found = search(device, Goal(min_batch_size=lowest), budget_s=500).recommendation
    assert found is not None
    assert rows / 1.6 <= found.batch_size <= rows


def test_the_edge_of_latency_is_approached() -> None:
    """90 rows take just what is allowed: the answer lies between 80 and 90."""
    device = SimulatedDevice(call_s=1e-2, row_s=1e-3)
    record = search(device, Goal(latency_budget_s=0.1), budget_s=120)
    assert record.recommendation is not None
    assert 80 <= record.recommendation.batch_size <= 90
    assert any(85 < size <= 90 for size in sizes(record))


def test_a_cliff_is_approached() -> None:
    """The best size lies just before rows take twice as long: the search comes within an eighth."""
    device = SimulatedDevice(slow_from=231)
    record = search(device)
    assert record.recommendation is not None
    assert 231 / 1.13 <= record.recommendation.batch_size < 231


def test_for_a_job_its_equal_parts_are_tried() -> None:
    """For 1,000 rows those are 1,000/k, rounded up, around the best rung."""
    goal = Goal("makespan", rows=1000)
    standing = standing_of([rising(until=128, call_s=0.02, row_s=1e-3)] * 5, goal)
    tried: list[int] = []
    while (joiner := refine(standing, Bounds(standing, 60.0))) and len(tried) < 4:
        tried.append(joiner.batch_size)
        standing.add(Block(timed(joiner.batch_size, 0.02 + 1e-3 * joiner.batch_size), 10))
    parts = {-(-1000 // count) for count in range(1, 33)}
    assert len(tried) == 4
    assert set(tried) <= parts


@pytest.mark.parametrize(("rows", "best"), [(100, {100, 50}), (97, {97, 49}), (130, {130, 65})])
def test_a_job_is_done_in_equal_parts(rows: int, best: set[int]) -> None:
    """With a bound above the job, one batch or two halves are best, and no round number is."""
    goal = Goal("makespan", rows=rows, max_batch_size=2 * rows)
    found = search(SimulatedDevice(call_s=2e-3, row_s=1e-4), goal).recommendation
    assert found is not None
    assert found.batch_size in best


def test_the_smallest_within_the_tolerance_is_looked_for_between_rungs() -> None:
    """98 % of the best lie between two rungs: what is found is within a fifth of that size."""
    device = SimulatedDevice(call_s=1e-3, row_s=1e-4)
    found = search(device, Goal(max_batch_size=4096, tolerance=0.02)).recommendation
    assert found is not None
    truth = min(
        size
        for size in range(1, 4097)
        if device.rows_per_s(Candidate(size)) >= 0.98 * device.rows_per_s(Candidate(4096))
    )
    assert truth / 1.2 <= found.batch_size <= 1.2 * truth


def test_refining_ends() -> None:
    """However rough the curve, only so many sizes besides the rungs are tried."""

    def jagged(candidate: Candidate, seconds: float) -> Outcome:
        size = candidate.batch_size
        call_s = (1e-3 + 1e-5 * size) * (1 + 0.3 * ((size * 2654435761) % 97) / 97)
        return Measurement(candidate, (call_s,) * 5, elapsed_s=0.01)

    record = search(jagged, Goal(max_batch_size=2048), budget_s=300)
    between = [size for size in sizes(record) if size & (size - 1)]
    assert 0 < len(between) <= MOST


def test_nothing_is_refined_twice() -> None:
    """Each size that joins is new and within the bounds, until there is none left."""
    goal = Goal(min_batch_size=2, max_batch_size=64)
    standing = standing_of([rising(until=64)[1:]] * 5, goal)
    seen = set(standing.known)
    for number in itertools.count(10):
        joiner = refine(standing, Bounds(standing, 60.0))
        if joiner is None:
            break
        assert joiner not in seen
        assert 2 <= joiner.batch_size <= 64
        seen.add(joiner)
        standing.add(Block(timed(joiner.batch_size, 0.1 + 1e-3 * joiner.batch_size), number))
    assert len(seen) > 6
