"""The search: what it tries, what it may not try, and what it recommends."""

from __future__ import annotations

import math
import random

import pytest

from autotune import (
    Candidate,
    Failure,
    Goal,
    InvalidInput,
    Measurement,
    NoFeasibleBatchSize,
    Outcome,
    OutOfMemory,
    Progress,
    search,
)
from tests.simulated import SimulatedDevice


def sizes(outcomes: tuple[Outcome, ...]) -> list[int]:
    """Batch sizes in the order they were tried."""
    return [outcome.candidate.batch_size for outcome in outcomes]


def test_the_ladder_doubles_until_speed_no_longer_rises() -> None:
    """Rungs are doublings from the smallest size, and end some rungs after the best."""
    record = search(SimulatedDevice(slow_from=256), budget_s=60)
    rungs = [size for size in dict.fromkeys(sizes(record.outcomes)) if size & (size - 1) == 0]
    assert rungs == [2**k for k in range(len(rungs))]
    assert 512 <= rungs[-1] <= 2048


def test_the_smallest_size_within_the_tolerance_is_recommended() -> None:
    """A smaller batch that is as fast up to the tolerance wins, and the faster ones are tied."""
    device = SimulatedDevice(call_s=1e-4, row_s=1e-4)
    found = search(device, Goal(max_batch_size=256, tolerance=0.05)).recommendation
    assert found is not None
    fast_enough = 0.95 * max(device.rows_per_s(candidate) for candidate in device.tried)
    fitting = {c.batch_size for c in device.tried if device.rows_per_s(c) >= fast_enough}
    assert found.batch_size == min(fitting)
    assert {c.batch_size for c in found.tied} == fitting - {found.batch_size}


def test_a_memory_limit_is_approached_and_never_crossed() -> None:
    """No probe exceeds the limit, and the largest tried comes within a seventh of it."""
    device = SimulatedDevice(row_s=1e-6, row_bytes=64 * 2**20)
    limit = device.base_bytes + 700 * device.row_bytes
    record = search(device, memory_limit_bytes=limit)
    peaks = [o.peak_bytes for o in record.outcomes if isinstance(o, Measurement)]
    assert max(peak for peak in peaks if peak) <= limit
    assert max(sizes(record.outcomes)) >= 600
    assert record.recommendation is not None
    assert record.recommendation.batch_size >= 500


def test_out_of_memory_ends_a_ladder_and_is_never_recommended() -> None:
    """A size that ran out of memory bounds the search from above."""
    device = SimulatedDevice(row_s=1e-6, memory_bytes=10 * 2**20 + 600 * 2**20)
    record = search(device)
    assert record.recommendation is not None
    assert 500 <= record.recommendation.batch_size <= 600
    assert any(isinstance(outcome, OutOfMemory) for outcome in record.outcomes)


@pytest.mark.parametrize(("noise", "least"), [(0.0, 78), (0.1, 60)])
def test_a_latency_budget_holds_at_the_quantile(noise: float, least: int) -> None:
    """The recommended batch meets the budget, and the search comes close to it."""
    device = SimulatedDevice(call_s=1e-3, row_s=1e-4, noise=noise)
    found = search(device, Goal(latency_budget_s=0.010)).recommendation
    assert found is not None
    assert found.latency_quantile_s <= 0.010
    assert found.batch_size >= least  # 90 rows take just 10 ms; with that noise 73 do at 95 %


def test_a_hiccup_does_not_end_a_ladder() -> None:
    """A size that was too slow once is tried again, and the ladder goes on if it was chance."""
    device = SimulatedDevice()

    def hiccup(candidate: Candidate, seconds: float) -> Outcome:
        outcome = device(candidate, seconds)
        if candidate.batch_size == 4 and device.tried.count(candidate) == 1:
            assert isinstance(outcome, Measurement)
            return Measurement(candidate, (0.5,) * 3, elapsed_s=outcome.elapsed_s)
        return outcome

    record = search(hiccup, Goal(latency_budget_s=0.1, max_batch_size=64))
    assert record.recommendation is not None
    assert record.recommendation.batch_size == 64
    assert device.tried.count(Candidate(4)) > 1


def test_makespan_takes_equal_parts_of_the_job() -> None:
    """100 rows run best as one batch of 100 or two of 50, not in batches of 64."""
    goal = Goal("makespan", rows=100, max_batch_size=128)
    found = search(SimulatedDevice(call_s=1e-4, row_s=1e-4), goal).recommendation
    assert found is not None
    assert found.batch_size in (100, 50, 34)


def test_no_batch_is_larger_than_the_job() -> None:
    """For a job of 100 rows nothing above 100 is tried."""
    record = search(SimulatedDevice(call_s=1.0), Goal("makespan", rows=100), budget_s=300)
    assert max(sizes(record.outcomes)) == 100
    assert record.recommendation is not None
    assert record.recommendation.limited_by == "rows"


def test_the_latency_objective_takes_a_small_batch() -> None:
    """The least latency is had with the smallest batch."""
    found = search(SimulatedDevice(call_s=1e-6), Goal("latency", max_batch_size=64)).recommendation
    assert found is not None
    assert found.batch_size == 1


def test_the_faster_engine_is_found() -> None:
    """Engines compete, each at its own sizes."""
    device = SimulatedDevice(engine_speed={"compiled": 2.0})
    found = search(device, Goal(max_batch_size=64), engines=("keras", "compiled")).recommendation
    assert found is not None
    assert found.engine == "compiled"


