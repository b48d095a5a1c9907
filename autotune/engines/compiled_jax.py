"""`jax.jit` of the model as a function of its weights: one program a batch size, nothing lent out.

`predict_on_batch` lets JAX write over the buffers of the weights and puts new ones into the model
after each call: two calls at once, or one that fails, leave a model without weights. Here they
stay where they are: calls from several threads cannot harm each other, and one that ran out of
memory harms nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from autotune.errors import EngineUnavailable, one_line
from autotune.nesting import Nested

if TYPE_CHECKING:
    import keras


class CompiledOnJax:
    """Runs a batch through a jitted function that donates nothing.

    Args:
        model: The model; it must predict as Keras does, not by a method of its own.
        example: A batch: the model is traced with it once, without compiling it.

    Raises:
        EngineUnavailable: JAX cannot trace the model.
    """

    thread_safe = True
    compiles_per_shape = True
    survives_shortage = True

    def __init__(self, model: keras.Model, example: Nested) -> None:
        import jax

        keywords = {"training": False} if model._call_has_training_arg else {}

        def forward(trained: Any, others: Any, batch: Nested) -> Nested:
            return model.stateless_call(trained, others, batch, **keywords)[0]

        try:
            if not model.built:
                model(example, **keywords)
            self._trained = model.trainable_variables
            self._others = model.non_trainable_variables
            jax.eval_shape(forward, *self._weights(), example)
        except Exception as error:
            raise EngineUnavailable(
                f"The 'compiled' engine cannot trace this model: {one_line(error, 200)}"
            ) from error
        self._run = jax.jit(forward)

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch."""
        outputs = self._run(*self._weights(), batch)
        # Copied: on a CPU what JAX gives is a view of its own buffer, and read-only.
        if hasattr(outputs, "dtype"):  # the usual case, without the cost of a nesting
            return np.array(outputs)
        return optree.tree_map(np.array, outputs)

    def _weights(self) -> tuple[list[Any], list[Any]]:
        """Return the weights as they are now.

        Every `predict*` and every assignment puts other arrays into the variables. `v.value`
        would ask for a scope first, a microsecond each; here there is none.
        """
        return [v._value for v in self._trained], [v._value for v in self._others]
