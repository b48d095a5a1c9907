"""TensorFlow's concrete function, compiled by XLA: one program a batch size.

Where the time goes into many small operations (the steps of a recurrent layer, attention), the
program is several times as fast as the graph; where it goes into large convolutions, it is slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autotune.engines import Engine
from autotune.engines.compiled import refuse_what_would_differ
from autotune.engines.compiled_tensorflow import CompiledOnTensorFlow
from autotune.errors import EngineUnavailable, one_line
from autotune.nesting import Nested, leaves_of

if TYPE_CHECKING:
    import keras

_NOT_TENSORFLOW = {
    "jax": "on JAX 'compiled' is XLA already",
    "torch": "on PyTorch there is no XLA",
}


def build(model: keras.Model, example: Nested) -> Engine:
    """Make the `xla` engine, and compile it for the number of rows of the example.

    Args:
        model: The model.
        example: A batch as it will come, of rows that are valid.

    Raises:
        EngineUnavailable: XLA cannot run this model, or runs it already.
    """
    _refuse_backend()
    refuse_what_would_differ("xla", model)
    _refuse_what_xla_cannot_run(model, example)
    if model.jit_compile:
        raise EngineUnavailable(
            "The 'xla' engine is not needed: the model's jit_compile is set, and 'compiled' is XLA."
        )
    engine = CompiledOnTensorFlow(model, example, "xla", xla=True)
    try:
        engine(example)
    except Exception as error:
        raise EngineUnavailable(
            f"The 'xla' engine cannot compile this model: {one_line(error, 200)}"
        ) from error
    return engine


def _refuse_backend() -> None:
    import keras

    backend = keras.config.backend()
    if backend != "tensorflow":
        why = _NOT_TENSORFLOW.get(backend, f"this is on {backend}")
        raise EngineUnavailable(f"The 'xla' engine needs Keras on TensorFlow; {why}.")


def _refuse_what_xla_cannot_run(model: keras.Model, example: Nested) -> None:
    """Refuse what is known to fail, before TensorFlow says so in a page of operations."""
    if any(np.asarray(leaf).dtype.kind in "OSUT" for leaf in leaves_of(example)):
        raise EngineUnavailable("The 'xla' engine cannot run this model: it takes text.")
    for layer in model._flatten_layers():
        if not layer.supports_jit:
            raise EngineUnavailable(
                f"The 'xla' engine cannot run this model: its layer {layer.name!r} "
                f"({type(layer).__name__}) does not support XLA."
            )
