"""Models of every kind that an export must serve, with rows for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Case = tuple[Any, Any]  # a model, and rows for it

ROWS = 70
_rng = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    """Rows of random numbers."""
    return _rng.standard_normal((ROWS, *shape)).astype(np.float32)


def mlp(keras: Any) -> Case:
    """Numbers in, scores of three classes out."""
    dense = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3, "softmax")]
    return keras.Sequential([keras.Input((10,)), *dense]), numbers(10)


def convolution(keras: Any) -> Case:
    """Pictures, with batch normalisation."""
    layers = keras.layers
    stack = [layers.Conv2D(8, 3), layers.BatchNormalization(), layers.GlobalMaxPooling2D()]
    return keras.Sequential([keras.Input((8, 8, 3)), *stack]), numbers(8, 8, 3)


def dicts(keras: Any) -> Case:
    """Named inputs of one shape, one of them idle; named outputs, one of them an input."""
    z, b = keras.Input((4,), name="z"), keras.Input((4,), name="b")
    idle = keras.Input((3,), name="idle")
    outputs = {"y": keras.layers.Dense(5)(z), "a": keras.layers.Dense(5)(b), "same": b}
    model = keras.Model({"z": z, "b": b, "idle": idle}, outputs)
    return model, {"z": numbers(4), "b": numbers(4), "idle": numbers(3)}


def lists(keras: Any) -> Case:
    """Inputs by position, and outputs in lists to a depth of two."""
    a, b = keras.Input((4,)), keras.Input((4,))
    joined = keras.layers.Concatenate()([a, b])
    outputs = [keras.layers.Dense(2)(b), [keras.layers.Dense(2)(a), joined]]
    return keras.Model([a, b], outputs), [numbers(4), numbers(4)]


def attention(keras: Any) -> Case:
    """An attention block with the exact GELU."""
    layers = keras.layers
    x = keras.Input((6, 8))
    h = x + layers.MultiHeadAttention(2, 4)(x, x)
    h = keras.ops.gelu(layers.Dense(16)(layers.LayerNormalization()(h)), approximate=False)
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(h))), numbers(6, 8)


def half_precision(keras: Any) -> Case:
    """Weights in float32, arithmetic and outputs in float16."""
    dense = [keras.layers.Dense(n, dtype="mixed_float16") for n in (16, 2)]
    return keras.Sequential([keras.Input((10,)), *dense]), numbers(10)


def free_length(keras: Any) -> Case:
    """Token numbers through an embedding, in sequences of any length."""
    layers = keras.layers
    stack = [layers.Embedding(50, 4), layers.Conv1D(3, 2, padding="same")]
    model = keras.Sequential(
        [keras.Input((None,), dtype="int32"), *stack, layers.GlobalMaxPooling1D()]
    )
    return model, tokens()


def gru(keras: Any) -> Case:
    """A recurrent layer over sequences of any length."""
    stack = [keras.layers.GRU(8), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((None, 4)), *stack]), numbers(6, 4)


def bidirectional(keras: Any) -> Case:
    """Token numbers, padded with zeros, through an LSTM in both directions."""
    layers = keras.layers
    stack = [layers.Embedding(50, 4, mask_zero=True), layers.Bidirectional(layers.LSTM(3))]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *stack]), tokens()


def recurrent_of_fixed_length(keras: Any) -> Case:
    """Six steps through an LSTM in both directions and a GRU."""
    layers = keras.layers
    stack = [
        layers.Embedding(50, 4),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.GRU(5),
    ]
    return keras.Sequential([keras.Input((6,), dtype="int32"), *stack]), tokens()


def tokens() -> np.ndarray[Any, Any]:
    """Rows of six token numbers, in the dtype that tokenizers give."""
    return _rng.integers(0, 50, (ROWS, 6))


def text(keras: Any) -> Case:
    """Text that a lookup turns into numbers."""
    lookup = keras.layers.StringLookup(vocabulary=["red", "blue"])
    x = keras.Input((1,), dtype="string")
    return keras.Model(x, lookup(x)), np.array([["red"], ["blue"]] * 35)


def stateful(keras: Any) -> Case:
    """A recurrent layer that carries its state from batch to batch."""
    layer = keras.layers.GRU(3, stateful=True)
    return keras.Sequential([keras.Input(batch_shape=(4, 5, 2)), layer]), numbers(5, 2)[:4]


def subclassed(keras: Any) -> Case:
    """A model that is a class of its own, unbuilt, and that looks at `training`."""

    class Subclassed(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.dropout = keras.layers.Dense(4), keras.layers.Dropout(0.5)

        def call(self, x: Any, training: bool | None = None) -> Any:
            return self.dense(self.dropout(x, training=training))

    return Subclassed(), numbers(10)


BOTH: list[Callable[[Any], Case]] = [
    *(mlp, convolution, dicts, lists, attention, half_precision, free_length, subclassed),
    recurrent_of_fixed_length,
]
RECURRENT: list[Callable[[Any], Case]] = [gru, bidirectional]
