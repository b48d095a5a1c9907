"""Measuring in a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from autotune.errors import InvalidModel, InvalidSample
from autotune.models import fingerprint
from autotune.outcomes import Candidate, Failure, Measurement, OutOfMemory
from autotune.probe import IsolatedProbe
from autotune.worker import DrawnRows, FactorySource, FileSource, Load, SavedRows
from autotune.workload import Workload
from tests.batchers import AT_ONCE
from tests.trouble import BAD, GOOD, trouble, write_request
from tests.waiting import is_gone, wait_until

SECONDS = 0.02


@pytest.fixture
def request_for(
    mlp: Any, save: Callable[..., Path], tmp_path: Path
) -> Callable[[np.ndarray[Any, Any]], Load]:
    """Make the request that loads `mlp` from its file, with the rows given."""

    def make(rows: np.ndarray[Any, Any]) -> Load:
        folder = tmp_path / "rows"
        folder.mkdir()
        Workload(rows).save(folder)
        source = FileSource(str(save(mlp)))
        return Load(id=0, model=source, name="mlp", sample=SavedRows(str(folder)), engines=None)

    return make


def test_a_file_is_loaded_and_measured_in_one_child(
    mlp: Any, request_for: Callable[..., Load], rows: np.ndarray[Any, Any]
) -> None:
    """The child loads the model whole and keeps it: all sizes and engines have one process."""
    with IsolatedProbe(request_for(rows)) as probe:
        assert probe.pid is None
        loaded = probe.load()
        assert loaded.model.sha256 == fingerprint(mlp)
        assert loaded.engines[:2] == ("keras", "compiled")
        pids: set[int | None] = set()
        for candidate in (Candidate(1), Candidate(8, "compiled"), Candidate(8, concurrency=2)):
            outcome = probe(candidate, SECONDS)
            assert isinstance(outcome, Measurement)
            assert outcome.candidate == candidate
            pids.add(probe.pid)
        assert len(pids) == 1
        assert pids != {os.getpid()}


def test_a_candidate_is_rehearsed_in_the_child(
    request_for: Callable[..., Load], rows: np.ndarray[Any, Any]
) -> None:
    """What requests took there comes back, in as many calls at once as the candidate has."""
    way = Candidate(8, "compiled", concurrency=2)
    with IsolatedProbe(request_for(rows)) as probe:
        found = probe.rehearse(way, AT_ONCE, 500.0, 0.3)
        assert found is not None
        assert (found.candidate, found.rows_per_s) == (way, 500.0)
        assert 1 <= min(found.rows) <= max(found.rows) <= 8
        assert max(found.flights) <= 2
        assert isinstance(probe(way, SECONDS), Measurement)  # it goes on


def test_the_worker_is_importable_without_what_starts_threads() -> None:
    """The keeper imports it before it sees to it that NumPy starts none, and could not fork."""
    code = "import sys, autotune.worker; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "numpy" not in told.stdout.split()


@pytest.mark.parametrize("action", ["os.kill(os.getpid(), signal.SIGKILL)", "raise OSError"])
def test_a_rehearsal_that_fails_is_none(tmp_path: Path, action: str) -> None:
    """Neither a child's death nor an error of the model is the end of anything."""
    with trouble(tmp_path, action) as probe:
        probe.load()
        assert probe.rehearse(BAD, AT_ONCE, 500.0, 0.1) is None
        assert probe.rehearse(GOOD, AT_ONCE, 500.0, 0.1) is not None
        unknown = Candidate(8, "openvino", threads=1)
        assert probe.rehearse(unknown, AT_ONCE, 500.0, 0.1) is None


def test_rows_that_do_not_fit_are_refused_as_in_this_process(
    request_for: Callable[..., Load],
) -> None:
    """An error of the child comes back as the same class with the same message."""
    with IsolatedProbe(request_for(np.ones((5, 9), np.float32))) as probe:
        with pytest.raises(InvalidSample, match=r"Input 'x' has shape \(rows, 9\) float32"):
            probe.load()
        assert probe.pid is None


def test_a_factory_that_fails_is_refused_with_its_reason(tmp_path: Path) -> None:
    """What the user's own code raised is told by type and text."""
    with (
        trouble(tmp_path, when_made="raise OSError('no weights here')") as probe,
        pytest.raises(InvalidModel, match="trouble_module:make failed: OSError: no weights here"),
    ):
        probe.load()


