"""The forecast of memory against the truth, on models that its margin was not fitted on.

    python -m tests.benchmarks.forecasts [--processes 3] [--json FILE] [--short] [--model NAME]

Each model is tried in child processes at the sizes of a search, and every peak is kept. Then each
size is forecast from what a search knows before it tries that size: peaks of the same process, or
of another one, as after a child that died. The exit status is 1 if any forecast was too low.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
from keras import layers

from autotune import Candidate, Measurement
from autotune.bounds import rounded
from autotune.forecast import upper_bound_bytes
from autotune.probe import IsolatedProbe
from autotune.worker import DrawnRows, FactorySource, Load

MIB = 2**20
LANES = tuple(itertools.product(("keras", "compiled"), (1, 2)))
STEPS = (1.125, 1.5)  # up from each rung; from 64 rows on the first is the smallest there is
BLOCK_S = 0.1  # as in a tuning of 60 seconds
LARGE_BYTES = 30 * MIB  # below it the reserve, and not the margin, makes most of a bound
Peaks = dict[int, int]


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


IMAGES = (residual, dense_blocks, efficientnet, unet, volume, two_inputs, kernels)
MODELS = {model.__name__: model for model in (*IMAGES, tcn, gru, transformer, mixer, wide)}
SHORT = ("residual", "transformer", "wide")


class Line(NamedTuple):
    """What one process took in one lane, in bytes: before its calls at the least, and the peaks."""

    idle_bytes: int
    peaks: Peaks


def measure(name: str, number: int, most_s: float, most_bytes: int) -> list[Line]:
    """Try sizes in one child process, in the order of a search; return what each lane took.

    First the rungs of all lanes in step, up to where a call takes `most_s` or the peak is
    `most_bytes`; then sizes between them and above the last, in random order.
    """
    model = FactorySource(f"tests.benchmarks.forecasts:{name}")
    request = Load(id=0, model=model, name=name, sample=DrawnRows(1024, {}), engines=None)
    peaks: dict[tuple[str, int], Peaks] = {lane: {} for lane in LANES}
    idle: dict[tuple[str, int], int] = {}
    with IsolatedProbe(request) as probe:

        def is_small(lane: tuple[str, int], size: int) -> bool:
            outcome = probe(Candidate(size, lane[0], concurrency=lane[1]), BLOCK_S)
            if not isinstance(outcome, Measurement) or outcome.device_peak_bytes is None:
                raise SystemExit(f"{name}: no peak was counted: {outcome}")
            peaks[lane][size] = outcome.device_peak_bytes
            before = outcome.device_idle_bytes or 0
            idle[lane] = min(idle.get(lane, before), before)
            return outcome.latency_s < most_s and outcome.device_peak_bytes < most_bytes

        climbing, size = list(LANES), 1
        while climbing := [lane for lane in climbing if is_small(lane, size)]:
            size *= 2
        between = {(n, rounded(s * step)) for n in LANES for s in peaks[n] for step in STEPS}
        rest = sorted((lane, size) for lane, size in between if size not in peaks[lane])
        random.Random(number).shuffle(rest)  # noqa: S311
        for lane, size in rest:
            is_small(lane, size)
    return [Line(idle[lane], peaks[lane]) for lane in LANES]


class Forecast(NamedTuple):
    """One forecast and the truth, in bytes, and what the forecast was made from."""

    known: str
    across: bool
    bound: int
    actual: int


def forecasts(processes: list[list[Line]]) -> Iterator[Forecast]:
    """Forecast from each process for itself and for each other one."""
    for (i, ours), (j, theirs) in itertools.product(enumerate(processes), repeat=2):
        for (idle_bytes, peaks), (_, truth) in zip(ours, theirs, strict=True):
            for size, actual in truth.items():
                for name, known in what_is_known(peaks, size).items():
                    bound = upper_bound_bytes(known, size, idle_bytes) or 0
                    yield Forecast(name, i != j, bound, actual)


def what_is_known(peaks: Peaks, size: int) -> dict[str, Peaks]:
    """Rungs below a size, all sizes below, rungs on both sides: what a search may know by then."""
    below = {s: peak for s, peak in peaks.items() if s < size}
    rungs = {s: peak for s, peak in below.items() if s & (s - 1) == 0}
    if not rungs or size > 2 * max(rungs):
        return {}
    known = {f"rungs, x {size / max(rungs):g}": rungs, "all sizes below": below}
    above = 2 * max(rungs)
    if size < above and above in peaks:
        known["rungs on both sides"] = rungs | {above: peaks[above]}
    return known


def print_table(found: dict[str, list[Forecast]]) -> None:
    """Print the forecasts by model, and by what they were made from."""
    every = [forecast for group in found.values() for forecast in group]
    by_known = {k: [f for f in every if f.known == k] for k in sorted({f.known for f in every})}
    print(f"{'':20}forecasts  too low  across  worst  MiB low  median  largest MiB")
    for name, group in (found | by_known | {"all": every}).items():
        low = [f for f in group if f.actual > f.bound]
        over = [f.bound / f.actual for f in group if f.actual > LARGE_BYTES] or [float("nan")]
        worst = max(f.actual / max(1, f.bound) for f in group)
        missing = max([0, *(f.actual - f.bound for f in low)]) / MIB
        across, largest = sum(f.across for f in low), max(f.actual for f in group) / MIB
        print(
            f"{name:20}{len(group):9,}{len(low) - across:9}{across:8}{worst:7.2f}{missing:9.1f}"
            f"{statistics.median(over):8.2f}{largest:13,.0f}"
        )


def main() -> int:
    """Measure each model, print the table, and tell whether any forecast was too low."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--processes", type=int, default=3, help="for each model")
    parser.add_argument("--json", type=Path, help="where to write the peaks")
    parser.add_argument("--model", choices=MODELS, help="by default all")
    parser.add_argument("--short", action="store_true", help="three models, one process, small")
    chosen = parser.parse_args()
    names = [chosen.model] if chosen.model else SHORT if chosen.short else list(MODELS)
    most_s, most_bytes, count = (0.03, 2**27, 1) if chosen.short else (0.5, 2**30, chosen.processes)
    lines: dict[str, list[list[Line]]] = {}
    for name in names:
        lines[name] = [measure(name, n, most_s, most_bytes) for n in range(count)]
        print(f"{name}: done", file=sys.stderr, flush=True)
        if chosen.json:
            chosen.json.write_text(json.dumps(lines))
    found = {name: [*forecasts(processes)] for name, processes in lines.items()}
    print_table(found)
    return int(any(f.actual > f.bound for group in found.values() for f in group))


if __name__ == "__main__":
    sys.exit(main())
