"""One graph for all batch sizes, called without Keras's bookkeeping.

On TensorFlow that is a concrete function with a free batch axis. It runs the operations that
`predict_on_batch` runs and saves what Keras does around them, some 0.15 ms a call: much for a
small batch, invisible for a large one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from autotune.errors import EngineUnavailable
from autotune.workload import Nested

if TYPE_CHECKING:
    import keras


class CompiledEngine:
    """Runs a batch through one TensorFlow concrete function.

    Args:
        model: The model; it must predict as Keras does, not by a method of its own.
        example: A batch: its nesting, dtypes and the shapes of its rows are built in.
    """

    thread_safe = True

    def __init__(self, model: keras.Model, example: Nested) -> None:
        _refuse_what_would_differ(model)
        import tensorflow as tf

        leaves, structure = optree.tree_flatten(example)
        shapes = [np.shape(leaf) for leaf in leaves]
        free = _free_axes(model, len(leaves))
        specs = [
            tf.TensorSpec(
                (None, *[None if i in free else n for i, n in enumerate(shape[1:])]), leaf.dtype
            )
            for shape, leaf in zip(shapes, leaves, strict=True)
        ]
        keywords = {"training": False} if model._call_has_training_arg else {}

        def forward(*arrays: Any) -> Any:
            return model(structure.unflatten(arrays), **keywords)

        function = tf.function(forward, autograph=False, jit_compile=bool(model.jit_compile))
        try:
            self._function = function.get_concrete_function(*specs)
        except Exception as error:
            first = (str(error).splitlines() or [""])[0][:200]
            raise EngineUnavailable(
                f"The 'compiled' engine cannot trace this model: {type(error).__name__}: {first}"
            ) from error
        self._to_tensor, self._tensor = tf.constant, tf.Tensor
        self._flatten = optree.tree_leaves

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch."""
        outputs = self._function(*[self._to_tensor(leaf) for leaf in self._flatten(batch)])
        if isinstance(outputs, self._tensor):
            return outputs.numpy()
        return optree.tree_map(lambda tensor: tensor.numpy(), outputs)


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
