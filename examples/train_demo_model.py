"""Train the small classifier that `autotune demo` tunes, and write it with its digits.

The 1,797 images are the test set of "Optical Recognition of Handwritten Digits" by E. Alpaydin
and C. Kaynak, UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, licence CC BY 4.0,
as scikit-learn ships it. The last 360 are held out: accuracy is told of them.

    pip install scikit-learn
    python examples/train_demo_model.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

HELD_OUT = 360


def make_model() -> keras.Model:
    """Three convolutions on 8x8 images, and a dense head."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Rescaling(1 / 16),
            layers.Conv2D(24, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(48, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(48, activation="relu"),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )


def main(folder: Path, epochs: int = 60) -> float:
    """Train, write `digits.keras` and `digits.npz` to `folder`, return the held-out accuracy."""
    keras.utils.set_random_seed(7)
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype(np.uint8)
    labels = labels.astype(np.uint8)
    model = make_model()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images[:-HELD_OUT].astype(np.float32), labels[:-HELD_OUT], epochs=epochs, verbose=0)
    _, accuracy = model.evaluate(
        images[-HELD_OUT:].astype(np.float32), labels[-HELD_OUT:], verbose=0
    )
    bare = make_model()  # without the optimizer's state, which is larger than the model
    bare.set_weights(model.get_weights())
    bare.save(folder / "digits.keras")
    np.savez_compressed(folder / "digits.npz", image=images, label=labels)
    return float(accuracy)


if __name__ == "__main__":
    print(f"accuracy on held-out digits: {main(Path(sys.argv[1])):.3f}")
