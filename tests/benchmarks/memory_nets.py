"""Nets of many kinds, whose memory grows with the batch in as many ways."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def conv(filters: int, kernel: int = 3, **options: Any) -> Any:
    """A convolution that keeps the size of the image."""
    return layers.Conv2D(filters, kernel, padding="same", activation="relu", **options)


def residual() -> keras.Model:
    """Blocks with a shortcut that is kept while the block runs."""
    x = inputs = keras.Input((32, 32, 3))
    for filters in (32, 64, 128):
        short = layers.Conv2D(filters, 1, strides=2)(x)
        for strides in (2, 1):
            x = layers.ReLU()(layers.BatchNormalization()(conv(filters, strides=strides)(x)))
        x = layers.ReLU()(x + short)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def dense_blocks() -> keras.Model:
    """Every layer sees all those before it, joined."""
    x = inputs = keras.Input((48, 48, 3))
    for _ in range(8):
        x = layers.Concatenate()([x, conv(12)(layers.BatchNormalization()(x))])
    return keras.Model(inputs, layers.GlobalMaxPooling2D()(x))


def efficientnet() -> keras.Model:
    """Inverted bottlenecks, convolutions by depth, squeeze and excitation."""
    return keras.applications.EfficientNetB0(weights=None, input_shape=(64, 64, 3), classes=10)


def unet() -> keras.Model:
    """Transposed convolutions; the large early outputs live until the end."""
    x = inputs = keras.Input((64, 64, 1))
    kept = []
    for filters in (16, 32, 64):
        kept.append(conv(filters)(x))
        x = layers.MaxPooling2D()(kept[-1])
    for skip in reversed(kept):
        x = layers.Conv2DTranspose(skip.shape[-1], 3, strides=2, padding="same")(x)
        x = conv(skip.shape[-1])(layers.Concatenate()([x, skip]))
    return keras.Model(inputs, conv(1, 1)(x))


def tcn() -> keras.Model:
    """Dilated causal convolutions over 256 steps."""
    x = inputs = keras.Input((256, 48))
    for dilation in (1, 2, 4, 8):
        x = layers.Conv1D(48, 3, padding="causal", dilation_rate=dilation)(layers.ReLU()(x)) + x
    return keras.Model(inputs, layers.GlobalAveragePooling1D()(x))


def gru() -> keras.Model:
    """Recurrent both ways, all steps put out."""
    inputs = keras.Input((48, 24))
    x = layers.Bidirectional(layers.GRU(48, return_sequences=True))(inputs)
    return keras.Model(inputs, layers.Dense(8)(x))


def transformer() -> keras.Model:
    """Tokens, attention among 96 of them, layer normalisation."""
    inputs = keras.Input((96,), dtype="int32")
    x = layers.Embedding(5_000, 96)(inputs)
    for _ in range(2):
        x = layers.LayerNormalization()(layers.MultiHeadAttention(6, 16)(x, x) + x)
        x = layers.Dense(96)(layers.Dense(384, activation="gelu")(x)) + x
    return keras.Model(inputs, layers.GlobalAveragePooling1D()(x))


def volume() -> keras.Model:
    """Convolutions in three dimensions."""
    x = inputs = keras.Input((16, 24, 24, 2))
    for filters in (16, 32):
        x = layers.MaxPooling3D()(layers.Conv3D(filters, 3, padding="same", activation="relu")(x))
    return keras.Model(inputs, layers.GlobalAveragePooling3D()(x))


def wide() -> keras.Model:
    """Hidden layers whose weights, 80 MiB, are most of a small batch's peak."""
    x = inputs = keras.Input((512,))
    for units in (4_096, 4_096, 512):
        x = layers.Dense(units, activation="gelu")(x)
    return keras.Model(inputs, x)


def two_inputs() -> keras.Model:
    """An image and a table in, means and a map out."""
    image, table = keras.Input((40, 40, 3), name="image"), keras.Input((30,), name="table")
    x = conv(32)(image) * layers.Reshape((1, 1, 32))(layers.Dense(32)(table))
    return keras.Model([image, table], [layers.GlobalAveragePooling2D()(x), conv(4, 1)(x)])


def kernels() -> keras.Model:
    """Kernels of 7, of 5 dilated, by depth, and in groups, which Keras hands to XLA on a CPU."""
    inputs = keras.Input((48, 48, 4))
    x = layers.DepthwiseConv2D(5)(conv(32, 5, dilation_rate=2)(conv(32, 7)(inputs)))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(conv(32, groups=4)(x)))


def mixer() -> keras.Model:
    """Products of matrices across tokens, then across channels."""
    x = inputs = keras.Input((64, 128))
    for _ in range(3):
        new = layers.Dense(64)(layers.Dense(256, activation="gelu")(layers.Permute((2, 1))(x)))
        x = layers.Permute((2, 1))(new) + x
        x = layers.Dense(128)(layers.Dense(512, activation="gelu")(x)) + x
    return keras.Model(inputs, layers.GlobalAveragePooling1D()(x))


