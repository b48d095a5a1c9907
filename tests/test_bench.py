"""Setting up: model and rows are checked, described, and made ready to be measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autotune import bench, engines, host
from autotune.allocator import NoAllocator
from autotune.bench import set_up
from autotune.describe import describe_machine, describe_model
from autotune.device import Device, device_of
from autotune.errors import InvalidModel, InvalidSample
from autotune.models import fingerprint
from autotune.outcomes import Candidate, Measurement
from autotune.records import Input
from autotune.workload import Spec, Synthetic, Workload
from tests.tunings import own

Rows = np.ndarray[Any, Any]


def test_what_was_loaded_is_described(mlp: Any, rows: Rows) -> None:
    """The description names the model, its source, the engines and the number of rows."""
    probe, loaded = set_up(mlp, Workload(rows), None, "mlp.keras", seed=0)
    assert (loaded.model.name, loaded.model.source) == ("mlp", "mlp.keras")
    assert loaded.engines == probe.engines
    assert {*loaded.engines, *loaded.unavailable} == set(engines.NAMES)
    assert loaded.engines[:2] == ("keras", "compiled")
    assert set(loaded.unavailable) <= set(engines.FORMATS)  # where their packages are missing
    assert own(loaded.warnings) == ()
    assert loaded.sample_rows == 50
    assert loaded.resident_bytes > 0
    assert isinstance(probe(Candidate(4), 0.01), Measurement)


def test_only_the_engines_asked_for_are_made_ready(mlp: Any, rows: Rows) -> None:
    """An engine that nobody asked for is neither built nor called unavailable."""
    _, loaded = set_up(mlp, Workload(rows), ("compiled",), "object", seed=0)
    assert (loaded.engines, loaded.unavailable) == (("compiled",), {})


def test_engines_of_the_processor_are_not_tried_beside_a_gpu(
    mlp: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their memory is not the GPU's, which is what is watched; the reason is told."""
    monkeypatch.setattr(bench, "device_of", lambda _: Device("gpu", "An L4", None, blind="fake"))
    monkeypatch.setattr(bench, "allocator_of", lambda *_: NoAllocator())
    _, loaded = set_up(mlp, Workload(rows), ("keras", "onnxruntime"), "object", seed=0)
    assert loaded.engines == ("keras",)
    assert loaded.unavailable == {
        "onnxruntime": "It runs on the processor, and the model on An L4: hide that one to tune it."
    }


def test_an_engine_that_does_not_run_ends_nothing(
    mlp: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that could be built and fails in its first call is unavailable, with the error."""
    build = engines.build

    def build_broken(name: str, *arguments: Any, **options: Any) -> Any:
        engine = build(name, *arguments, **options)
        if name == "compiled":
            monkeypatch.setattr(type(engine), "__call__", broken)
        return engine

    def broken(*_: Any) -> None:
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr(engines, "build", build_broken)
    _, loaded = set_up(mlp, Workload(rows), ("keras", "compiled"), "object", seed=0)
    assert loaded.engines == ("keras",)
    assert "does not run the model: RuntimeError: no kernel" in loaded.unavailable["compiled"]


def test_rows_can_be_drawn(mlp: Any) -> None:
    """Without a sample, as many rows as were asked for are drawn from the model's inputs."""
    _, loaded = set_up(mlp, Synthetic(12), ("keras",), "object", seed=0)
    assert loaded.sample_rows == 12


def test_rows_that_do_not_fit_are_refused(mlp: Any) -> None:
    """Rows of another shape are refused before anything runs."""
    with pytest.raises(InvalidSample, match=r"'x' has shape .*\b9\b"):
        set_up(mlp, Workload(np.ones((5, 9), np.float32)), None, "object", seed=0)


def test_a_model_that_cannot_be_cut_into_batches_is_refused(keras: Any, rows: Rows) -> None:
    """A model of one batch size is refused before anything runs."""
    x = keras.Input(batch_shape=(50, 10))
    with pytest.raises(InvalidModel, match="fixed batch size of 50"):
        set_up(keras.Model(x, keras.layers.Dense(1)(x)), Workload(rows), None, "object", seed=0)


def test_what_the_check_finds_is_passed_on(mlp: Any, rows: Rows) -> None:
    """Warnings about the outputs are part of the description."""
    mlp.weights[-1].assign([np.nan])
    _, loaded = set_up(mlp, Workload(rows), ("keras",), "object", seed=0)
    (warning,) = own(loaded.warnings)
    assert "7 of 7 rows gave NaN" in warning


def test_a_model_is_described_by_itself(mlp: Any) -> None:
    """Name, inputs, number of weights, policy and fingerprint are the model's own."""
    info = describe_model(mlp, "object", [])
    assert info.inputs == (Input("x", (10,), "float32"),)
    assert info.parameters == 10 * 16 + 16 + 16 + 1
    assert (info.dtype_policy, info.backend) == ("float32", "tensorflow")
    assert (info.jit_compile, info.sha256) == (False, fingerprint(mlp))


def test_inputs_that_a_model_does_not_tell_are_those_of_the_sample(keras: Any) -> None:
    """A subclassed model is described with the inputs of the rows that it was given."""

    class Plain(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x

    model = Plain()
    model.predict_on_batch(np.ones((2, 3), np.int32))
    info = describe_model(model, "object", [Spec("", (3,), "int32")])
    assert info.inputs == (Input("", (3,), "int32"),)


def test_the_machine_is_described(keras: Any) -> None:
    """The machine has a device, processors, memory, and the versions that made the figures."""
    machine = describe_machine(device_of("tensorflow"))
    assert machine.device_kind in ("cpu", "gpu")
    assert machine.cpu_count == host.cpu_count() > 0
    assert machine.memory_bytes == host.memory().total_bytes
    assert machine.versions["keras"] == keras.__version__
    assert {"python", "numpy", "tensorflow"} <= set(machine.versions)
