"""The reference: `model.predict_on_batch`, on every backend that Keras has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import optree

from autotune.nesting import Nested

if TYPE_CHECKING:
    import keras

# On JAX predict_on_batch donates the weights, on OpenVINO it shares one request: under threads
# calls fail or, worse, get another caller's answer.
_UNSAFE_BACKENDS = ("jax", "openvino")


class KerasEngine:
    """Runs a batch through `model.predict_on_batch`."""

    def __init__(self, model: keras.Model) -> None:
        import keras

        backend = keras.config.backend()
        self.thread_safe = backend not in _UNSAFE_BACKENDS
        on_xla = backend == "tensorflow" and bool(model.jit_compile)
        self.compiles_per_shape = on_xla or backend == "jax"
        self.survives_shortage = backend != "jax"  # the donated weights are lost
        self._predict_on_batch = model.predict_on_batch

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch."""
        outputs = self._predict_on_batch(batch)
        if isinstance(outputs, np.ndarray):
            return outputs
        return optree.tree_map(np.asarray, outputs)
