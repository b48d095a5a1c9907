"""Threads of a process: what a backend takes, and when it is too late."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import backends
from autotune.allocator import NoAllocator
from autotune.outcomes import Candidate, Failure, Measurement
from autotune.workload import Workload
from tests.guards import UNWATCHED
from tests.probes import probe_of

HOME = Path(__file__).parents[1]
ONE_AND_A_BIT = 1.3  # processors that one thread keeps busy: the rest is the interpreter's

FRESH = """
import json, sys, time
from autotune import backends

said = [backends.set_threads(1), backends.threads()]
import keras, numpy

layers = [keras.Input((1024,)), *(keras.layers.Dense(1024) for _ in range(4))]
model = keras.Sequential(layers)
rows = numpy.ones((1024, 1024), "float32")
model.predict_on_batch(rows)
wall, cpu = time.perf_counter(), time.process_time()
while time.process_time() - cpu < 1:
    model.predict_on_batch(rows)
busy = (time.process_time() - cpu) / (time.perf_counter() - wall)
said += [backends.set_threads(2), backends.threads()]
print(json.dumps([*said, busy]))
"""


def in_a_fresh_process(backend: str) -> Any:
    """Run `FRESH` on a backend, and return what it said."""
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(HOME)}
    done = subprocess.run(
        [sys.executable, "-c", FRESH],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_tensorflow_takes_its_threads_before_it_begins() -> None:
    """One thread of a call is one processor that is busy, and a second number comes too late."""
    *said, busy = in_a_fresh_process("tensorflow")
    assert said == [True, 1, False, 1]
    assert busy < ONE_AND_A_BIT


@pytest.mark.needs("torch")
def test_torch_takes_its_threads_at_any_time() -> None:
    """One thread of a call is one processor that is busy, until another number is set."""
    *said, busy = in_a_fresh_process("torch")
    assert said == [True, 1, True, 2]
    assert busy < ONE_AND_A_BIT


@pytest.mark.needs("jax")
def test_jax_has_no_threads_of_one_call() -> None:
    """Its one pool is for all calls of the process, so nothing is set."""
    *said, _ = in_a_fresh_process("jax")
    assert said == [False, None, False, None]


def test_threads_are_set_where_that_makes_a_difference() -> None:
    """On a CPU, with a backend that has the setting; a GPU's kernels have threads of their own."""
    assert backends.can_set_threads("tensorflow", "cpu")
    assert backends.can_set_threads("torch", "cpu")
    assert not backends.can_set_threads("jax", "cpu")
    assert not backends.can_set_threads("tensorflow", "gpu")


@pytest.fixture
def rows_of_ten() -> Workload:
    """Rows for `mlp`."""
    return Workload(np.ones((20, 10), np.float32))


def test_in_a_process_with_one_number_another_is_a_mismatch(
    mlp: Any, rows_of_ten: Workload
) -> None:
    """Threads of the process are not changed for a candidate, and it is not tried without them."""
    engines = ("keras", "compiled")
    probe = probe_of(mlp, rows_of_ten, NoAllocator(), engines, UNWATCHED, threads=2)
    for engine in engines:
        assert isinstance(probe(Candidate(8, engine, threads=2), 0.01), Measurement)
        for threads in (None, 1):
            outcome = probe(Candidate(8, engine, threads=threads), 0.01)
            assert isinstance(outcome, Failure)
            assert outcome.kind == "mismatch"
            assert f"The {engine!r} engine has 2 threads for one call" in outcome.message


def test_an_engine_with_sessions_has_one_for_each_number_of_threads(
    mlp: Any, rows_of_ten: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is built when it is first asked for, and kept."""
    from autotune import engines

    built: list[int | None] = []
    build = engines.build

    def count(name: str, model: Any, example: Any, **settings: Any) -> engines.Engine:
        if name == "compiled":
            built.append(settings["threads"])
        return build(name, model, example)

    monkeypatch.setattr(engines, "threads_are_the_process", lambda name: name != "compiled")
    monkeypatch.setattr(engines, "build", count)
    probe = probe_of(mlp, rows_of_ten, NoAllocator(), ("compiled",), UNWATCHED)
    for threads in (1, 2, None, 1, 2):
        outcome = probe(Candidate(8, "compiled", threads=threads), 0.01)
        assert isinstance(outcome, Measurement)
    assert built == [None, 1, 2]
