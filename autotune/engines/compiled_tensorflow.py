"""A concrete function of TensorFlow with a free batch axis, called without Keras's bookkeeping.

It runs the operations that `predict_on_batch` runs and saves what Keras does around them, some
0.3 ms a call: much for a small batch, invisible for a large one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from autotune.errors import EngineUnavailable, one_line
from autotune.nesting import Nested

if TYPE_CHECKING:
    import keras


class CompiledOnTensorFlow:
    """Runs a batch through one TensorFlow concrete function.

    Args:
        model: The model; it must predict as Keras does, not by a method of its own.
        example: A batch: its nesting, dtypes and the shapes of its rows are built in.
        name: Of the engine, for messages.
        xla: Have XLA compile it, anew for each batch size.

    Raises:
        EngineUnavailable: TensorFlow cannot trace the model.
    """

    thread_safe = True
    survives_shortage = True

    def __init__(self, model: keras.Model, example: Nested, name: str, *, xla: bool) -> None:
        import tensorflow as tf

        self.compiles_per_shape = xla
        try:
            self._function = _trace(model, example, xla=xla)
        except Exception as error:
            raise EngineUnavailable(
                f"The {name!r} engine cannot trace this model: {one_line(error, 200)}"
            ) from error
        self._structure = self._function.structured_outputs
        if len(tf.nest.flatten(self._structure)) != len(self._function.outputs):
            raise EngineUnavailable(
                f"The {name!r} engine cannot run this model: an output is no dense tensor."
            )
        self._captured = list(self._function.captured_inputs)
        self._dtypes = [tensor.dtype for tensor in self._function.outputs]
        self._tf = tf

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch."""
        # Calling the function itself sorts arguments into its signature first: a fifth of the
        # time of a small batch, for arguments that are in order.
        leaves = [batch] if isinstance(batch, np.ndarray) else optree.tree_leaves(batch)
        outputs = self._tf.raw_ops.StatefulPartitionedCall(
            args=[*map(self._tf.constant, leaves), *self._captured],
            Tout=self._dtypes,
            f=self._function,
        )
        arrays = [output.numpy() for output in outputs]
        if self._tf.is_tensor(self._structure):
            return arrays[0]
        return self._tf.nest.pack_sequence_as(self._structure, arrays)


def _trace(model: keras.Model, example: Nested, *, xla: bool) -> Any:
    """Trace the model into one concrete function for all batch sizes."""
    import tensorflow as tf

    leaves, structure = optree.tree_flatten(example)
    free = _free_axes(model, len(leaves))
    specs = [
        tf.TensorSpec(
            (None, *[None if i in free else n for i, n in enumerate(np.shape(leaf)[1:])]),
            leaf.dtype,
        )
        for leaf in leaves
    ]
    keywords = {"training": False} if model._call_has_training_arg else {}

    def forward(*arrays: Any) -> Any:
        return model(structure.unflatten(arrays), **keywords)

    # Within a function: one that is called as an operation runs without XLA, whatever it asks for.
    inner = tf.function(forward, autograph=False, jit_compile=True) if xla else forward
    outer = tf.function(lambda *arrays: inner(*arrays), autograph=False)
    return outer.get_concrete_function(*specs)


def _free_axes(model: keras.Model, count: int) -> set[int]:
    """Axes of a row that the model leaves free in some input."""
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != count:
        return set()
    return {i for t in inputs for i, size in enumerate(t.shape[1:]) if size is None}
