"""The study behind a search: what stands in it, going on from it, and whose it is."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import optuna
import pytest

from autotune import (
    EnvironmentFault,
    Goal,
    InvalidInput,
    NoFeasibleBatchSize,
    Outcome,
    open_study,
    search,
)
from autotune.ledger import Ledger
from autotune.outcomes import Block, Candidate
from autotune.recommend import rounds_of
from autotune.studies import bind, study_in_memory
from tests.simulated import SimulatedDevice

State = optuna.trial.TrialState


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """An SQLite URL that nobody has opened yet."""
    return f"sqlite:///{tmp_path / 'tune.db'}"


class Interrupted(Exception):
    """Breaks a search off, as Ctrl-C does."""


class BreakingProbe:
    """A simulated device whose search is broken off at a given probe."""

    def __init__(self, device: SimulatedDevice, at: int) -> None:
        self.device, self.left = device, at

    def __call__(self, candidate: Candidate, seconds: float) -> Outcome:
        """Try a candidate, or break off."""
        self.left -= 1
        if self.left < 0:
            raise Interrupted
        return self.device(candidate, seconds)


def test_every_probe_is_a_trial_with_its_times() -> None:
    """A trial holds candidate, value, constraints, and the block with the raw times."""
    study = study_in_memory()
    record = search(SimulatedDevice(), Goal(max_batch_size=8), study=study)
    assert len(study.trials) == len(record.outcomes)
    trial = study.trials[0]
    assert trial.params == {"batch_size": 1, "engine": "keras", "concurrency": 1}
    assert trial.value == pytest.approx(1 / (1e-3 + 1e-5))
    assert set(trial.constraints) >= {"latency", "memory", "runs"}
    block = msgspec.json.decode(trial.user_attrs["block"], type=Block)
    assert block == Block(record.outcomes[0], 1, "search")
    assert trial.user_attrs["came_of_it"] == "within the limits"
    assert trial.user_attrs["rows_per_s"] == pytest.approx(trial.value, abs=1e-3)
    assert study.metric_names == ["rows/s"]


def test_limits_are_constraints_and_not_failed_trials() -> None:
    """Out of memory is a finished trial that violates a constraint: samplers learn from it."""
    study = study_in_memory()
    search(SimulatedDevice(row_s=1e-6, memory_bytes=200 * 2**20), study=study)
    violating = [t for t in study.trials if t.constraints["memory"] > 0]
    assert violating
    assert all(trial.state == State.COMPLETE for trial in study.trials)
    assert study.best_trial not in violating


def test_a_study_is_read_as_it_was_written(storage: str) -> None:
    """Blocks come back whole and in order, with their rounds and what these were for."""
    with open_study(storage) as study:
        record = search(SimulatedDevice(), Goal(max_batch_size=4), study=study)
    with open_study(storage) as study:
        blocks = Ledger(study, [("keras", 1, None)], (1, 4)).blocks()
    assert [block.outcome for block in blocks] == list(record.outcomes)
    assert rounds_of(blocks) == record.rounds
    assert {block.purpose for block in blocks} == {"search", "confirm"}


def test_a_stopped_search_goes_on(storage: str) -> None:
    """With the same storage and name a search adds to what is known, and ends as it would have."""
    goal = Goal(max_batch_size=16)
    whole = search(SimulatedDevice(), goal, budget_s=30)
    device = SimulatedDevice()
    with open_study(storage) as study, pytest.raises(Interrupted):
        search(BreakingProbe(device, at=12), goal, budget_s=30, study=study)
    with open_study(storage) as study:
        record = search(device, goal, budget_s=30, study=study)
    assert record.recommendation is not None
    assert whole.recommendation is not None
    assert record.recommendation.candidate == whole.recommendation.candidate
    assert device.tried == [o.candidate for o in record.outcomes]
    assert len(record.outcomes) < 1.5 * len(whole.outcomes)


def test_a_search_that_has_ended_probes_no_more(storage: str) -> None:
    """Asked again, a settled search says the same from what stands in the study."""
    goal = Goal(max_batch_size=4)
    with open_study(storage) as study:
        record = search(SimulatedDevice(), goal, study=study)
    device = SimulatedDevice()
    with open_study(storage) as study:
        assert search(device, goal, study=study) == record
    assert device.tried == []


def test_a_candidate_that_kills_the_tuner_twice_is_left_alone(storage: str) -> None:
    """The third run records it as a crash and goes on without it."""
    script = (
        "import os, signal, autotune\n"
        f"with autotune.open_study({storage!r}) as study:\n"
        "    autotune.search(lambda *_: os.kill(os.getpid(), signal.SIGKILL), study=study)\n"
    )
    for _ in range(2):
        died = subprocess.run([sys.executable, "-c", script], check=False)
        assert died.returncode == -signal.SIGKILL
    device = SimulatedDevice()
    with open_study(storage) as study, pytest.raises(NoFeasibleBatchSize, match="ended 2 times"):
        search(device, Goal(max_batch_size=1), study=study)
    assert device.tried == []


def test_a_candidate_that_ran_well_did_not_kill_the_tuner(storage: str) -> None:
    """Whoever kills a tuner twice meets mostly the best candidate, which is not to blame."""
    goal, device = Goal(max_batch_size=4), SimulatedDevice()
    with open_study(storage) as study:
        answer = search(device, goal, study=study).recommendation
        assert answer is not None
        ledger = Ledger(study, [("keras", 1, None)], (1, 4))
        for _ in range(2):
            ledger.begin(answer.candidate)
            study.tell(study.trials[-1].number, state=State.FAIL)
    with open_study(storage) as study:
        again = search(device, goal, study=study).recommendation
    assert again is not None
    assert again.candidate == answer.candidate


def test_a_run_with_more_memory_is_not_held_to_what_there_was_before(storage: str) -> None:
    """To free memory and give the same command again is what the record advises."""
    goal, device = Goal(max_batch_size=256), SimulatedDevice()
    with open_study(storage) as study:
        small = search(device, goal, study=study, memory_limit_bytes=100 * 2**20)
    with open_study(storage) as study:
        large = search(device, goal, study=study, memory_limit_bytes=2**40)
    assert small.recommendation is not None
    assert large.recommendation is not None
    assert small.recommendation.batch_size < 90
    assert large.recommendation.batch_size > 128
    assert large.memory_limit_bytes == 2**40


def test_a_candidate_that_was_broken_off_is_tried_again(storage: str) -> None:
    """Ctrl-C is not the candidate's fault, however often it comes at the same one."""
    device = SimulatedDevice()
    for _ in range(3):
        with open_study(storage) as study, pytest.raises(Interrupted):
            search(BreakingProbe(device, at=0), Goal(max_batch_size=1), study=study)
    with open_study(storage) as study:
        assert search(device, Goal(max_batch_size=1), study=study).recommendation is not None
    assert device.tried[0] == Candidate(1)


