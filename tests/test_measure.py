"""Timing one candidate in this process."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autotune.allocator import NoAllocator, TensorFlowAllocator
from autotune.device import Device
from autotune.measure import COLD_S, MAX_BATCHES, MIN_CALLS, InProcessProbe
from autotune.outcomes import Candidate, Failure, Measurement, OutOfMemory
from autotune.workload import Workload
from tests.guards import GIB, UNWATCHED, FreeMemory
from tests.probes import probe_of

SECONDS = 0.02
MARKED = 16  # the batch size at which a watched model does something


def measured(outcome: object) -> Measurement:
    """See that an outcome is a measurement, and return it as one."""
    assert isinstance(outcome, Measurement), outcome
    return outcome


@pytest.fixture
def probe(mlp: Any, rows: np.ndarray[Any, Any]) -> InProcessProbe:
    """A probe of an ordinary model, with both engines."""
    return probe_of(mlp, Workload(rows), NoAllocator(), ("keras", "compiled"), UNWATCHED)


@pytest.fixture
def watched(keras: Any, rows: np.ndarray[Any, Any]) -> Callable[..., InProcessProbe]:
    """Make a probe of a model that calls a function with each batch of the marked size."""

    def make(
        at_marked: Callable[[Any], Any],
        workload: Workload | None = None,
        device: Device = UNWATCHED,
    ) -> InProcessProbe:
        class Watched(keras.Model):  # type: ignore[misc]
            def call(self, x: Any) -> Any:
                return x

            def predict_on_batch(self, x: Any) -> Any:
                if len(x) == MARKED:
                    at_marked(x)
                return super().predict_on_batch(x)

        return probe_of(Watched(), workload or Workload(rows), NoAllocator(), ("keras",), device)

    return make


@pytest.mark.parametrize("engine", ["keras", "compiled"])
def test_a_measurement_holds_every_timed_call(probe: InProcessProbe, engine: str) -> None:
    """A measurement has the candidate, at least three times, and how long all of it took."""
    candidate = Candidate(8, engine)
    outcome = measured(probe(candidate, SECONDS))
    assert outcome.candidate == candidate
    assert len(outcome.times_s) >= MIN_CALLS
    assert outcome.elapsed_s > sum(outcome.times_s)


def test_timed_calls_fill_the_seconds_that_were_asked_for(probe: InProcessProbe) -> None:
    """Of more calls than must be, the last one begins before the seconds are over."""
    times_s = measured(probe(Candidate(8), SECONDS)).times_s
    assert len(times_s) == MIN_CALLS or sum(times_s[:-1]) < SECONDS


def test_the_first_call_is_told_apart(probe: InProcessProbe) -> None:
    """The first call at a size is kept apart from the timed calls."""
    outcome = measured(probe(Candidate(9), SECONDS))
    assert outcome.first_call_s > 0
    assert outcome.first_call_s not in outcome.times_s


def test_calls_one_after_another_have_no_span(probe: InProcessProbe) -> None:
    """Where one batch is in flight at once, the time of all calls is their sum."""
    assert measured(probe(Candidate(8), SECONDS)).span_s is None


@pytest.mark.parametrize("engine", ["keras", "compiled"])
def test_calls_in_flight_together_have_a_span(probe: InProcessProbe, engine: str) -> None:
    """With two batches in flight it is told how long all calls took together."""
    outcome = measured(probe(Candidate(8, engine, concurrency=2), SECONDS))
    assert outcome.span_s is not None
    assert outcome.span_s >= min(outcome.times_s)


@pytest.mark.parametrize("call_s", [0.0, 1.5 * COLD_S])
def test_of_a_candidate_seen_before_only_short_calls_are_warmed_up(
    watched: Callable[..., InProcessProbe], call_s: float
) -> None:
    """A long call is as quick after others' turns as it ever is, and takes its time."""
    made: list[object] = []

    def call(batch: object) -> None:
        made.append(batch)
        time.sleep(call_s)

    probe = watched(call)
    probe(Candidate(MARKED), SECONDS)
    before = len(made)
    timed = measured(probe(Candidate(MARKED), SECONDS)).times_s
    assert len(made) - before - len(timed) == (0 if call_s else 1)


def test_in_flight_means_on_threads_of_their_own(watched: Callable[..., InProcessProbe]) -> None:
    """With three in flight the timed calls come from three threads besides this one."""
    threads: set[int] = set()
    probe = watched(lambda _: threads.add(threading.get_ident()))
    measured(probe(Candidate(MARKED, concurrency=3), SECONDS))
    assert len(threads - {threading.get_ident()}) == 3


def test_a_candidate_is_timed_on_the_same_threads_each_time(
    watched: Callable[..., InProcessProbe],
) -> None:
    """Frameworks keep by thread what they have prepared for a size; a server keeps its threads."""
    threads: set[threading.Thread] = set()
    probe = watched(lambda _: threads.add(threading.current_thread()))
    for in_flight in (2, 3, 2, 3):
        measured(probe(Candidate(MARKED, concurrency=in_flight), SECONDS))
    assert len(threads - {threading.current_thread()}) == 2 + 3


def test_peak_memory_of_the_process_is_measured(probe: InProcessProbe) -> None:
    """The peak of the process is at least what it holds, with Keras loaded: tens of megabytes."""
    peak = measured(probe(Candidate(8), SECONDS)).host_peak_bytes
    assert peak is not None
    assert peak > 50 * 2**20


