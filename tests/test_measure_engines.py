"""Engines that a probe refuses, or whose answers it finds to be wrong."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from autotune import engines
from autotune.allocator import NoAllocator, TensorFlowAllocator
from autotune.device import Device
from autotune.errors import InvalidInput
from autotune.guard import PROCESS_PER_ALLOCATED
from autotune.lineup import PARITY_ROWS, LineUp
from autotune.measure import COLD_S, InProcessProbe
from autotune.outcomes import Candidate, Failure, Measurement
from autotune.pulse import Pulse
from autotune.workload import Workload
from tests.guards import UNWATCHED, FreeMemory
from tests.probes import probe_of

SECONDS = 0.02
MIB = 2**20


@pytest.fixture
def drifting(keras: Any) -> Any:
    """A model whose answer depends on how often it was traced, so that no two graphs agree."""

    class Drifting(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            self.traces = getattr(self, "traces", 0) + 1
            return x + float(self.traces)

    return Drifting()


def test_an_engine_with_another_answer_is_a_mismatch(
    drifting: Any, rows: np.ndarray[Any, Any]
) -> None:
    """An engine whose outputs are not those of `keras` is a failure that says by how much."""
    probe = probe_of(drifting, Workload(rows), NoAllocator(), ("keras", "compiled"), UNWATCHED)
    outcome = probe(Candidate(8, "compiled"), SECONDS)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "mismatch"
    assert outcome.message.startswith("At 8 rows the output differs from that of keras by")
    assert isinstance(probe(Candidate(8, "keras"), SECONDS), Measurement)


@pytest.mark.needs("onnxruntime")
@pytest.mark.needs("tf2onnx")
def test_a_comparison_is_none_of_the_candidates_memory(
    mlp: Any, rows: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the reference takes for its own answers is not charged to the engine that is tried."""
    lineup = LineUp(mlp, Workload(rows), ("onnxruntime",))
    compare = LineUp.parity

    def greedy(*arguments: Any) -> Any:
        taken = np.ones(128 * MIB, np.uint8)
        return compare(*arguments) if taken[-1] else None

    monkeypatch.setattr(LineUp, "parity", greedy)
    probe = InProcessProbe(lineup, Workload(rows), TensorFlowAllocator("CPU:0"), UNWATCHED)
    outcome = probe(Candidate(8, "onnxruntime"), SECONDS)
    assert isinstance(outcome, Measurement)
    if outcome.device_peak_bytes is None:
        pytest.skip("TensorFlow's allocator keeps no count on this CPU: needs oneDNN")
    assert outcome.device_peak_bytes < 64 * MIB


