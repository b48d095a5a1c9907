"""A layer of your own. Candidates are tried in another process, which must be able to import it.

Run it: python examples/own_layer.py
"""

import tempfile
from typing import Any

import keras
import numpy as np

import autotune

BUDGET_S = 3.0  # seconds for probing


@keras.saving.register_keras_serializable("examples")
class Scale(keras.layers.Layer):
    """Each feature times a weight of its own."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        self.factor = self.add_weight(shape=shape[-1:], initializer="random_normal")

    def call(self, x: Any) -> Any:
        """Multiply."""
        return x * self.factor


def make() -> keras.Model:
    """The model, as "own_layer:make" calls it in the other process."""
    keras.utils.set_random_seed(1)  # in a real project: load the weights
    return keras.Sequential([keras.Input((20,), name="x"), Scale(), keras.layers.Dense(3)])


if __name__ == "__main__":
    rows = np.random.default_rng(0).random((2000, 20), dtype=np.float32)
    tuned = autotune.tune("own_layer:make", rows, engines=["keras", "compiled"], budget_s=BUDGET_S)
    print(tuned.recommendation.reason)
    with tempfile.TemporaryDirectory() as folder:
        tuned.save(f"{folder}/tuned")
        # The tuned folder names the class; the module that defines it has to be named too.
        predictor = autotune.load(f"{folder}/tuned", imports=["own_layer"])
        predicted = predictor.predict(rows)
    furthest = float(np.abs(predicted - make().predict(rows, verbose=0)).max())
    print(f"loaded again: {predicted.shape}, at most {furthest:.1e} from model.predict")