def test_peak_memory_of_the_allocator_grows_with_the_batch(keras: Any) -> None:
    """The allocator's peak holds the activations: 4096 rows of 1024 numbers are 16 MiB."""
    allocator = TensorFlowAllocator("CPU:0")
    layers = keras.layers
    wide = [layers.Dense(1024, activation="relu"), layers.Dense(1)]
    model = keras.Sequential([keras.Input((10,)), *wide])
    sample = np.ones((4096, 10), np.float32)
    probe = probe_of(model, Workload(sample), allocator, ("keras",), UNWATCHED)
    few, many = (measured(probe(Candidate(n), SECONDS)).device_peak_bytes for n in (512, 4096))
    if few is None or many is None:
        pytest.skip("TensorFlow's allocator keeps no count on this CPU: needs oneDNN")
    assert many >= 4096 * 1024 * 4 > few >= 512 * 1024 * 4


def test_without_a_count_the_allocator_peak_is_none(probe: InProcessProbe) -> None:
    """An allocator that counts nothing gives None, and the peak is that of the process."""
    outcome = measured(probe(Candidate(8), SECONDS))
    assert outcome.device_peak_bytes is None
    assert outcome.peak_bytes == outcome.host_peak_bytes


def test_distinct_batches_go_round(watched: Callable[..., InProcessProbe]) -> None:
    """Timed calls do not repeat one batch: distinct rows come in turn."""
    firsts: list[float] = []
    sample = np.arange(200, dtype=np.float32).reshape(200, 1)
    probe = watched(lambda x: firsts.append(float(x[0, 0])), Workload(sample))
    measured(probe(Candidate(MARKED), SECONDS))
    timed = firsts[-MIN_CALLS:]
    assert len(set(timed)) == MIN_CALLS
    assert set(firsts) <= {float(MARKED * n) for n in range(MAX_BATCHES)}


def test_garbage_collection_is_off_while_timing_and_on_again(
    watched: Callable[..., InProcessProbe],
) -> None:
    """No garbage is collected during the timed calls, and it is collected again afterwards."""
    states: list[bool] = []
    measured(watched(lambda _: states.append(gc.isenabled()))(Candidate(MARKED), SECONDS))
    assert states[0]
    assert not any(states[-MIN_CALLS:])
    assert gc.isenabled()


def test_garbage_collection_is_on_again_after_a_failure(
    watched: Callable[..., InProcessProbe],
) -> None:
    """A model that raises during the timed calls leaves garbage collection on."""

    def fails_when_timed(_: Any) -> None:
        if not gc.isenabled():
            raise RuntimeError("timed")

    outcome = watched(fails_when_timed)(Candidate(MARKED), SECONDS)
    assert isinstance(outcome, Failure)
    assert gc.isenabled()


def test_garbage_collection_that_was_off_stays_off(probe: InProcessProbe) -> None:
    """A program that collects no garbage does not find it switched on by a probe."""
    gc.disable()
    try:
        measured(probe(Candidate(8), SECONDS))
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_model_that_raises_is_a_failure(watched: Callable[..., InProcessProbe]) -> None:
    """An exception in the model is a failure with its type and text, in one line."""

    def fails(_: Any) -> None:
        raise KeyError("no\nsuch key")

    outcome = watched(fails)(Candidate(MARKED), SECONDS)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "model_error"
    assert outcome.message.startswith("KeyError: ")
    assert "\n" not in outcome.message
    assert outcome.elapsed_s > 0


def test_a_model_that_raises_once_can_be_tried_again(
    watched: Callable[..., InProcessProbe],
) -> None:
    """After a failure at one size the probe measures another."""

    def fails(_: Any) -> None:
        raise KeyError("no")

    probe = watched(fails)
    assert isinstance(probe(Candidate(MARKED), SECONDS), Failure)
    measured(probe(Candidate(MARKED // 2), SECONDS))


def test_memory_of_the_host_that_runs_out_is_an_outcome(
    watched: Callable[..., InProcessProbe],
) -> None:
    """NumPy asking for more memory than there is, is out of memory on the host."""
    outcome = watched(lambda _: np.empty(2**60, np.uint8))(Candidate(MARKED), SECONDS)
    assert isinstance(outcome, OutOfMemory)
    assert outcome.where == "host"
    assert "Unable to allocate" in outcome.message


def test_memory_of_the_device_that_runs_out_is_an_outcome(
    watched: Callable[..., InProcessProbe],
) -> None:
    """TensorFlow's error for an allocator that has no more is out of memory on the device."""
    import tensorflow as tf

    def exhaust(_: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    outcome = watched(exhaust)(Candidate(MARKED), SECONDS)
    assert isinstance(outcome, OutOfMemory)
    assert outcome.where == "device"
    assert outcome.message.startswith("ResourceExhaustedError: OOM when allocating")


def test_a_probe_that_others_leave_no_memory_is_stopped(
    watched: Callable[..., InProcessProbe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls end early, the candidate is not to blame, and the limit says what is left."""
    free = FreeMemory(monkeypatch, 16 * GIB)
    calls: list[int] = []

    def take_memory(x: Any) -> None:
        calls.append(len(x))
        time.sleep(0.01)
        if len(calls) == 30:
            free.free_bytes = GIB // 4

    probe = watched(take_memory, device=Device("cpu", "CPU", 64 * GIB))
    outcome = probe(Candidate(MARKED), 30.0)
    assert isinstance(outcome, Failure), outcome
    assert outcome.kind == "stopped"
    assert "256 MiB are left" in outcome.message
    assert outcome.memory_limit_bytes is not None
    assert len(calls) < 1000
