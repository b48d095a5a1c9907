"""A file of rows into a file of outputs, with no more in memory than the batches in flight.

Rows and outputs are memory-mapped files; pages are given back when they have been read or written.
Here the file is small enough to make in a second. Its size would not matter.

Run it: python examples/larger_than_memory.py
"""

import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import psutil

import autotune

BUDGET_S = 3.0  # seconds for probing
ROWS, WIDTH = 500_000, 64

layers = keras.layers
model = keras.Sequential(
    [keras.Input((WIDTH,), name="x"), layers.Dense(32, activation="relu"), layers.Dense(4)]
)
rng = np.random.default_rng(0)

with tempfile.TemporaryDirectory() as folder:
    open_file = np.lib.format.open_memmap
    source, target = Path(folder, "rows.npy"), Path(folder, "outputs.npy")
    rows = open_file(source, "w+", np.float32, (ROWS, WIDTH))
    for start in range(0, ROWS, 50_000):
        rows[start : start + 50_000] = rng.random((50_000, WIDTH), dtype=np.float32)
    del rows

    rows = np.load(source, mmap_mode="r")
    outputs = open_file(target, "w+", np.float32, (ROWS, 4))
    sample = np.array(rows[:20_000])
    goal = autotune.Goal(min_batch_size=256)  # for so many rows smaller ones are a waste of time
    predictor = autotune.tune(
        model, sample, goal, engines=["keras", "compiled"], concurrency=[1], budget_s=BUDGET_S
    )
    predictor.predict(sample)  # the first call compiles

    process = psutil.Process()
    before = process.memory_info().rss
    began = time.perf_counter()
    predictor.predict(rows, out=outputs)
    seconds = time.perf_counter() - began
    grown = process.memory_info().rss - before

    print(predictor.recommendation.reason)
    print(f"{ROWS:,} rows in {seconds:.2f} s, {ROWS / seconds:,.0f} rows/s")
    read, wrote = source.stat().st_size, target.stat().st_size
    print(f"read {read / 2**20:.0f} MiB, wrote {wrote / 2**20:.0f} MiB")
    print(f"the process grew by {max(0, grown) / 2**20:.0f} MiB")
