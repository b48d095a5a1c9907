"""Triton: its own schema reads the configuration, and ONNX Runtime the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import artifact
from autotune.handover import hand_over
from autotune.records import Input
from autotune.serving import ServingLimits
from tests.handed import PAIR, write_tuned
from tests.tunings import MODEL, XEON, replaced, tuned_on

pytestmark = [
    pytest.mark.needs("tritonclient"),
    pytest.mark.needs("onnxruntime"),
    pytest.mark.needs("tf2onnx"),
]


@pytest.fixture(scope="module")
def handed(tuned_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of the model in the repository, and the numbers in it."""
    out = tmp_path_factory.mktemp("triton") / "out"
    limits = hand_over(tuned_folder, "triton", out).limits
    return out / "net", limits


def read(folder: Path) -> Any:
    """The configuration, as the server reads it."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def run(folder: Path, feed: dict[str, Any]) -> dict[str, Any]:
    """The outputs by name, as ONNX Runtime gives them."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        folder / "1" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def test_the_configuration_holds_the_measured_numbers(handed: tuple[Path, ServingLimits]) -> None:
    """Batch, wait, queue, deadline and instances are those of the limits."""
    folder, limits = handed
    config = read(folder)
    batching = config.dynamic_batching
    assert (config.name, config.backend) == ("net", "onnxruntime")
    assert config.max_batch_size == limits.batch_size
    assert set(batching.preferred_batch_size) == {limits.enough_rows, limits.batch_size}
    assert batching.max_queue_delay_microseconds == round(limits.max_wait_s * 1e6)
    assert batching.default_queue_policy.max_queue_size == limits.queue_rows
    timeout_us = batching.default_queue_policy.default_timeout_microseconds
    assert timeout_us == round(limits.deadline_s * 1e6)
    assert [group.count for group in config.instance_group] == [limits.concurrency]


def test_the_model_is_what_the_configuration_says(
    handed: tuple[Path, Any], tuned_folder: Path
) -> None:
    """Names, types and axes fit the file, which answers as the model does."""
    folder, limits = handed
    config = read(folder)
    rows = np.load(tuned_folder.parent / "rows.npy")
    expected = np.load(tuned_folder.parent / "expected.npy")
    assert [(list(one.dims), one.data_type) for one in config.input] == [([10], 11)]  # TYPE_FP32
    assert [list(one.dims) for one in config.output] == [[3]]
    for count in (1, limits.batch_size):
        outputs = run(folder, {config.input[0].name: rows[:count]})
        got = outputs[config.output[0].name]
        np.testing.assert_allclose(got, expected[:count], rtol=1e-4, atol=1e-5)


def test_threads_that_were_tuned_are_set(tmp_path: Path, keras: Any) -> None:
    """Instances and threads of a call are those of the engine that Triton runs, from its curve."""
    from autotune import Candidate
    from tests.batchers import timed
    from tests.test_serving import round_of
    from tests.tunings import recommending

    model = keras.Sequential([keras.Input((2, 3), name="x"), keras.layers.Flatten()])
    way = {"engine": "onnxruntime", "concurrency": 2, "threads": 1}
    outcomes = (timed(4, 0.001, **way), timed(8, 0.004))
    inputs = (Input("x", (2, 3), "float32"),)
    record = tuned_on(XEON, replaced(MODEL, inputs=inputs), outcomes=outcomes, rounds=round_of(2))
    artifact.write(tmp_path / "tuned", recommending(record, Candidate(8)), model.save)
    hand_over(tmp_path / "tuned", "triton", tmp_path / "out")
    config = read(tmp_path / "out" / "mlp")
    assert config.max_batch_size == 4
    assert [group.count for group in config.instance_group] == [2]
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    text = (tmp_path / "out" / "mlp" / "config.pbtxt").read_text()
    assert "which this server does not run" in " ".join(text.replace("\n# ", " ").split())


def test_several_inputs_are_told_apart(two_by_two: Any, tmp_path: Path) -> None:
    """The README says which input of the model has which name in the file."""
    write_tuned(tmp_path / "tuned", two_by_two, *PAIR)
    hand_over(tmp_path / "tuned", "triton", tmp_path / "out")
    config = read(tmp_path / "out" / "two_by_two")
    axes = {one.name: list(one.dims) for one in config.input}
    readme = (tmp_path / "out" / "README.md").read_text()
    for name, size in (("a", 4), ("b", 3)):
        (port,) = [port for port, dims in axes.items() if dims == [size]]
        assert f"`{name}` is `{port}`" in readme
    rows = {"a": np.ones((3, 4), np.float32), "b": np.ones((3, 3), np.float32)}
    feed = {port: rows["a" if dims == [4] else "b"] for port, dims in axes.items()}
    got = run(tmp_path / "out" / "two_by_two", feed)
    expected = two_by_two.predict_on_batch(rows)
    by_axes = {array.shape[1]: array for array in got.values()}
    for array in expected.values():
        np.testing.assert_allclose(by_axes[array.shape[1]], array, rtol=1e-4, atol=1e-5)
