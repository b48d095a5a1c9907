"""The fastest way that stays below a memory limit: forecasts beside what came, and refusals.

Run it: python examples/memory_limit.py
"""

import keras
import numpy as np

import autotune

BUDGET_S = 3.0  # seconds for probing
MIB = 2**20
MEMORY = 1024 * MIB  # for the whole process that runs the model, framework included

layers = keras.layers
model = keras.Sequential(
    [
        keras.Input((256, 256, 3), name="picture"),
        layers.Conv2D(64, 1, activation="relu"),  # 16 MiB of activations a row
        layers.GlobalAveragePooling2D(),
    ]
)
pictures = np.random.default_rng(0).random((64, 256, 256, 3), dtype=np.float32)

goal = autotune.Goal(memory_budget_bytes=MEMORY)
predictor = autotune.tune(
    model, pictures, goal, engines=["keras"], concurrency=[1], budget_s=BUDGET_S
)

record = predictor.record
print(f"peaks are held against {(record.memory_limit_bytes or 0) / MIB:.0f} MiB")
for forecast in record.forecasts:
    size = forecast.candidate.batch_size
    came = "refused" if forecast.peak_bytes is None else f"{forecast.peak_bytes / MIB:.0f} MiB"
    print(f"{size:5} rows: at most {forecast.upper_bound_bytes / MIB:6.0f} MiB expected, {came}")
print(predictor.recommendation.reason)
