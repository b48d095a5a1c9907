"""Can this model be cut into batches at all? Refuse the ones whose answers would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autotune.errors import InvalidModel, InvalidSample, one_line
from autotune.nesting import Array, Nested, flatten, leaf_names
from autotune.workload import Workload

if TYPE_CHECKING:
    import keras

# TensorFlow keeps a graph of its own for the first size that a model is ever called with, and
# one with a free batch axis for all others. With 7 first, every size that is tuned runs on the
# free one. 7 is also odd, so that its halves differ.
_ROWS = 7


def refuse_unbatchable(model: keras.Model) -> None:
    """Refuse a model whose answer depends on earlier calls, or that wants one batch size.

    Raises:
        InvalidModel: The message names the layer and what to do.
    """
    for layer in model._flatten_layers(include_self=False):
        if getattr(layer, "stateful", False):
            raise InvalidModel(
                f"Layer {layer.name!r} ({type(layer).__name__}) is stateful: it carries state from "
                "batch to batch, so its batch size cannot be tuned. Build it with stateful=False."
            )
    for tensor in getattr(model, "inputs", None) or []:
        if tensor.shape[0] is not None:
            raise InvalidModel(
                f"Input {tensor.name!r} has a fixed batch size of {tensor.shape[0]}. "
                f"Build it with keras.Input(shape={tuple(tensor.shape[1:])}), without batch_shape "
                "or batch_size."
            )


def check_rows_independent(model: keras.Model, workload: Workload) -> list[str]:
    """Run the model on a few rows and see that every row has an answer of its own.

    A model passes if the first axis of each output is the rows, and if a row's answer does not
    depend on the rows beside it. Without that, no batch size gives the same answer as another.

    Returns:
        Warnings about the outputs.

    Raises:
        InvalidModel: It does not pass; the message names the output.
        InvalidSample: The model fails on the sample.
    """
    places = list(range(_ROWS))
    whole = _run(model, workload, places)
    for name, leaf in whole.items():
        if leaf.ndim == 0 or len(leaf) != _ROWS:
            raise InvalidModel(
                f"Output {name!r} has shape {leaf.shape} for {_ROWS} rows: its first axis is not "
                "the rows, so it cannot be cut into batches. Leave that output out of the model."
            )
    if not _agree(whole, _run(model, workload, places)):
        return ["The model's outputs are random: equal rows gave unequal answers in two calls."]
    if _are_equal(workload.pick([n % workload.rows for n in places])):
        return [
            "The sample's rows are all equal: whether one row changes another's answer, and how "
            "speed depends on the values, cannot be seen. Give rows as production sends them."
        ]
    half = _ROWS // 2
    for part in (places[:half], places[half:], places[half:] + places[:half]):
        expected = {name: leaf[part] for name, leaf in whole.items()}
        if not _agree(expected, _run(model, workload, part)):
            raise InvalidModel(
                "The answer for a row depends on the other rows of its batch, so another batch "
                "size gives another answer. Look for layers of your own that mix rows, such as by "
                "a mean over axis 0."
            )
    return _not_finite(whole)


def _are_equal(rows: Nested) -> bool:
    leaves, _ = flatten(rows)
    return all(bool((leaf == leaf[:1]).all()) for leaf in leaves)


def _run(model: keras.Model, workload: Workload, places: list[int]) -> dict[str, Array]:
    try:
        outputs = model.predict_on_batch(workload.pick([n % workload.rows for n in places]))
    except Exception as error:
        raise InvalidSample(f"The model fails on the sample: {one_line(error)}") from error
    return _by_name(model, outputs)


def _by_name(model: keras.Model, outputs: Nested) -> dict[str, Array]:
    leaves, _ = flatten(outputs)
    names = leaf_names(outputs)
    known = list(getattr(model, "output_names", None) or [])
    if len(known) == len(leaves) and all(name == "" or name.isdigit() for name in names):
        names = known
    return {name or "output": np.asarray(leaf) for name, leaf in zip(names, leaves, strict=True)}


def _agree(first: dict[str, Array], second: dict[str, Array]) -> bool:
    return all(_close(first[name], second[name]) for name in first)


def _close(first: Array, second: Array) -> bool:
    if first.shape != second.shape:
        return False
    if first.dtype.kind not in "fV":
        return bool(np.array_equal(first, second))
    a, b = first.astype(np.float64), second.astype(np.float64)
    # Other kernels for other sizes may differ in the last bits; a mixed-in row differs by far more.
    tolerance = 1e-2 if first.dtype.itemsize < 4 else 1e-4
    scale = float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0))
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


def _not_finite(outputs: dict[str, Array]) -> list[str]:
    for name, leaf in outputs.items():
        if leaf.dtype.kind == "f" and not np.all(np.isfinite(leaf)):
            bad = int(np.sum(~np.isfinite(leaf.reshape(_ROWS, -1)).all(axis=1)))
            return [
                f"{bad} of {_ROWS} rows gave NaN or infinity in output {name!r}: look at the "
                "weights and the sample. The timings are valid all the same."
            ]
    return []
