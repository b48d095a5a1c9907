"""The same loop for any number of rows: the last batch may be short."""

import numpy as np
from common import make_model, make_rows, seconds_of

BATCH_SIZE = 256

model, rows = make_model(), make_rows()


def predict() -> np.ndarray:
    predictions = []
    for start in range(0, len(rows), BATCH_SIZE):
        end = min(start + BATCH_SIZE, len(rows))
        predictions.append(model.predict_on_batch(rows[start:end]))
    return np.concatenate(predictions)


print(predict().shape)  # (1000, 1)
print(f"predict_on_batch, {BATCH_SIZE} rows: {seconds_of(predict) * 1e3:.2f} ms")
