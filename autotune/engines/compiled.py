"""One graph for all batch sizes, called without Keras's bookkeeping.

On TensorFlow that is a concrete function with a free batch axis. It runs the operations that
`predict_on_batch` runs and saves what Keras does around them, some 0.15 ms a call: much for a
small batch, invisible for a large one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from autotune.errors import EngineUnavailable, one_line
from autotune.nesting import Nested

if TYPE_CHECKING:
    import keras


class CompiledEngine:
    """Runs a batch through one TensorFlow concrete function.

    Args:
        model: The model; it must predict as Keras does, not by a method of its own.
        example: A batch: its nesting, dtypes and the shapes of its rows are built in.
    """

    thread_safe = True
    compiles_per_shape = False
    survives_shortage = True

    def __init__(self, model: keras.Model, example: Nested) -> None:
        _refuse_what_would_differ(model)
        import tensorflow as tf

        self._function = _trace(model, example)
        self._structure = self._function.structured_outputs
        if len(tf.nest.flatten(self._structure)) != len(self._function.outputs):
            raise EngineUnavailable(
                "The 'compiled' engine cannot run this model: an output is no dense tensor."
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


def _trace(model: keras.Model, example: Nested) -> Any:
    """Trace the model into one concrete function for all batch sizes.

    Raises:
        EngineUnavailable: TensorFlow cannot trace it.
    """
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

    function = tf.function(forward, autograph=False, jit_compile=bool(model.jit_compile))
    try:
        return function.get_concrete_function(*specs)
    except Exception as error:
        raise EngineUnavailable(
            f"The 'compiled' engine cannot trace this model: {one_line(error, 200)}"
        ) from error


def _free_axes(model: keras.Model, count: int) -> set[int]:
    """Axes of a row that the model leaves free in some input."""
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != count:
        return set()
    return {i for t in inputs for i, size in enumerate(t.shape[1:]) if size is None}


def _refuse_what_would_differ(model: keras.Model) -> None:
    import keras

    if keras.config.backend() != "tensorflow":
        raise EngineUnavailable(
            "The 'compiled' engine needs Keras on TensorFlow; "
            f"this is Keras on {keras.config.backend()}."
        )
    for method in ("predict_step", "make_predict_function", "predict_on_batch"):
        if getattr(type(model), method) is not getattr(keras.Model, method):
            raise EngineUnavailable(
                f"The 'compiled' engine cannot run this model: it overrides {method}()."
            )