def test_nothing_feasible_is_an_error_that_carries_the_record() -> None:
    """When no size meets the latency budget the fastest one is named, and nothing is lost."""
    with pytest.raises(NoFeasibleBatchSize, match=r"No batch size meets 10\.0 us.*1 row") as caught:
        search(SimulatedDevice(), Goal(latency_budget_s=1e-5))
    assert caught.value.record is not None
    assert len(caught.value.record.outcomes) > 0


def test_one_row_out_of_memory_is_said_in_those_words() -> None:
    """When not even the smallest batch fits, the message says so."""
    with pytest.raises(NoFeasibleBatchSize, match="No batch size fits"):
        search(SimulatedDevice(memory_bytes=1))


def test_a_model_that_always_fails_gives_its_own_reason() -> None:
    """The message of the first failure is passed on."""
    with pytest.raises(NoFeasibleBatchSize, match="No candidate ran: no such kernel"):
        search(SimulatedDevice(fails_at=lambda _size: True))


def test_a_size_that_fails_in_the_middle_stops_the_ladder() -> None:
    """A failing size is not tried again, and a smaller one is recommended."""
    record = search(SimulatedDevice(fails_at=lambda size: size >= 64))
    failures = [o for o in record.outcomes if isinstance(o, Failure)]
    assert len({o.candidate for o in failures}) == len(failures)
    assert record.recommendation is not None
    assert record.recommendation.batch_size < 64
    assert record.recommendation.limited_by == "failure"


def test_the_budget_is_exceeded_by_no_more_than_one_probe() -> None:
    """Time is the sum of what outcomes say, and no probe begins after it is spent."""
    record = search(SimulatedDevice(call_s=0.1, row_s=1e-3, noise=0.1), budget_s=10)
    *before, last = record.outcomes
    assert sum(outcome.elapsed_s for outcome in before) < 10
    assert record.spent_s == pytest.approx(sum(o.elapsed_s for o in before) + last.elapsed_s)


def test_the_same_seed_and_outcomes_give_the_same_search() -> None:
    """A search is deterministic."""
    first, second = (search(SimulatedDevice(noise=0.2, seed=3), seed=5) for _ in range(2))
    assert first.to_json() == second.to_json()


def test_the_best_are_timed_side_by_side() -> None:
    """The choice and its rivals share rounds, each once a round, in an order that changes."""
    fields: dict[frozenset[Candidate], set[tuple[Candidate, ...]]] = {}
    for seed in range(4):
        record = search(SimulatedDevice(noise=0.2, seed=seed), Goal(max_batch_size=256), seed=seed)
        outcomes = iter(record.outcomes)
        for a_round in record.rounds:
            row = tuple(next(outcomes).candidate for _ in range(a_round.outcomes))
            assert len(set(row)) == len(row)
            if a_round.purpose == "search":
                fields.setdefault(frozenset(row), set()).add(row)
        assert next(outcomes, None) is None
    assert max(map(len, fields.values())) > 1


def test_the_choice_is_measured_afresh_at_the_end() -> None:
    """A dozen rounds confirm it, after the rounds of the search."""
    record = search(SimulatedDevice(slow_from=64), budget_s=60)
    assert record.recommendation is not None
    purposes = [a_round.purpose for a_round in record.rounds]
    assert purposes[-12:] == ["confirm"] * 12
    assert purposes[0] == "search"
    fresh = record.outcomes[-12:]
    assert {outcome.candidate for outcome in fresh} == {record.recommendation.candidate}


def test_an_easy_search_is_sure_of_its_answer() -> None:
    """Without noise the answer is settled long before the budget ends."""
    record = search(SimulatedDevice(), Goal(max_batch_size=512), budget_s=60)
    assert record.recommendation is not None
    assert (record.recommendation.confidence, record.recommendation.more_s) == ("high", None)
    assert record.spent_s < 30


@pytest.mark.parametrize("seed", range(5))
def test_a_search_whose_budget_ends_first_says_how_much_more_it_needs(seed: int) -> None:
    """On a noisy device a few seconds settle nothing: confidence is low, and more_s is told."""
    noise = random.Random(seed)  # noqa: S311  noise, not a secret

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        call_s = (2e-3 + 1e-4 * candidate.batch_size) * math.exp(noise.gauss(0, 0.1))
        return Measurement(candidate, (call_s,) * 5, elapsed_s=0.1)

    found = search(probe, Goal(max_batch_size=1024), budget_s=6, seed=seed).recommendation
    assert found is not None
    assert found.confidence == "low"
    assert found.more_s is not None
    assert found.more_s > 0


def test_events_come_before_and_after_each_probe() -> None:
    """A listener sees each candidate twice: when it begins and what came of it."""
    events: list[Progress] = []
    record = search(SimulatedDevice(), Goal(max_batch_size=4), on_event=events.append)
    assert [event.outcome for event in events[1::2]] == list(record.outcomes)
    assert all(event.outcome is None for event in events[::2])
    assert events[-1].spent_s == record.spent_s


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"budget_s": 0}, "budget_s"),
        ({"budget_s": float("nan")}, "budget_s"),
        ({"engines": ()}, "engines"),
        ({"engines": "keras"}, "sequence of names"),
        ({"concurrency": (0,)}, "concurrency"),
        ({"strategy": "luck"}, "ladder, sampler"),
        ({"memory_limit_bytes": 0}, "memory_limit_bytes"),
    ],
)
def test_a_bad_argument_is_named(arguments: dict[str, object], words: str) -> None:
    """What is wrong is told before anything is tried."""
    device = SimulatedDevice()
    with pytest.raises(InvalidInput, match=words):
        search(device, **arguments)  # type: ignore[arg-type]
    assert device.tried == []
