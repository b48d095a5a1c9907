"""The tuned predictor beside the three others, timed in turn in one run."""

import statistics
import time

import numpy as np
from common import make_model, make_rows

import autotune

model, rows = make_model(), make_rows()
goal = autotune.Goal("makespan", rows=len(rows))  # the least time for just these rows
predictor = autotune.tune(model, rows, goal, budget_s=10)
print(predictor.recommendation.reason)


def loop(batch_size: int) -> np.ndarray:
    batches = (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
    return np.concatenate([model.predict_on_batch(batch) for batch in batches])


ways = {
    "model.predict(x)": lambda: model.predict(rows, verbose=0),
    "predict_on_batch, 256 rows": lambda: loop(256),
    "predict_on_batch, 1000 rows": lambda: loop(1000),
    "tuned predictor": lambda: predictor.predict(rows),
}
expected = model.predict(rows, verbose=0)
times: dict[str, list[float]] = {name: [] for name in ways}
for turn in range(22):
    for name, way in ways.items():
        start = time.perf_counter()
        outputs = way()
        if turn >= 2:  # the first two turns warm up
            times[name].append(time.perf_counter() - start)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)

slowest = statistics.median(times["model.predict(x)"])
for name, took in times.items():
    median = statistics.median(took)
    print(f"{name:28} {median * 1e3:8.2f} ms {slowest / median:8.1f} times")
