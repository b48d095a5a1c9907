"""The same model on the backend that Keras uses, which KERAS_BACKEND chooses.

Run it: python examples/backend.py, or KERAS_BACKEND=jax python examples/backend.py
"""

import keras
import numpy as np

import autotune

BUDGET_S = 4.0  # seconds for probing

layers = keras.layers
model = keras.Sequential(
    [
        keras.Input((30, 8), name="steps"),
        layers.Conv1D(32, 5, activation="relu"),
        layers.GlobalMaxPooling1D(),
        layers.Dense(4, activation="softmax"),
    ]
)
rows = np.random.default_rng(0).random((2000, 30, 8), dtype=np.float32)

predictor = autotune.tune(
    model, rows, engines=["keras", "compiled"], concurrency=[1], budget_s=BUDGET_S
)
chosen, record = predictor.recommendation, predictor.record

print(f"on {keras.config.backend()}: {chosen.reason}")
for baseline in record.baselines:  # measured beside it, where the budget was enough for that
    name = "model.predict" if baseline.candidate.engine == "predict" else "predict_on_batch"
    size, times = baseline.candidate.batch_size, chosen.rows_per_s / baseline.rows_per_s
    print(f"{times:6.1f} times {name} of {size:,} rows, {baseline.rows_per_s:,.0f} rows/s")
furthest = float(np.abs(predictor.predict(rows) - model.predict(rows, verbose=0)).max())
print(f"at most {furthest:.1e} from model.predict")