def test_a_study_that_minimises_is_refused() -> None:
    """More rows per second is better, so the direction must be maximize."""
    with pytest.raises(InvalidInput, match="maximize"):
        search(SimulatedDevice(), study=optuna.create_study(direction="minimize"))


def test_a_study_belongs_to_one_model_and_goal() -> None:
    """What a study is about is written into it, and another subject is refused by name."""
    study = study_in_memory()
    bind(study, {"model": "abc", "goal": "fast"})
    bind(study, {"model": "abc", "goal": "fast"})
    with pytest.raises(InvalidInput, match="another model"):
        bind(study, {"model": "xyz", "goal": "fast"})


def test_a_study_in_use_is_refused_with_its_holder(storage: str) -> None:
    """A second tuner is told the process id of the first."""
    script = (
        "import sys, time, autotune\n"
        f"with autotune.open_study({storage!r}):\n"
        "    print('open', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        for url in (storage, storage.replace("sqlite:", "sqlite+pysqlite:")):
            with pytest.raises(EnvironmentFault, match=f"in use by process {holder.pid}"):
                open_study(url).__enter__()
        holder.kill()
    with open_study(storage) as study:  # the lock fell with its holder
        assert study.trials == []


@pytest.mark.parametrize("damage", ["text", "folder", "no such folder"])
def test_a_storage_that_cannot_be_opened_is_bad_input(tmp_path: Path, damage: str) -> None:
    """One message for all that can be wrong with a database, and the file stays as it is."""
    path = tmp_path / "tune.db"
    if damage == "text":
        path.write_text("this is no database " * 100)
    elif damage == "folder":
        path.mkdir()
    else:
        path = tmp_path / "missing" / "tune.db"
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InvalidInput, match="Cannot use the study storage"):
        open_study(f"sqlite:///{path}").__enter__()
    assert before is None or path.read_bytes() == before


