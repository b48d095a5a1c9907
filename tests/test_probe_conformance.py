"""What every probe promises: in this process, in a child, on a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from autotune.bench import set_up
from autotune.models import ModelFactory
from autotune.outcomes import Candidate, Failure, Measurement, OutOfMemory, Probe
from autotune.probe import IsolatedProbe
from autotune.workload import Workload
from tests.rays import ON_RAY
from tests.trouble import BAD, GOOD, write_request

SECONDS = 0.02
IN_THIS_PROCESS = "in this process"
KINDS = [IN_THIS_PROCESS, "in a child", pytest.param("on Ray", marks=ON_RAY)]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Where the probe measures."""
    return str(request.param)


@pytest.fixture(scope="module")
def deed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Say what the model does with a batch of 16 rows."""
    path = tmp_path_factory.mktemp("deed") / "deed.py"

    def say(action: str) -> None:
        path.write_text(action)

    say.path = path  # type: ignore[attr-defined]
    return say


@pytest.fixture(scope="module")
def probe(
    kind: str, deed: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Probe]:
    """A probe of a model that does something with a batch of 16 rows."""
    folder = tmp_path_factory.mktemp("trouble")
    action = f"exec(__import__('pathlib').Path({str(deed.path)!r}).read_text())"
    load = write_request(folder, action)
    rows = np.ones((20, 10), np.float32)
    sys.path.append(str(folder))
    try:
        if kind == IN_THIS_PROCESS:
            model = ModelFactory("trouble_module:make").open()
            yield set_up(model, Workload(rows), ("keras",), "trouble", 0)[0]
        elif kind == "in a child":
            with IsolatedProbe(load) as child:
                yield child
        else:
            request.getfixturevalue("cluster")
            from autotune.on_ray import RayProbe

            with RayProbe("trouble_module:make", rows, engines=["keras"]) as distant:
                yield distant
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("trouble_module", None)


def test_what_was_asked_for_is_what_is_measured(probe: Probe, deed: Any) -> None:
    """A measurement is of the candidate that was asked for, and its calls are within its time."""
    deed("pass")
    for candidate in (GOOD, BAD, GOOD):
        outcome = probe(candidate, SECONDS)
        assert isinstance(outcome, Measurement)
        assert outcome.candidate == candidate
        assert sum(outcome.times_s) <= outcome.elapsed_s


def test_an_engine_that_is_not_there_is_a_mismatch(probe: Probe) -> None:
    """A candidate that cannot be tried is an answer, with the reason, and no exception."""
    outcome = probe(Candidate(8, "abacus"), SECONDS)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.candidate) == ("mismatch", Candidate(8, "abacus"))
    assert outcome.message


def test_an_error_of_the_model_is_a_failure_of_that_candidate(probe: Probe, deed: Any) -> None:
    """What the model raises is told, with the time that it took, and the next one is measured."""
    deed("raise ZeroDivisionError('of rows')")
    outcome = probe(BAD, SECONDS)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.message) == ("model_error", "ZeroDivisionError: of rows")
    assert outcome.elapsed_s > 0
    assert isinstance(probe(GOOD, SECONDS), Measurement)


def test_memory_that_runs_out_is_an_outcome(probe: Probe, deed: Any) -> None:
    """Out of memory is told with where, and the next candidate is measured."""
    deed("raise MemoryError('no room')")
    outcome = probe(BAD, SECONDS)
    assert isinstance(outcome, OutOfMemory)
    assert (outcome.candidate, outcome.where) == (BAD, "host")
    assert isinstance(probe(GOOD, SECONDS), Measurement)


@pytest.mark.parametrize("kind", KINDS[1:], indirect=True, scope="module")
def test_a_model_that_takes_its_process_along_harms_nobody(probe: Probe, deed: Any) -> None:
    """A death is a crash of that candidate; another process measures the next."""
    deed("os.kill(os.getpid(), signal.SIGKILL)")
    outcome = probe(BAD, SECONDS)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "crash"
    assert isinstance(probe(GOOD, SECONDS), Measurement)
