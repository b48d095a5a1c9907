"""The model as a function of its own, called without Keras's bookkeeping: a file a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotune.engines import Engine
from autotune.errors import EngineUnavailable
from autotune.nesting import Nested

if TYPE_CHECKING:
    import keras


def build(model: keras.Model, example: Nested) -> Engine:
    """Make the `compiled` engine of the backend that Keras is on.

    Args:
        model: The model.
        example: A batch as it will come.

    Raises:
        EngineUnavailable: There is none for this backend, or it cannot run this model.
    """
    import keras

    refuse_what_would_differ("compiled", model)
    backend = keras.config.backend()
    if backend == "tensorflow":
        from autotune.engines.compiled_tensorflow import CompiledOnTensorFlow

        return CompiledOnTensorFlow(model, example, "compiled", xla=bool(model.jit_compile))
    if backend == "jax":
        from autotune.engines.compiled_jax import CompiledOnJax

        return CompiledOnJax(model, example)
    if backend == "torch":
        from autotune.engines.compiled_torch import CompiledOnTorch

        return CompiledOnTorch(model, example)
    raise EngineUnavailable(
        f"The 'compiled' engine needs Keras on TensorFlow, JAX or PyTorch; this is on {backend}."
    )


def refuse_what_would_differ(name: str, model: keras.Model) -> None:
    """Refuse a model that predicts in its own way, which an engine would pass by.

    Args:
        name: Of the engine, for the message.
        model: The model.

    Raises:
        EngineUnavailable: It overrides one of Keras's methods; the message names it.
    """
    import keras

    for method in ("predict_step", "make_predict_function", "predict_on_batch"):
        if getattr(type(model), method) is not getattr(keras.Model, method):
            raise EngineUnavailable(
                f"The {name!r} engine cannot run this model: it overrides {method}()."
            )
