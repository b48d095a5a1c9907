"""The most rows per second whose batches are answered within a limit, and the curve around it.

Run it: python examples/latency_budget.py
"""

import keras
import numpy as np

import autotune

BUDGET_S = 4.0  # seconds for probing; the default of a minute settles more
LIMIT_S = 0.050

layers = keras.layers
model = keras.Sequential(
    [
        keras.Input((32, 32, 3), name="picture"),
        layers.Conv2D(16, 3, activation="relu"),
        layers.Conv2D(32, 3, strides=2, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10, activation="softmax"),
    ]
)
pictures = np.random.default_rng(0).random((512, 32, 32, 3), dtype=np.float32)

goal = autotune.Goal(latency_budget_s=LIMIT_S, quantile=0.9)
predictor = autotune.tune(
    model, pictures, goal, engines=["compiled"], concurrency=[1], budget_s=BUDGET_S
)

slowest: dict[int, float] = {}  # seconds of the 90 % quantile, in the worst block of each size
for outcome in predictor.record.outcomes:
    if isinstance(outcome, autotune.Measurement) and outcome.candidate.engine == "compiled":
        late_s = float(np.quantile(outcome.times_s, 0.9))
        size = outcome.candidate.batch_size
        slowest[size] = max(late_s, slowest.get(size, 0.0))

chosen = predictor.recommendation
for size, late_s in sorted(slowest.items()):
    verdict = "in time" if late_s <= LIMIT_S else "late"
    mark = ">" if size == chosen.batch_size else " "
    print(f"{mark} {size:5} rows: {late_s * 1e3:7.2f} ms at 90 %, {verdict}")
print(f"limited by {chosen.limited_by}, confidence {chosen.confidence}: {chosen.reason}")
