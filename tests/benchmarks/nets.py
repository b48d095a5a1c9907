"""Nets for the benchmarks, from a small MLP to ResNet-50, and predictors for a given candidate."""

from __future__ import annotations

from typing import Any
from unittest import mock

import keras
import numpy as np

from autotune import Candidate, Goal, Measurement, TunedPredictor, TuningRecord, engines
from autotune.outcomes import Block
from autotune.recommend import recommend
from autotune.standing import Standing

WORDS = 5_000  # of the text net
layers = keras.layers


def mlp() -> keras.Model:
    """The model of examples/seed."""
    return keras.Sequential(
        [keras.Input((10,)), layers.Dense(128, activation="relu"), layers.Dense(1)], name="mlp"
    )


def cnn() -> keras.Model:
    """Two convolutions on 28x28 images."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ],
        name="cnn",
    )


def gru() -> keras.Model:
    """A recurrent net over 20 steps."""
    return keras.Sequential([keras.Input((20, 8)), layers.GRU(32), layers.Dense(1)], name="gru")


def autoencoder() -> keras.Model:
    """Outputs as large as the inputs: here the joining of batches weighs most."""
    return keras.Sequential(
        [keras.Input((256,)), layers.Dense(16, activation="relu"), layers.Dense(256)],
        name="autoencoder",
    )


def wide() -> keras.Model:
    """Twenty million weights in two layers."""
    return keras.Sequential(
        [keras.Input((1024,)), layers.Dense(4096, activation="relu"), layers.Dense(4096)],
        name="wide",
    )


def text() -> keras.Model:
    """Words of 40 steps, read in both directions."""
    return keras.Sequential(
        [
            keras.Input((40,), dtype="int32"),
            layers.Embedding(WORDS, 32),
            layers.Bidirectional(layers.LSTM(32)),
            layers.Dense(2, activation="softmax"),
        ],
        name="text",
    )


def attention() -> keras.Model:
    """One block of a transformer."""
    x = keras.Input((32, 64))
    y = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 16)(x, x))
    y = layers.LayerNormalization()(y + layers.Dense(64)(layers.Dense(128, "gelu")(y)))
    y = layers.Dense(10)(layers.GlobalAveragePooling1D()(y))
    return keras.Model(x, y, name="attention")


def unet() -> keras.Model:
    """Images of 64x64 down and up again, with connections across."""

    def convolve(x: Any, filters: int) -> Any:
        return layers.Conv2D(filters, 3, padding="same", activation="relu")(x)

    x = keras.Input((64, 64, 3))
    fine = convolve(x, 16)
    middle = convolve(layers.MaxPooling2D()(fine), 32)
    coarse = convolve(layers.MaxPooling2D()(middle), 64)
    y = convolve(layers.Concatenate()([layers.UpSampling2D()(coarse), middle]), 32)
    y = convolve(layers.Concatenate()([layers.UpSampling2D()(y), fine]), 16)
    return keras.Model(x, layers.Conv2D(1, 1, activation="sigmoid")(y), name="unet")


def mobilenet() -> keras.Model:
    """A convolutional net of 150 operations."""
    return keras.applications.MobileNetV2(
        (96, 96, 3), alpha=0.5, weights=None, classes=10, name="mobilenet"
    )


def resnet() -> keras.Model:
    """A large net: some twenty rows a second on two cores."""
    return keras.applications.ResNet50(weights=None, classes=10, name="resnet50")


def two_inputs() -> keras.Model:
    """A net whose inputs are a dict of two."""
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    return keras.Model({"a": a, "b": b}, layers.Dense(1)(layers.Concatenate()([a, b])), name="two")


def numbering() -> keras.Model:
    """The seed's MLP with weights that make each output the first number of its row, exactly."""
    model = mlp()
    weights = [np.zeros_like(weight) for weight in model.get_weights()]
    weights[0][0, 0] = weights[2][0, 0] = 1
    model.set_weights(weights)
    return model


def rows_for(model: keras.Model, count: int) -> Any:
    """Random rows."""
    random = np.random.default_rng(0)
    shape = (count, *model.input_shape[1:])
    if model.inputs[0].dtype == "int32":
        return random.integers(0, WORDS, shape, dtype=np.int32)
    return random.standard_normal(shape, dtype=np.float32)


def following(model: keras.Model, candidate: Candidate) -> TunedPredictor:
    """A predictor for a given candidate."""
    measurement = Measurement(candidate, (1e-3,) * 3)
    standing = Standing(Goal(), None, [Block(measurement, 1)])
    record = TuningRecord(goal=Goal(), outcomes=(measurement,), recommendation=recommend(standing))
    return TunedPredictor(record, lambda: model, model.save)


def sharing(
    model: keras.Model, candidate: Candidate, engine: engines.Engine, example: Any
) -> TunedPredictor:
    """A predictor that runs its batches through a given engine.

    Args:
        model: The model.
        candidate: What it follows.
        engine: Runs the batches, in place of one that the predictor builds. Two engines of a
            kind may differ by a percent, and one that fails now and then is built by nobody.
        example: A row as they will come.
    """
    predictor = following(model, candidate)
    with mock.patch.object(engines, "build", return_value=engine):
        predictor.predict(example)
    return predictor
