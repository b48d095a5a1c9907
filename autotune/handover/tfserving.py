"""TensorFlow Serving: a SavedModel, its batching parameters, and how the server is started."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.converters import quiet, reason_of
from autotune.errors import InvalidModel
from autotune.exports import questions_for
from autotune.handover.order import Order
from autotune.handover.writing import about, comment, fill, origin, quoted, shown, slug, values_of
from autotune.nesting import Nested, flatten
from autotune.parity import compare, tolerance_of
from autotune.serving import ServingLimits

if TYPE_CHECKING:
    import keras

# It runs the model's graph, as these do, and not as XLA compiles it.
ENGINES = ("compiled", "keras")
VERSION = "1"  # the server loads the folder with the highest number


def write(order: Order, folder: Path) -> ServingLimits:
    """Write a SavedModel, `batching_parameters.txt`, `models.config` and a README."""
    limits = order.limits(ENGINES)
    model, name = order.open_model(), slug(order.model_name)
    saved = folder / "model" / VERSION
    names = _export(model, order.example(1), saved)
    (folder / "batching_parameters.txt").write_text(batching_parameters(order, limits))
    (folder / "models.config").write_text(models_config(name))
    threads = f" \\\n    --tensorflow_intra_op_parallelism={limits.threads}"
    values = {
        "name": name,
        "names": ", ".join(shown(each) for each in names),
        "threads": threads if limits.threads else "",
    }
    fill("tfserving", "README.md", folder, values_of(order, limits) | values)
    return limits


def batching_parameters(order: Order, limits: ServingLimits) -> str:
    """Return tensorflow.serving.BatchingParameters in protobuf's text format."""
    batches = math.ceil(limits.queue_rows / limits.batch_size)
    numbers = [
        ("max_batch_size", limits.batch_size, "batch_size"),
        ("batch_timeout_micros", round(limits.max_wait_s * 1e6), "max_wait_s"),
        ("max_enqueued_batches", batches, "queue_rows"),
        ("num_batch_threads", limits.concurrency, "concurrency"),
    ]
    lines = [comment(origin(order.record, limits))]
    for name, value, reason in numbers:
        lines += [about(limits, reason), f"{name} {{ value: {value} }}"]
    lines.append(about(limits, "sizes"))
    lines += [f"allowed_batch_sizes: {size}" for size in limits.sizes]
    return "\n".join(lines) + "\n"


def models_config(name: str) -> str:
    """Return tensorflow.serving.ModelServerConfig in protobuf's text format."""
    return (
        "model_config_list {\n"
        "  config {\n"
        f"    name: {quoted(name)}\n"
        '    base_path: "/models/model"\n'
        '    model_platform: "tensorflow"\n'
        "  }\n"
        "}\n"
    )


def _export(model: keras.Model, example: Nested, folder: Path) -> list[str]:
    """Write a SavedModel that answers as the model does; return the names of its inputs.

    Raises:
        InvalidModel: Keras cannot export it, or its answers change.
    """
    import tensorflow as tf

    example = _as_declared(model, example)
    try:
        asked = list(questions_for(model, example))  # builds a model that is not built yet
        with quiet():
            model.export(str(folder), format="tf_saved_model", verbose=False)
        saved = tf.saved_model.load(str(folder))
        tolerance = tolerance_of(model)
        for batch, answer in asked:
            complaint = compare(_ask(saved, batch, answer), answer, *tolerance).complaint
            if complaint:
                raise InvalidModel(f"its answers change: {complaint}.")
    except Exception as error:  # an exporter may fail with any error there is
        reason = str(error) if isinstance(error, InvalidModel) else reason_of(error)
        raise InvalidModel(f"The model cannot be exported as a SavedModel: {reason}") from error
    return sorted(saved.signatures["serving_default"].structured_input_signature[1])


def _ask(saved: Any, batch: Nested, answer: Nested) -> Nested:
    """Run the SavedModel's endpoint; its outputs, in the nesting of the model's own answer."""
    import tensorflow as tf

    outputs = [np.asarray(leaf) for leaf in tf.nest.flatten(saved.serve(batch))]
    return flatten(answer)[1].unflatten(outputs)


def _as_declared(model: keras.Model, example: Nested) -> Nested:
    """Nest rows that go by name as the model declares its inputs."""
    nested = getattr(model, "input", None)  # a Sequential or subclassed model may have none
    if nested is None or not isinstance(example, dict):
        return example
    tensors, structure = flatten(nested)
    return structure.unflatten([example[tensor.name] for tensor in tensors])