def lstm() -> keras.Model:
    """Two directions in time, over embedded words."""
    x = inputs = keras.Input((120,), dtype="int32")
    x = layers.Bidirectional(layers.LSTM(48, return_sequences=True))(layers.Embedding(500, 64)(x))
    return keras.Model(inputs, layers.Dense(5)(layers.Bidirectional(layers.LSTM(32))(x)))


def separable() -> keras.Model:
    """Convolutions by depth and then by point."""
    x = inputs = keras.Input((64, 64, 3))
    for filters in (32, 64, 96):
        x = layers.SeparableConv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def decoder() -> keras.Model:
    """From few numbers to an image: the outputs are the largest arrays."""
    inputs = keras.Input((32,))
    x = layers.Reshape((8, 8, 32))(layers.Dense(2048, activation="relu")(inputs))
    for filters in (48, 24, 3):
        x = layers.Conv2DTranspose(filters, 4, strides=2, padding="same", activation="relu")(x)
    return keras.Model(inputs, x)


def branches() -> keras.Model:
    """Kernels of several sizes side by side, joined."""
    x = inputs = keras.Input((40, 40, 8))
    for _ in range(2):
        parts = [
            conv(24, 1)(x),
            conv(24, 3)(x),
            conv(16, 5)(x),
            layers.AveragePooling2D(3, 1, "same")(x),
        ]
        x = layers.Concatenate()(parts)
    return keras.Model(inputs, layers.GlobalMaxPooling2D()(x))


def words() -> keras.Model:
    """Convolutions over embedded words, with a vocabulary that is most of the weights."""
    x = inputs = keras.Input((200,), dtype="int32")
    x = layers.Embedding(20_000, 128)(x)
    parts = [
        layers.GlobalMaxPooling1D()(layers.Conv1D(96, n, activation="relu")(x)) for n in (3, 5)
    ]
    return keras.Model(inputs, layers.Dense(4)(layers.Concatenate()(parts)))


def crossed() -> keras.Model:
    """Images attended to by a question, which comes as a second input."""
    image, question = (
        keras.Input((24, 24, 16), name="image"),
        keras.Input((12, 64), name="question"),
    )
    places = layers.Reshape((144, 64))(conv(64, strides=2)(image))
    x = layers.MultiHeadAttention(4, 16)(question, places)
    return keras.Model([image, question], layers.Dense(8)(layers.Flatten()(x)))


def patches() -> keras.Model:
    """An image cut into 64 patches, which attend to each other."""
    inputs = keras.Input((48, 48, 3))
    x = layers.Reshape((64, 96))(layers.Conv2D(96, 6, strides=6)(inputs))
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.MultiHeadAttention(3, 32)(y, y) + x
        y = layers.Dense(384, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Dense(96)(y) + x
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def film() -> keras.Model:
    """Recurrent convolutions over ten frames."""
    x = inputs = keras.Input((10, 24, 24, 2))
    x = layers.ConvLSTM2D(16, 3, padding="same", return_sequences=True)(x)
    return keras.Model(inputs, layers.Conv3D(1, 1)(x))


def twins() -> keras.Model:
    """Two images through one encoder; how far apart they come out."""
    image = keras.Input((56, 56, 1))
    x = layers.MaxPooling2D()(conv(48)(layers.MaxPooling2D()(conv(24)(image))))
    encoder = keras.Model(image, layers.Dense(64)(layers.GlobalAveragePooling2D()(x)))
    left, right = keras.Input((56, 56, 1), name="left"), keras.Input((56, 56, 1), name="right")
    apart = layers.Subtract()([encoder(left), encoder(right)])
    return keras.Model([left, right], layers.Dense(1)(apart * apart))


def enlarged() -> keras.Model:
    """An image twice as large as the one that comes in, by upsampling late."""
    x = inputs = keras.Input((32, 32, 3))
    for _ in range(3):
        x = conv(40)(x)
    x = layers.UpSampling2D(interpolation="bilinear")(x)
    return keras.Model(inputs, layers.Conv2D(3, 3, padding="same")(x))


def modern() -> keras.Model:
    """Kernels of 7 by depth, layer normalisation over channels, wide products: ConvNeXt's block."""
    x = inputs = keras.Input((48, 48, 3))
    x = layers.Conv2D(48, 4, strides=4)(x)
    for _ in range(3):
        y = layers.LayerNormalization()(layers.DepthwiseConv2D(7, padding="same")(x))
        x = layers.Dense(48)(layers.Dense(192, activation="gelu")(y)) + x
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def audio() -> keras.Model:
    """Long one-dimensional sound through strided convolutions and a recurrent layer."""
    x = inputs = keras.Input((4_000, 1))
    for filters in (16, 32, 64):
        x = layers.Conv1D(filters, 9, strides=4, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(x)
    return keras.Model(inputs, layers.Dense(12)(layers.LSTM(48)(x)))


IMAGES = (residual, dense_blocks, efficientnet, unet, volume, two_inputs, kernels)
# What an allocator wastes was read off these; the others had no part in it.
FITTED = (*IMAGES, tcn, gru, transformer, mixer, wide)
HELD_OUT = (
    *(lstm, separable, decoder, branches, words, crossed),
    *(patches, film, twins, enlarged, modern, audio),
)
MODELS = {model.__name__: model for model in (*FITTED, *HELD_OUT)}
