"""Probing on another machine; what it has in common with all probes is in conformance."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import autotune
from autotune.errors import InvalidModel, InvalidSample, ProbeFailed
from autotune.outcomes import Candidate, Failure
from tests.rays import ON_RAY, workers
from tests.waiting import is_gone, wait_until

pytestmark = [*ON_RAY, pytest.mark.usefixtures("cluster")]

SECONDS = 0.02


def test_a_search_here_measures_there_and_survives_the_loss_of_a_machine(
    exported: tuple[Path, Any], rows: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    """The model is in children there; its process can be lost, and nothing stays when it ends."""
    from autotune.on_ray import RayProbe

    path = str(exported[0] / "model.keras")
    with RayProbe(path, rows, engines=["keras"]) as probe:
        loaded = probe.load()
        assert (loaded.model.name, loaded.engines) == ("exported", ("keras",))
        (pid,) = workers("Bench")
        process = psutil.Process(pid)
        children = process.children(recursive=True)
        assert children
        os.kill(pid, signal.SIGKILL)
        outcome = probe(Candidate(8), SECONDS)
        assert isinstance(outcome, Failure)
        assert outcome.kind == "crash"
        wait_until(lambda: all(map(is_gone, children)))
        with autotune.open_study(f"sqlite:///{tmp_path}/tune.db") as study:
            goal = autotune.Goal(max_batch_size=8)
            record = autotune.search(probe, goal, budget_s=0.5, study=study)
            assert record.recommendation is not None
            assert len(study.trials) == len(record.outcomes) > 0
        (pid,) = workers("Bench")
        process = psutil.Process(pid)
        processes = [process, *process.children(recursive=True)]
    wait_until(lambda: all(map(is_gone, processes)))


def test_rows_that_do_not_fit_are_refused_as_in_a_child(exported: tuple[Path, Any]) -> None:
    """An error there comes back as the same class with the same message."""
    from autotune.on_ray import RayProbe

    path = str(exported[0] / "model.keras")
    with (
        RayProbe(path, np.ones((5, 9), np.float32), engines=["keras"]) as probe,
        pytest.raises(InvalidSample, match=r"Input 'x' has shape \(rows, 9\) float32"),
    ):
        probe.load()


def test_what_no_machine_has_is_told(exported: tuple[Path, Any], rows: Any) -> None:
    """Where no machine has what is asked for, the wait ends with a word on what that was."""
    from autotune.on_ray import RayProbe

    path = str(exported[0] / "model.keras")
    with (
        RayProbe(path, rows, resources={"abacus": 1}, start_timeout_s=0.5) as probe,
        pytest.raises(ProbeFailed, match=r"resources=\{'abacus': 1\} within 0\.5 s"),
    ):
        probe.load()


def test_a_model_that_is_not_there_is_refused_here(rows: Any) -> None:
    """What can be seen to be wrong on this machine is, before any other is asked."""
    from autotune.on_ray import RayProbe

    with pytest.raises(InvalidModel, match="not found"):
        RayProbe("missing.keras", rows)
