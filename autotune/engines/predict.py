"""The baseline: `model.predict` as it comes, in batches of 32 with an event loop around each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotune.nesting import Nested

if TYPE_CHECKING:
    import keras


class PredictEngine:
    """Runs rows through `model.predict(rows)`, whatever their number."""

    compiles_per_shape = False
    survives_shortage = False
    thread_safe = False  # a model's predict keeps its state in the model

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def __call__(self, batch: Nested) -> Nested:
        """Predict these rows."""
        return self._model.predict(batch, verbose=0)
