"""The keeper: forks where that is safe, and outlives neither the tuner nor a lost child."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from autotune import keeper
from autotune.outcomes import Failure, Measurement
from tests.trouble import BAD, GOOD, trouble
from tests.waiting import is_gone, wait_until

SECONDS = 0.02

TUNER = """
import sys
from pathlib import Path
from tests.trouble import BAD, trouble

folder = Path(sys.argv[1])
scratch = folder / "scratch"
scratch.mkdir()
with trouble(folder, sys.argv[2], fork=sys.argv[3] == "fork", scratch=[str(scratch)]) as probe:
    probe.load()
    (folder / "pid").write_text(str(probe.pid))
    probe(BAD, 0.02)
"""


def test_children_are_forked_from_one_keeper(tmp_path: Path) -> None:
    """The next child has the same parent as the one before, which has the backend imported."""
    with trouble(tmp_path, "os._exit(1)") as probe:
        probe.load()
        assert probe.pid is not None
        parent = psutil.Process(probe.pid).parent()
        assert parent is not None
        assert isinstance(probe(BAD, SECONDS), Failure)
        assert isinstance(probe(GOOD, SECONDS), Measurement)
        following = psutil.Process(probe.pid)
        assert following.parent() == parent
        assert following.cmdline() == parent.cmdline()  # a fork: it has executed nothing else
    wait_until(lambda: is_gone(parent))


def test_children_are_started_afresh_where_that_is_asked_for(tmp_path: Path) -> None:
    """A child that must not be forked is a program of its own."""
    with trouble(tmp_path, fork=False) as probe:
        probe.load()
        assert "autotune.worker" in psutil.Process(probe.pid).cmdline()


@pytest.mark.parametrize("how", ["fork", "spawn"])
@pytest.mark.parametrize(
    "action",
    ["time.sleep(60)", "ctypes.PyDLL(None).sleep(60)"],
    ids=["sleeps", "keeps the interpreter's lock"],
)
def test_nothing_outlives_a_tuner_that_is_killed(tmp_path: Path, action: str, how: str) -> None:
    """After SIGKILL of the tuner child and keeper are gone, and so are their scratch files."""
    home = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(home)}
    command = [sys.executable, "-c", TUNER, str(tmp_path), action, how]
    tuner = subprocess.Popen(command, env=environment)
    wait_until((tmp_path / "pid").exists)
    wait_until(lambda: bool((tmp_path / "pid").read_text()))
    below = psutil.Process(tuner.pid).children(recursive=True)
    assert len(below) >= 2
    tuner.kill()
    tuner.wait()
    wait_until(lambda: all(map(is_gone, below)))
    wait_until(lambda: not (tmp_path / "scratch").exists())


def test_a_lost_keeper_is_replaced(tmp_path: Path) -> None:
    """With the keeper its child goes; the next probe has new ones."""
    with trouble(tmp_path) as probe:
        probe.load()
        child = psutil.Process(probe.pid)
        parent = child.parent()
        assert parent is not None
        os.kill(parent.pid, signal.SIGKILL)
        wait_until(lambda: is_gone(child))
        assert isinstance(probe(GOOD, SECONDS), Failure)
        assert isinstance(probe(GOOD, SECONDS), Measurement)


def test_no_fork_of_a_process_with_threads() -> None:
    """A second thread would be missing in the fork, with whatever lock it holds."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert not keeper._may_fork()
    over.set()
    thread.join()


def test_the_backend_is_known_before_keras_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras's file names the backend, and the environment overrules it."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert keeper._backend() == "tensorflow"
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax"}))
    assert keeper._backend() == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert keeper._backend() == "torch"
    monkeypatch.delenv("KERAS_BACKEND")
    (tmp_path / "keras.json").write_text("{")
    assert keeper._backend() == "tensorflow"
