"""TensorFlow Serving: its own schemas read the configuration, and TensorFlow the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import load
from autotune.errors import InvalidModel
from autotune.handover import hand_over
from autotune.records import Input
from autotune.serving import ServingLimits
from tests.handed import PAIR, write_tuned

# tensorflow.serving.BatchingParameters, which the package does not ship, as described in
# https://github.com/tensorflow/serving/blob/master/tensorflow_serving/servables/tensorflow/session_bundle_config.proto
# Name, number and kind of each field that is written.
BATCHING = [
    ("max_batch_size", 1, "Int64Value"),
    ("batch_timeout_micros", 2, "Int64Value"),
    ("max_enqueued_batches", 3, "Int64Value"),
    ("num_batch_threads", 4, "Int64Value"),
    ("allowed_batch_sizes", 6, "repeated int64"),
]


@pytest.fixture(scope="module")
def handed(tuned_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder, and the numbers in it."""
    out = tmp_path_factory.mktemp("tfserving") / "out"
    return out, hand_over(tuned_folder, "tfserving", out).limits


def batching_parameters() -> Any:
    """The class of the message, made from the description above."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="batching.proto", package="tensorflow.serving", syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="BatchingParameters")
    for name, number, kind in BATCHING:
        one = message.field.add(name=name, number=number, label=field.LABEL_OPTIONAL)
        if kind == "repeated int64":
            one.label, one.type = field.LABEL_REPEATED, field.TYPE_INT64
        else:
            one.type, one.type_name = field.TYPE_MESSAGE, f".google.protobuf.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    found = pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters")
    return message_factory.GetMessageClass(found)


def test_batching_parameters_are_read_by_their_schema(handed: tuple[Path, ServingLimits]) -> None:
    """Every number is that of the limits, and the last allowed size is the largest batch."""
    from google.protobuf import text_format

    folder, limits = handed
    text = (folder / "batching_parameters.txt").read_text()
    read = text_format.Parse(text, batching_parameters()())
    assert read.max_batch_size.value == limits.batch_size
    assert read.batch_timeout_micros.value == round(limits.max_wait_s * 1e6)
    assert read.num_batch_threads.value == limits.concurrency
    assert read.max_enqueued_batches.value * limits.batch_size >= limits.queue_rows
    assert tuple(read.allowed_batch_sizes) == limits.sizes
    assert read.allowed_batch_sizes[-1] == read.max_batch_size.value


@pytest.mark.needs("tensorflow_serving")
def test_models_config_is_read_by_the_published_schema(handed: tuple[Path, Any]) -> None:
    """The server finds one model, under the name that the README's command asks for."""
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    folder, _ = handed
    text = (folder / "models.config").read_text()
    read = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (config,) = read.model_config_list.config
    assert (config.name, config.base_path) == ("net", "/models/model")
    assert config.model_platform == "tensorflow"
    assert "/v1/models/net:predict" in (folder / "README.md").read_text()


def test_the_saved_model_answers_as_the_predictor(
    handed: tuple[Path, Any], tuned_folder: Path, tf: Any
) -> None:
    """The signature that the server calls gives the outputs of `predict`."""
    folder, limits = handed
    rows = np.load(tuned_folder.parent / "rows.npy")
    saved = tf.saved_model.load(str(folder / "model" / "1"))
    serve = saved.signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    assert f"`{name}`" in (folder / "README.md").read_text()
    expected = load(tuned_folder).predict(rows)
    for count in (1, limits.batch_size, len(rows)):
        (outputs,) = serve(**{name: tf.constant(rows[:count])}).values()
        np.testing.assert_allclose(outputs, expected[:count], rtol=1e-5, atol=1e-6)


def test_named_inputs_and_outputs_keep_their_names(
    keras: Any, tf: Any, two_by_two: Any, tmp_path: Path
) -> None:
    """Clients of a model with a dict of inputs find the same names in the signature."""
    write_tuned(tmp_path / "tuned", two_by_two, *PAIR)
    hand_over(tmp_path / "tuned", "tfserving", tmp_path / "out")
    saved = tf.saved_model.load(str(tmp_path / "out" / "model" / "1"))
    rows = {"a": np.ones((2, 4), np.float32), "b": np.ones((2, 3), np.float32)}
    got = saved.signatures["serving_default"](**{n: tf.constant(x) for n, x in rows.items()})
    expected = two_by_two.predict_on_batch(rows)
    assert got.keys() == expected.keys()
    for name, outputs in got.items():
        np.testing.assert_allclose(outputs, expected[name], rtol=1e-5, atol=1e-6)


def test_a_model_whose_answers_would_change_is_refused(keras: Any, tmp_path: Path) -> None:
    """A layer that carries state from batch to batch has no place behind a server."""
    layer = keras.layers.GRU(3, stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=(4, 5, 2)), layer])
    write_tuned(tmp_path / "tuned", model, Input("x", (5, 2), "float32"))
    with pytest.raises(InvalidModel, match="cannot be exported as a SavedModel"):
        hand_over(tmp_path / "tuned", "tfserving", tmp_path / "out")
    assert not (tmp_path / "out").exists()
