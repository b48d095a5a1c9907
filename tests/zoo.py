"""Small models of every kind, each with rows for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Case = tuple[Any, Any]  # a model, and rows for it

_rng = np.random.default_rng(0)
ROWS = 70
FLAT = _rng.standard_normal((ROWS, 10)).astype(np.float32)
PAIR = {"a": FLAT[:, :4], "b": FLAT[:, 4:7]}
WORDS = _rng.integers(0, 50, (ROWS, 6)).astype(np.int32)
STEPS = _rng.standard_normal((ROWS, 9, 6)).astype(np.float32)


def one_input(keras: Any) -> Case:
    """Numbers in, numbers out."""
    layers = keras.layers
    dense = [layers.Dense(16, activation="relu"), layers.Dense(3)]
    return keras.Sequential([keras.Input((10,)), *dense]), FLAT


def dict_to_dict(keras: Any) -> Case:
    """Two named inputs, two named outputs."""
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    outputs = {"score": keras.layers.Dense(1)(joined), "label": keras.layers.Dense(5)(joined)}
    return keras.Model({"a": a, "b": b}, outputs), PAIR


def list_to_list(keras: Any) -> Case:
    """Two inputs and two outputs by position."""
    a, b = keras.Input((4,)), keras.Input((3,))
    outputs = [keras.layers.Dense(2)(a), keras.layers.Dense(2)(b)]
    return keras.Model([a, b], outputs), [PAIR["a"], PAIR["b"]]


def words(keras: Any) -> Case:
    """Whole numbers through an embedding."""
    layers = keras.layers
    stack = [layers.Embedding(50, 4), layers.GlobalAveragePooling1D(), layers.Dense(2)]
    return keras.Sequential([keras.Input((6,), dtype="int32"), *stack]), WORDS


def free_length(keras: Any) -> Case:
    """A sequence whose length the model leaves free."""
    layers = keras.layers
    stack = [layers.Embedding(50, 4), layers.GlobalMaxPooling1D(), layers.Dense(2)]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *stack]), WORDS


def recurrent(keras: Any) -> Case:
    """A recurrent layer over a fixed number of steps."""
    layers = keras.layers
    return keras.Sequential([keras.Input((9, 6)), layers.GRU(8), layers.Dense(2)]), STEPS


def free_recurrent(keras: Any) -> Case:
    """Recurrent layers, both ways, over a length that the model leaves free."""
    layers = keras.layers
    stack = [layers.Embedding(50, 4), layers.Bidirectional(layers.LSTM(3))]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *stack]), WORDS


def attention(keras: Any) -> Case:
    """Attention, a normalisation and exact GELU."""
    layers, x = keras.layers, keras.Input((9, 6))
    seen = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    return keras.Model(x, layers.Dense(8, activation="gelu")(seen)), STEPS


def subclassed(keras: Any) -> Case:
    """A model that is a class of its own, unbuilt, and that looks at `training`."""

    class Subclassed(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(4)
            self.dropout = keras.layers.Dropout(0.5)

        def call(self, x: Any, training: bool | None = None) -> Any:
            return self.dense(self.dropout(x, training=training))

    return Subclassed(), FLAT


def half_precision(keras: Any) -> Case:
    """Weights in float32, arithmetic and outputs in float16."""
    layers, policy = keras.layers, "mixed_float16"
    dense = [layers.Dense(16, dtype=policy), layers.Dense(2, dtype=policy)]
    return keras.Sequential([keras.Input((10,)), *dense]), FLAT


def brain_floats(keras: Any) -> Case:
    """Weights, arithmetic and outputs in bfloat16, which NumPy has not."""
    layers, policy = keras.layers, "bfloat16"
    dense = [layers.Dense(16, dtype=policy), layers.Dense(2, dtype=policy)]
    return keras.Sequential([keras.Input((10,)), *dense]), FLAT


def double_rows(keras: Any) -> Case:
    """Rows in float64 for a model in float32."""
    return one_input(keras)[0], FLAT.astype(np.float64)


def convolution(keras: Any) -> Case:
    """Pictures, with batch normalisation."""
    layers = keras.layers
    stack = [layers.Conv2D(8, 3), layers.BatchNormalization(), layers.GlobalMaxPooling2D()]
    pictures = _rng.random((ROWS, 8, 8, 3), np.float32)
    return keras.Sequential([keras.Input((8, 8, 3)), *stack]), pictures


def whole_numbers_out(keras: Any) -> Case:
    """Class numbers and scores: outputs of two dtypes."""
    x = keras.Input((10,))
    scores = keras.layers.Dense(4)(x)
    return keras.Model(x, [keras.ops.argmax(scores, axis=-1), scores]), FLAT


def as_it_was(keras: Any) -> Case:
    """The rows themselves as output."""
    x = keras.Input((10,))
    return keras.Model(x, keras.layers.Identity()(x)), FLAT


def text(keras: Any) -> Case:
    """Text that a lookup turns into numbers."""
    lookup = keras.layers.StringLookup(vocabulary=["red", "blue"])
    x = keras.Input((1,), dtype="string")
    return keras.Model(x, lookup(x)), np.array([["red"], ["blue"], ["grey"]] * 24)[:ROWS]


CASES: list[Callable[[Any], Case]] = [
    *(one_input, dict_to_dict, list_to_list, words, free_length, recurrent, free_recurrent),
    *(attention, subclassed, half_precision, brain_floats, double_rows, convolution),
    *(whole_numbers_out, as_it_was, text),
]
