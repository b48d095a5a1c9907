"""Optuna's samplers in place of the ladder: any of them works, safely, and ends."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import optuna
import pytest

from autotune import Candidate, Failure, Goal, NoFeasibleBatchSize, Outcome, OutOfMemory, search
from autotune.outcomes import Block
from tests.simulated import SimulatedDevice

State = optuna.trial.TrialState
SPACE: dict[str, list[int | str]] = {
    "batch_size": [1, 2, 4, 8, 16, 32, 64, 128, 256],
    "engine": ["keras"],
    "concurrency": [1],
}
SAMPLERS: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
    "tpe": lambda: optuna.samplers.TPESampler(seed=1),
    "random": lambda: optuna.samplers.RandomSampler(seed=1),
    "grid": lambda: optuna.samplers.GridSampler(SPACE, seed=1),
}

pytestmark = pytest.mark.parametrize("name", SAMPLERS)


def study_with(name: str) -> optuna.Study:
    """A study with that sampler, in memory."""
    return optuna.create_study(direction="maximize", sampler=SAMPLERS[name]())


def test_it_finds_the_best_of_what_it_tried_and_ends(name: str) -> None:
    """Within the budget, up to the tolerance and a percent for the noise."""
    device = SimulatedDevice(noise=0.02)
    goal = Goal(max_batch_size=256)
    record = search(device, goal, study=study_with(name), strategy="sampler", budget_s=60)
    found = record.recommendation
    assert found is not None
    best = max(device.rows_per_s(candidate) for candidate in device.tried)
    assert device.rows_per_s(found.candidate) >= 0.97 * best
    assert best >= 0.7 * device.rows_per_s(Candidate(256))
    assert sum(outcome.elapsed_s for outcome in record.outcomes[:-1]) < 60


def test_each_probe_is_a_trial_with_constraints(name: str) -> None:
    """Constraints stand in every trial, and again where optuna-dashboard reads them."""
    study = study_with(name)
    device = SimulatedDevice(memory_bytes=100 * 2**20)
    record = search(device, Goal(max_batch_size=256), study=study, strategy="sampler")
    probed = [trial for trial in study.trials if "block" in trial.user_attrs]
    assert len(probed) == len(record.outcomes)
    for trial in probed:
        outcome = msgspec.json.decode(trial.user_attrs["block"], type=Block).outcome
        assert outcome in record.outcomes
        assert trial.params["batch_size"] == outcome.candidate.batch_size
        assert trial.state == State.COMPLETE
        assert set(trial.constraints) >= {"latency", "memory", "runs"}
        assert (trial.constraints["memory"] > 0) == isinstance(outcome, OutOfMemory)
        named = [trial.constraints[key] for key in ("latency", "memory", "runs")]
        assert trial.system_attrs["constraints"] == named
    assert study.best_trial.params["batch_size"] <= 90


def test_it_may_not_jump_to_a_size_that_could_end_the_run(name: str) -> None:
    """No size is more than twice the largest that went well before."""
    study = study_with(name)
    goal = Goal(max_batch_size=256)
    record = search(SimulatedDevice(), goal, study=study, strategy="sampler")
    largest = 1
    for outcome in record.outcomes:
        assert outcome.candidate.batch_size <= 2 * largest
        largest = max(largest, outcome.candidate.batch_size)


def test_it_keeps_to_the_bounds(name: str) -> None:
    """Whatever the sampler would like, only sizes within the goal's bounds are tried."""
    device = SimulatedDevice()
    goal = Goal(min_batch_size=4, max_batch_size=40)
    search(device, goal, study=study_with(name), strategy="sampler")
    assert {4} <= {c.batch_size for c in device.tried} <= set(range(4, 41))


def test_it_ends_where_nothing_runs(name: str) -> None:
    """Failures of no length use up no budget, and the search ends all the same."""
    tried: list[Candidate] = []

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        tried.append(candidate)
        return Failure(candidate, kind="timeout")

    with pytest.raises(NoFeasibleBatchSize, match="No candidate ran: timeout"):
        search(probe, Goal(max_batch_size=64), study=study_with(name), strategy="sampler")
    assert 0 < len(tried) <= 100


def test_the_same_seed_gives_the_same_search(name: str) -> None:
    """With equal samplers and outcomes, two records are equal."""
    first, second = (
        search(
            SimulatedDevice(noise=0.1, seed=2),
            Goal(max_batch_size=64),
            study=study_with(name),
            strategy="sampler",
            budget_s=5,
        )
        for _ in range(2)
    )
    assert first.to_json() == second.to_json()


def test_a_study_is_read_in_the_order_of_its_rounds(name: str) -> None:
    """Asked again with nothing left of the budget, the record has the same outcomes in order."""
    study, goal = study_with(name), Goal(max_batch_size=64)
    first = search(SimulatedDevice(), goal, study=study, strategy="sampler", budget_s=4)
    device = SimulatedDevice()
    again = search(device, goal, study=study, strategy="sampler", budget_s=first.spent_s)
    assert device.tried == []
    assert (again.outcomes, again.rounds) == (first.outcomes, first.rounds)


def test_only_lanes_that_were_asked_for_are_tried(name: str) -> None:
    """A sampler has no number of batches in flight between those of the lanes."""
    device, lanes = SimulatedDevice(), [("keras", 4, 1), ("keras", 1, None)]
    if name == "grid":  # which has a space of its own
        lanes = lanes[1:]
    search(
        device,
        Goal(max_batch_size=64),
        lanes=lanes,
        study=study_with(name),
        strategy="sampler",
        budget_s=20,
    )
    tried = {(c.engine, c.concurrency, c.threads) for c in device.tried}
    assert tried <= set(lanes)
