"""Ctrl-C, kill -9 and a second tuner, in the middle of a run."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import pytest

from tests.bad_files import autotune, environment, everything_in
from tests.waiting import is_gone, wait_until

LONG = "tune model.keras --sample rows.npy --out tuned --engine keras --concurrency 1"
STUDY = f"{LONG} --storage sqlite:///study.db"
FINISHED = """
    select value_json from trial_user_attributes join trials using (trial_id)
    where key = 'block' and state = 'COMPLETE' order by trial_id
"""


@pytest.fixture
def place(
    tmp_path: Path, save: Callable[..., Path], mlp: Any, rows: np.ndarray[Any, Any]
) -> Iterator[Path]:
    """A folder with a model, rows, and a folder for temporary files."""
    save(mlp)
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "tmp").mkdir()
    yield tmp_path
    for process in psutil.Process().children():  # of a test that failed
        with contextlib.suppress(psutil.Error):  # it ends by itself meanwhile
            if process.cwd() == str(tmp_path):
                process.kill()


def start(place: Path, line: str) -> subprocess.Popen[str]:
    """Start the command, in a session of its own."""
    command = [sys.executable, "-m", "autotune.cli", *line.split()]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        stdout=pipe,
        stderr=pipe,
        text=True,
        cwd=place,
        env=environment(place),
        start_new_session=True,
    )


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All processes below one."""
    found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return found


def finished(place: Path) -> list[Any]:
    """Outcomes of the finished trials in the study, in their order."""
    if not (place / "study.db").exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{place}/study.db?mode=ro", uri=True)) as db:
        try:
            return [json.loads(json.loads(value))["outcome"] for (value,) in db.execute(FINISHED)]
        except sqlite3.OperationalError:  # the tables are not there yet
            return []


def test_ctrl_c_while_loading_leaves_nothing(place: Path) -> None:
    """One line, exit code 130, no process and no file: as if the command had never run."""
    before = everything_in(place)
    tuner = start(place, f"{LONG} --json")
    children = wait_until(lambda: children_of(tuner))
    tuner.send_signal(signal.SIGINT)
    out, err = tuner.communicate(timeout=120)
    assert (tuner.returncode, out, err) == (130, "", "Interrupted.\n")
    wait_until(lambda: all(map(is_gone, children)))
    assert everything_in(place) == before


def test_ctrl_c_while_measuring_keeps_only_the_study(place: Path) -> None:
    """One line, exit code 130, no process; the study that was asked for keeps its trials."""
    before = everything_in(place)
    tuner = start(place, STUDY)
    known = wait_until(lambda: finished(place))
    children = children_of(tuner)
    tuner.send_signal(signal.SIGINT)
    out, err = tuner.communicate(timeout=120)
    assert (tuner.returncode, out, err) == (130, "", "Interrupted.\n")
    wait_until(lambda: all(map(is_gone, children)))
    assert set(everything_in(place)) - set(before) == {"study.db", "study.db.lock"}
    assert finished(place)[: len(known)] == known


def test_a_killed_run_goes_on_where_it_was(place: Path) -> None:
    """After kill -9 the same command keeps the earlier trials, adds to them and finishes."""
    command = f"{STUDY} --budget 8s --max-batch-size 8 --json"
    tuner = start(place, command)
    wait_until(lambda: len(finished(place)) >= 2)
    children = children_of(tuner)
    tuner.kill()
    tuner.communicate(timeout=120)
    assert tuner.returncode == -signal.SIGKILL
    wait_until(lambda: all(map(is_gone, children)))
    assert not (place / "tuned").exists()
    known = finished(place)
    done = autotune(place, command)
    assert done.returncode in (0, 3), done.stderr  # 3: not settled in so short a time
    assert done.stderr == "Tuned predictor written to tuned: autotune.load('tuned')\n"
    outcomes = json.loads(done.stdout)["outcomes"]
    assert outcomes[: len(known)] == known
    assert len(outcomes) > len(known)
    assert autotune(place, "show tuned").returncode == 0


def test_a_run_killed_before_its_first_trial_began_is_no_burden(place: Path) -> None:
    """A trial that was planned and never begun neither warns nor shifts the ones after it."""
    url = f"sqlite:///{place}/study.db"
    study = optuna.create_study(storage=url, study_name="autotune", direction="maximize")
    study.enqueue_trial({"batch_size": 999, "engine": "compiled", "concurrency": 2})
    study._storage.remove_session()
    done = autotune(
        place, f"{LONG} --storage {url} --budget 1s --max-batch-size 8 --engine compiled"
    )
    assert done.returncode in (0, 3), done.stderr
    assert done.stderr == "Tuned predictor written to tuned: autotune.load('tuned')\n"
    for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        candidate = trial.user_attrs["candidate"]
        assert trial.params == {key: candidate[key] for key in trial.params}


def test_a_second_tuner_is_turned_away(place: Path) -> None:
    """A study in use is a fault of the environment: exit code 4 and the holder's number."""
    first = start(place, STUDY)
    wait_until(lambda: finished(place))
    second = autotune(place, f"{STUDY} --json")
    assert (second.returncode, second.stdout) == (4, "")
    assert second.stderr == f"Error: The study in study.db is in use by process {first.pid}.\n"
    count = len(finished(place))
    wait_until(lambda: len(finished(place)) > count or first.poll() is not None)
    assert first.poll() is None
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
