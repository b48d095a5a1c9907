"""Studies in a PostgreSQL database, which several processes use at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from autotune import Goal, open_study, search
from autotune.errors import EnvironmentFault
from tests.postgres import need_server, server
from tests.simulated import SimulatedDevice

pytestmark = pytest.mark.needs("psycopg2")

GOAL = Goal(max_batch_size=64)


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    """The URL of a database that nobody has used yet."""
    need_server()
    with server() as url:
        yield url


TUNER = """
import sys
from autotune import Goal, open_study, search
from tests.simulated import SimulatedDevice

with open_study(sys.argv[1], sys.argv[2]) as study:
    device = SimulatedDevice(row_s=float(sys.argv[3]))
    record = search(device, Goal(max_batch_size=64), budget_s=1.0, study=study)
    print(record.recommendation.batch_size, len(study.trials), flush=True)
    if len(sys.argv) > 4:
        study.ask()
        sys.stdin.read()
"""


def start(storage: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process that searches with a study of that name."""
    command = [sys.executable, "-c", TUNER, storage, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_with_studies_of_their_own_share_one_database(storage: str) -> None:
    """Two that begin at once in a new database both end well, each with its own trials."""
    steps = {"flat": "1e-5", "steep": "1e-2"}
    running = {name: start(storage, name, row_s) for name, row_s in steps.items()}
    told = {name: process.communicate()[0].split() for name, process in running.items()}
    assert [process.returncode for process in running.values()] == [0, 0]
    assert int(told["flat"][0]) > int(told["steep"][0])
    for name in steps:
        with open_study(storage, name) as study:
            assert len(study.trials) == int(told[name][1])


def test_a_study_in_use_is_refused_and_goes_on_once_its_process_is_killed(storage: str) -> None:
    """One process has a study at a time; after a kill another goes on from its trials."""
    with start(storage, "mine", "1e-5", "and wait") as holder:
        assert holder.stdout is not None
        _, trials = holder.stdout.readline().split()
        with (
            pytest.raises(EnvironmentFault, match="'mine' is in use by another process"),
            open_study(storage, "mine"),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
    with open_study(storage, "mine") as study:
        states = [trial.state.name for trial in study.trials]
        assert states.count("FAIL") == 1  # the one that was under way
        assert len(states) == int(trials) + 1
        before = SimulatedDevice()
        search(before, GOAL, budget_s=1.0, study=study)
        assert len(before.tried) < int(trials)


def test_a_study_can_be_opened_again_in_the_same_process(storage: str) -> None:
    """The lock goes with the end of the block."""
    for _ in range(2):
        with open_study(storage, "again") as study:
            assert study.study_name == "again"