def test_a_url_that_is_none_is_bad_input() -> None:
    """A storage must be a database URL."""
    with pytest.raises(InvalidInput, match="Cannot use the study storage 'rubbish'"):
        open_study("rubbish").__enter__()


def test_opening_a_study_leaves_optunas_logging_as_it_was(storage: str) -> None:
    """The library changes no global setting."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with open_study(storage):
            pass
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)


def test_trials_of_others_are_left_alone() -> None:
    """A study of the caller's may hold trials of its own; they are no outcomes."""
    study: Any = study_in_memory()
    study.add_trial(optuna.create_trial(value=1.0))
    record = search(SimulatedDevice(), Goal(max_batch_size=2), study=study)
    assert len(study.trials) == len(record.outcomes) + 1


def test_a_baseline_is_no_point_that_a_sampler_learns_from() -> None:
    """What may not be chosen is kept as a failed trial without parameters, with its block."""
    study = study_in_memory()
    predict = Candidate(64, "predict")
    record = search(SimulatedDevice(), Goal(max_batch_size=64), study=study, baselines=[predict])
    kept = [t for t in study.trials if t.user_attrs["candidate"]["engine"] == "predict"]
    assert len(kept) == [o.candidate for o in record.outcomes].count(predict) > 0
    assert all(trial.params == {} and trial.state == State.FAIL for trial in kept)


def test_a_trial_that_the_caller_enqueued_is_tried_first() -> None:
    """A study may bring wishes; those that are out of bounds are marked as failed."""
    study = study_in_memory()
    study.enqueue_trial({"batch_size": 5, "engine": "keras", "concurrency": 1})
    study.enqueue_trial({"batch_size": 9, "engine": "keras", "concurrency": 1})
    device = SimulatedDevice()
    search(device, Goal(max_batch_size=8), study=study)
    assert device.tried[:2] == [Candidate(5), Candidate(1)]
    assert study.trials[1].state == State.FAIL


@pytest.mark.parametrize("fits", [32, 128])
def test_a_wish_does_not_stand_in_for_the_ladder(fits: int) -> None:
    """Whatever comes of a wish for 64 rows, smaller sizes are tried as without it."""
    study = study_in_memory()
    study.enqueue_trial({"batch_size": 64, "engine": "keras", "concurrency": 1})
    device = SimulatedDevice(memory_bytes=(10 + fits) * 2**20)
    record = search(device, Goal(max_batch_size=128), study=study, budget_s=60)
    assert device.tried[0] == Candidate(64)
    assert {Candidate(1), Candidate(8), Candidate(32)} <= set(device.tried)
    assert record.recommendation is not None
    assert record.recommendation.batch_size <= fits


def test_two_wishes_are_both_tried() -> None:
    """Wishes are taken up in turn, before the search goes its own way."""
    study = study_in_memory()
    for size in (7, 3):
        study.enqueue_trial({"batch_size": size, "engine": "keras", "concurrency": 1})
    device = SimulatedDevice()
    search(device, Goal(max_batch_size=8), study=study)
    assert device.tried[:2] == [Candidate(7), Candidate(3)]
    assert Candidate(1) in device.tried[2:4]
