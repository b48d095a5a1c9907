"""A loop of `predict_on_batch`, with a batch size that somebody guessed."""

import numpy as np
from common import make_model, make_rows, seconds_of

BATCH_SIZE = 256

model, rows = make_model(), make_rows()


def predict() -> np.ndarray:
    predictions = []
    for start in range(0, len(rows), BATCH_SIZE):
        batch = rows[start : start + BATCH_SIZE]
        predictions.append(model.predict_on_batch(batch))
    return np.concatenate(predictions)


print(predict().shape)  # (1000, 1)
print(f"predict_on_batch, {BATCH_SIZE} rows: {seconds_of(predict) * 1e3:.2f} ms")
