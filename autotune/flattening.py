"""A model as exporters take it: a list of arrays in, a list of arrays out, by position.

Names come back from an export with suffixes and a dict's entries in another order. Lists that
autotune numbers itself leave no doubt which array is which.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from autotune.errors import EngineUnavailable
from autotune.nesting import Nested, flatten, leaf_names
from autotune.signature import Port

if TYPE_CHECKING:
    import keras

MOST_STEPS = 128  # of a recurrent layer that is written down step by step
_OWN_WAYS = ("predict_step", "make_predict_function", "predict_on_batch")


def refuse_what_has_no_export(model: keras.Model, example: Nested) -> None:
    """Refuse a model whose exported `call` would not answer as `predict_on_batch` does.

    Raises:
        EngineUnavailable: Text, state, a fixed batch size, or a way of predicting of its own.
    """
    import keras

    for method in _OWN_WAYS:
        if getattr(type(model), method) is not getattr(keras.Model, method):
            raise EngineUnavailable(f"The model cannot be exported: it overrides {method}().")
    for layer in model._flatten_layers(include_self=False):
        if getattr(layer, "stateful", False):
            raise EngineUnavailable(
                f"The model cannot be exported: layer {layer.name!r} carries state from batch to "
                "batch, which the export would lose."
            )
    for port in input_ports(model, example):
        if port.dtype.startswith(("str", "bytes", "object")):
            raise EngineUnavailable(
                "The model cannot be exported: it takes text, which no exporter can turn into "
                "numbers; export the part of the model behind its text layers."
            )
    if any(tensor.shape[0] is not None for tensor in getattr(model, "inputs", None) or []):
        raise EngineUnavailable("The model cannot be exported: its batch size is fixed.")


def input_ports(model: keras.Model, example: Nested) -> list[Port]:
    """Describe each array of a batch as the model declares it, or else as it comes.

    An axis is free where the model leaves it so; the dtype is that to which Keras casts.
    """
    leaves, _ = flatten(example)
    ports = []
    for place, (leaf, tensor) in enumerate(zip(leaves, _declared(model, example), strict=True)):
        declared = leaf.shape[1:] if tensor is None else tensor.shape[1:]
        dtype = leaf.dtype.name if tensor is None else _name(tensor.dtype)
        ports.append(Port(f"input_{place}", dtype, tuple(declared)))
    return ports


def _declared(model: keras.Model, example: Nested) -> list[Any]:
    """Find the model's input for each array of a batch; None where it does not say."""
    leaves, structure = flatten(example)
    tensors = list(getattr(model, "inputs", None) or [])
    by_name = {tensor.name: tensor for tensor in tensors}
    names = leaf_names(example)
    nested = getattr(model, "input", None)  # a Sequential or subclassed model may have none
    if nested is not None and flatten(nested)[1] == structure:
        return list(flatten(nested)[0])
    if all(name in by_name for name in names):
        return [by_name[name] for name in names]
    return tensors if len(tensors) == len(leaves) else [None] * len(leaves)


def _name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def flattened(model: keras.Model, example: Nested) -> keras.Model:
    """Wrap a model into one that takes and gives lists of arrays; called once, so that it is built.

    Args:
        model: The model, built.
        example: A batch, nested as the model takes it.
    """
    import keras

    leaves, structure = flatten(example)
    keywords = {"training": False} if model._call_has_training_arg else {}

    class Flattened(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="flattened", autocast=False)  # the model casts as it must
            self.inner = model

        def call(self, arrays: Any) -> Any:
            return flatten(self.inner(structure.unflatten(list(arrays)), **keywords))[0]

    wrapped = Flattened()
    wrapped([keras.ops.convert_to_tensor(leaf) for leaf in leaves])
    return wrapped


@contextlib.contextmanager
def unrolled(model: keras.Model, ports: Sequence[Port]) -> Iterator[None]:
    """Have recurrent layers written down step by step, for a converter that knows no loops.

    Only where every length is fixed, and none is long: the graph grows with each step. And only
    without masks, under which Keras's `Bidirectional` answers otherwise when it is unrolled.
    """
    import keras

    every = list(model._flatten_layers(include_self=False))
    masks = any(
        isinstance(x, keras.layers.Masking) or getattr(x, "mask_zero", False) for x in every
    )
    is_short = all((size or math.inf) <= MOST_STEPS for port in ports for size in port.shape[:1])
    is_wanted = is_short and not masks
    layers = [layer for layer in every if is_wanted and getattr(layer, "unroll", None) is False]
    for layer in layers:
        layer.unroll = True
    try:
        yield
    finally:
        for layer in layers:
            layer.unroll = False