def test_what_comes_out_is_not_kept_by_the_session(
    keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs of the first calls are compared, and gone: they are in no later peak."""

    class Large:
        """An engine with a session, which keeps nothing and answers in tens of megabytes."""

        compiles_per_shape, survives_shortage, thread_safe = False, True, True

        def __call__(self, batch: Any) -> Any:
            return np.zeros((len(batch), 100_000), np.float32)

    build = engines.build
    monkeypatch.setattr(engines, "threads_are_the_process", lambda name: name != "compiled")
    monkeypatch.setattr(
        engines, "build", lambda name, *a, **_: Large() if name == "compiled" else build(name, *a)
    )
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(100_000)])
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    rows = np.ones((8, 10), np.float32)
    lineup = LineUp(model, Workload(rows), ("compiled",))
    probe = InProcessProbe(lineup, Workload(rows), TensorFlowAllocator("CPU:0"), UNWATCHED)
    for size in (64, 100, 64, 100, 64, 100):
        assert isinstance(probe(Candidate(size, "compiled"), SECONDS), Measurement)
        growth = lineup.growth_of(Candidate(size, "compiled"))
        assert growth is not None
        assert growth.kept_bytes < 64 * MIB  # all of them together are 196 MiB


@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_session_is_warmed_up_however_long_its_calls_are(
    mlp: Any, rows: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch, in_flight: int
) -> None:
    """It has let go of its memory while others were timed: one call on each thread is not."""
    made: list[object] = []

    class Slow:
        """An engine with a session, whose calls are long."""

        compiles_per_shape, survives_shortage, thread_safe = False, True, True

        def __call__(self, batch: Any) -> Any:
            made.append(batch)
            time.sleep(1.5 * COLD_S)
            return mlp.predict_on_batch(batch)

    build = engines.build
    monkeypatch.setattr(engines, "threads_are_the_process", lambda name: name != "compiled")
    monkeypatch.setattr(
        engines, "build", lambda name, *a, **_: Slow() if name == "compiled" else build(name, *a)
    )
    lineup = LineUp(mlp, Workload(rows), ("compiled",))
    probe = InProcessProbe(lineup, Workload(rows), NoAllocator(), UNWATCHED)
    way = Candidate(8, "compiled", concurrency=in_flight)
    assert isinstance(probe(way, SECONDS), Measurement)
    made.clear()
    again = probe(way, SECONDS)
    assert isinstance(again, Measurement)
    assert len(made) == in_flight + len(again.times_s)


@pytest.mark.needs("onnxruntime")
@pytest.mark.needs("tf2onnx")
def test_outputs_that_lie_in_a_sessions_memory_are_counted_once(keras: Any) -> None:
    """ONNX Runtime gives views of its own memory, which goes when they have gone."""
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(100_000)])
    rows = np.ones((8, 10), np.float32)
    lineup = LineUp(model, Workload(rows), ("onnxruntime",))
    probe = InProcessProbe(lineup, Workload(rows), TensorFlowAllocator("CPU:0"), UNWATCHED)
    way = Candidate(256, "onnxruntime", concurrency=2, threads=1)
    first, again = probe(way, SECONDS), probe(way, SECONDS)
    assert isinstance(first, Measurement)
    assert isinstance(again, Measurement)
    if first.device_peak_bytes is None or again.device_peak_bytes is None:
        pytest.skip("TensorFlow's allocator keeps no count on this CPU: needs oneDNN")
    both = 2 * 256 * 100_000 * 4  # bytes of the outputs of two calls at once
    assert both / 2 < first.device_peak_bytes < 2 * both
    assert again.device_peak_bytes > both / 2


def test_an_engine_that_was_not_asked_for_is_a_mismatch(
    mlp: Any, rows: np.ndarray[Any, Any]
) -> None:
    """A candidate of an engine that is not ready fails, and is not measured with another."""
    probe = probe_of(mlp, Workload(rows), NoAllocator(), ("keras",), UNWATCHED)
    outcome = probe(Candidate(8, "compiled"), SECONDS)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.message) == ("mismatch", "It was not asked for.")


def test_an_engine_that_cannot_run_the_model_is_left_out_with_the_reason(
    keras: Any, rows: np.ndarray[Any, Any]
) -> None:
    """What an engine cannot run is no error: the others are ready, and the reason is kept."""

    class OwnWay(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x

        def predict_step(self, data: Any) -> Any:
            return super().predict_step(data)

    probe = probe_of(OwnWay(), Workload(rows), NoAllocator(), ("keras", "compiled"), UNWATCHED)
    assert probe.engines == ("keras",)
    assert "overrides predict_step()" in probe.unavailable["compiled"]
    outcome = probe(Candidate(8, "compiled"), SECONDS)
    assert isinstance(outcome, Failure)
    assert outcome.message == probe.unavailable["compiled"]


@pytest.mark.parametrize("size", [1, 7, PARITY_ROWS - 1, PARITY_ROWS + 5])
def test_an_engine_that_agrees_is_measured_at_every_size(
    mlp: Any, rows: np.ndarray[Any, Any], size: int
) -> None:
    """Sizes that are no multiple of the rows compared at once are compared and measured too."""
    probe = probe_of(mlp, Workload(rows), NoAllocator(), ("compiled",), UNWATCHED)
    assert isinstance(probe(Candidate(size, "compiled"), SECONDS), Measurement)


def test_another_session_is_opened_only_where_it_fits(
    mlp: Any, rows: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first one took when it was opened is what the next is expected to take."""
    build, weights = engines.build, []

    def build_large(name: str, model: Any, example: Any, **_: Any) -> engines.Engine:
        engine = build(name, model, example)
        if name == "compiled":
            weights.append(np.ones(64 * MIB, np.uint8))
        return engine

    monkeypatch.setattr(engines, "threads_are_the_process", lambda name: name != "compiled")
    monkeypatch.setattr(engines, "build", build_large)
    free = FreeMemory(monkeypatch, 300 * MIB)
    lineup = LineUp(mlp, Workload(rows), ("compiled",))
    opened = lineup.sessions_bytes
    assert opened == pytest.approx(64 * MIB, rel=0.5)
    probe = InProcessProbe(
        lineup, Workload(rows), TensorFlowAllocator("CPU:0"), Device("cpu", "CPU", 64 * 2**30)
    )
    limit = probe.guard.limit_bytes
    assert limit is not None
    assert isinstance(probe(Candidate(8, "compiled", threads=1), SECONDS), Measurement)
    assert (probe.guard.limit_bytes or 0) < limit - 32 * MIB / PROCESS_PER_ALLOCATED
    free.free_bytes -= 200 * MIB  # others take them
    outcome = probe(Candidate(8, "compiled", threads=2), SECONDS)
    assert isinstance(outcome, Failure)
    assert "Another session of the 'compiled' engine may take" in outcome.message


@pytest.mark.parametrize(("kind", "felt"), [("cpu", True), ("gpu", False)])
def test_what_processors_lost_is_told_of_calls_that_they_made(
    mlp: Any, rows: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch, kind: Any, felt: bool
) -> None:
    """A GPU goes on while they are held up."""
    monkeypatch.setattr(Pulse, "lost_s", lambda _, calls: tuple((b - a) / 2 for a, b in calls))
    lineup = LineUp(mlp, Workload(rows), ("keras",))
    device = Device(kind, kind, None, blind="nobody asked it to look")
    probe = InProcessProbe(lineup, Workload(rows), NoAllocator(), device)
    outcome = probe(Candidate(8), SECONDS)
    assert isinstance(outcome, Measurement)
    assert bool(outcome.lost_s) == felt
    halved = sum(outcome.running_s) / sum(outcome.times_s)
    assert halved == pytest.approx(0.5 if felt else 1.0, rel=1e-3)


@pytest.mark.parametrize("lost_s", [(0.1,), (0.1, 1.0), (0.1, -0.1)])
def test_a_call_that_lost_more_than_it_took_is_refused(lost_s: tuple[float, ...]) -> None:
    """As are fewer than there were calls."""
    with pytest.raises(InvalidInput, match="less of each timed call"):
        Measurement(Candidate(8), (1.0, 1.0), lost_s=lost_s)


def test_an_engine_that_is_not_installed_says_how_to_get_it(
    keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the model is exported for it, which would fail in words that tell a user nothing."""
    monkeypatch.setattr(engines, "why_not_installed", lambda name: f"pip install {name}")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    lineup = LineUp(model, Workload(np.ones((4, 3), np.float32)), ["openvino"])
    assert lineup.unavailable == {"openvino": "pip install openvino"}