def test_children_of_one_factory_have_the_same_weights(tmp_path: Path) -> None:
    """One child exports the model, another one runs it: weights that are drawn must agree."""
    code = (
        "import keras\n"
        "def make():\n"
        "    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])\n"
    )
    (tmp_path / "drawn_weights.py").write_text(code)

    def weights_of(seed: int) -> str:
        request = Load(
            id=0,
            model=FactorySource("drawn_weights:make"),
            name="drawn",
            sample=DrawnRows(8, {}),
            engines=("keras",),
            python_path=(str(tmp_path),),
            seed=seed,
        )
        with IsolatedProbe(request) as probe:
            return probe.load().model.sha256

    assert weights_of(0) == weights_of(0)
    assert weights_of(1) != weights_of(0)


def test_no_process_is_left(tmp_path: Path) -> None:
    """After `close` the child is gone, with all that it started."""
    probe = trouble(tmp_path, "subprocess.Popen(['sleep', '60'])")
    try:
        assert isinstance(probe(BAD, SECONDS), Measurement)
        child = psutil.Process(probe.pid)
        processes = [child, *child.children(recursive=True)]
        assert "sleep" in {process.name() for process in processes}
    finally:
        probe.close()
    _, alive = psutil.wait_procs([p for p in processes if not is_gone(p)], timeout=5)
    assert [process for process in alive if not is_gone(process)] == []
    assert probe.pid is None


def test_a_closed_probe_closes_again_and_starts_anew(tmp_path: Path) -> None:
    """Closing twice does no harm, and a probe that was closed starts a new child when called."""
    with trouble(tmp_path) as probe:
        assert isinstance(probe(GOOD, SECONDS), Measurement)
        first = probe.pid
        probe.close()
        probe.close()
        assert isinstance(probe(GOOD, SECONDS), Measurement)
        assert probe.pid not in (None, first)


def test_a_flood_of_output_does_no_harm(tmp_path: Path) -> None:
    """A model that prints megabytes, to both streams, is measured like any other."""
    flood = "[os.write(stream, b'x' * 2**20) for stream in (1, 2)]"
    with trouble(tmp_path, flood) as probe:
        assert isinstance(probe(BAD, SECONDS), Measurement)


def test_a_model_that_raises_keeps_its_process(tmp_path: Path) -> None:
    """An exception at one size is a failure, and the same child goes on with the next."""
    with trouble(tmp_path, "raise ZeroDivisionError('of rows')") as probe:
        outcome = probe(BAD, SECONDS)
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.message) == ("model_error", "ZeroDivisionError: of rows")
        first = probe.pid
        assert isinstance(probe(GOOD, SECONDS), Measurement)
        assert probe.pid == first


def test_after_out_of_memory_the_process_is_a_new_one(tmp_path: Path) -> None:
    """Out of memory is an outcome, and the next memory figure comes from a clean process."""
    with trouble(tmp_path, "raise MemoryError('no room')") as probe:
        outcome = probe(BAD, SECONDS)
        assert isinstance(outcome, OutOfMemory)
        assert (outcome.where, outcome.message) == ("host", "MemoryError: no room")
        assert probe.pid is None
        assert isinstance(probe(GOOD, SECONDS), Measurement)


def test_the_child_is_told_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the environment the child has what a framework needs, and no tokens or keys."""
    for name in ("AWS_SECRET", "HF_TOKEN", "MY_PASSWORD"):
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    seen = tmp_path / "seen.json"
    with trouble(tmp_path, when_made=f"json.dump(dict(os.environ), open({str(seen)!r}, 'w'))") as p:
        p.load()
    environment = json.loads(seen.read_text())
    assert "hush" not in environment.values()
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["OMP_NUM_THREADS"] == "1"


TUNER = """
import sys
import msgspec
from autotune.probe import IsolatedProbe
from autotune.outcomes import (Candidate)
from autotune.worker import Load

probe = IsolatedProbe(msgspec.json.decode(sys.stdin.readline(), type=Load))
probe.load()
print(probe.pid, flush=True)
probe(Candidate(16), 0.02)
"""


def test_the_child_ends_when_the_tuner_is_killed(tmp_path: Path) -> None:
    """A tuner that is killed in the middle of a probe leaves no child behind."""
    busy = tmp_path / "busy"
    request = write_request(tmp_path, f"open({str(busy)!r}, 'w').close(); time.sleep(60)")
    with subprocess.Popen(
        [sys.executable, "-c", TUNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as tuner:
        assert tuner.stdin is not None
        assert tuner.stdout is not None
        tuner.stdin.write(msgspec.json.encode(request) + b"\n")
        tuner.stdin.flush()
        child = psutil.Process(int(tuner.stdout.readline()))
        wait_until(busy.exists)
        tuner.kill()
    wait_until(lambda: is_gone(child))
