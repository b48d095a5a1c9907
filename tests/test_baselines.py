"""Baselines: measured beside the answer, where they surely run, and never the answer."""

from __future__ import annotations

import pytest

from autotune import Candidate, Failure, Goal, Measurement, Outcome, OutOfMemory, search
from autotune.baselines import DEFAULT_BATCH, Baselines
from autotune.confirming import ROUNDS
from autotune.strategy import BASELINE_ROUNDS
from autotune.studies import study_in_memory
from tests.blocks import standing_of, timed
from tests.simulated import SimulatedDevice

KERAS, PREDICT = Candidate(DEFAULT_BATCH), Candidate(1024, "predict")


def test_they_are_measured_beside_the_answer() -> None:
    """Each has its speed, with an interval, from the rounds that confirm the choice."""
    device = SimulatedDevice(engine_speed={"predict": 0.5})
    record = search(device, Goal(max_batch_size=256), baselines=[KERAS, PREDICT])
    assert [baseline.candidate for baseline in record.baselines] == [KERAS, PREDICT]
    for baseline in record.baselines:
        truth = device.rows_per_s(baseline.candidate)
        assert baseline.rows_per_s == pytest.approx(truth)
        assert baseline.rows_per_s_low is not None
        assert baseline.rows_per_s_high is not None
        assert baseline.rows_per_s_low < truth < baseline.rows_per_s_high
        assert baseline.latency_s == pytest.approx(device.latency_s(baseline.candidate))
    confirming = [a_round for a_round in record.rounds if a_round.purpose == "confirm"]
    beside = [a_round.outcomes == 3 for a_round in confirming]
    assert beside == [True] * BASELINE_ROUNDS + [False] * (ROUNDS - BASELINE_ROUNDS)


def test_they_are_timed_in_no_round_of_the_search() -> None:
    """Only the fresh measurement has them in it."""
    record = search(SimulatedDevice(), Goal(max_batch_size=64), baselines=[PREDICT])
    searched = sum(a_round.outcomes for a_round in record.rounds if a_round.purpose == "search")
    assert PREDICT not in [outcome.candidate for outcome in record.outcomes[:searched]]
    assert PREDICT in [outcome.candidate for outcome in record.outcomes[searched:]]


@pytest.mark.parametrize(("row_s", "rows"), [(1e-5, 1024), (1e-3, 128), (1e-2, 32), (1.0, 32)])
def test_they_are_cut_down_for_slow_models(row_s: float, rows: int) -> None:
    """Halved until a call takes a quarter of a second or so, but never below the usual 32 rows."""
    standing = standing_of([[timed(16, 16 * row_s), timed(64, 64 * row_s)]])
    assert Baselines([KERAS, PREDICT]).that_run(standing) == [KERAS, Candidate(rows, "predict")]


def test_they_are_cut_down_once() -> None:
    """Their size does not change while they are measured."""
    baselines = Baselines([PREDICT])
    first = baselines.that_run(standing_of([[timed(16, 0.016), timed(64, 0.064)]]))
    assert baselines.that_run(standing_of([[timed(16, 1.6), timed(64, 6.4)]])) == first


def test_they_are_skipped_where_32_rows_may_not_fit() -> None:
    """When only smaller batches went well, nobody knows whether 32 rows would."""
    assert Baselines([KERAS, PREDICT]).that_run(standing_of([[timed(16, 0.1)]])) == []
    device = SimulatedDevice(call_s=0.1, memory_bytes=40 * 2**20)
    record = search(device, baselines=[KERAS, PREDICT], budget_s=120)
    assert record.baselines == ()
    assert {candidate.engine for candidate in device.tried} == {"keras"}
    ran_out = [o.candidate.batch_size for o in record.outcomes if isinstance(o, OutOfMemory)]
    assert len(ran_out) <= 2


def test_one_that_fails_is_given_up() -> None:
    """It is tried once, and the others go on."""
    device = SimulatedDevice()

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        if candidate.engine == "predict":
            device.tried.append(candidate)
            return Failure(candidate, kind="model_error", elapsed_s=0.1)
        return device(candidate, seconds)

    record = search(probe, Goal(max_batch_size=64), baselines=[KERAS, PREDICT])
    assert [baseline.candidate for baseline in record.baselines] == [KERAS]
    assert device.tried.count(PREDICT) == 1
    assert record.recommendation is not None


@pytest.mark.parametrize("baseline", [Candidate(64, "predict"), Candidate(64), Candidate(32)])
def test_one_is_never_the_answer(baseline: Candidate) -> None:
    """However fast: of another engine, above the largest size allowed, or between the rungs."""
    device = SimulatedDevice(engine_speed={"predict": 100.0})
    goal = Goal(min_batch_size=3, max_batch_size=40)
    record = search(device, goal, baselines=[baseline])
    assert [found.candidate for found in record.baselines] == [baseline]
    assert record.recommendation is not None
    assert record.recommendation.engine == "keras"
    assert 32 < record.recommendation.batch_size <= 40
    assert baseline not in record.recommendation.tied


def test_they_are_told_again_when_nothing_is_left_to_probe() -> None:
    """A search that has used up its budget says the same of them when it is asked again."""
    study = study_in_memory()
    noisy = SimulatedDevice(call_s=1e-2, noise=0.3)
    first = search(noisy, study=study, budget_s=3, baselines=[KERAS, PREDICT])
    assert len(first.baselines) == 2
    assert isinstance(first.outcomes[-1], Measurement)
    budget_s = first.spent_s  # nothing is left of it
    again = search(noisy, study=study, budget_s=budget_s, baselines=[KERAS, PREDICT])
    assert len(again.outcomes) == len(first.outcomes)
    assert again.baselines == first.baselines
