"""`model.predict` as it stands: 32 rows a batch, and a set-up for each call."""

from common import make_model, make_rows, seconds_of

model, rows = make_model(), make_rows()
predictions = model.predict(rows, verbose=0)
print(predictions.shape)  # (1000, 1)
print(f"model.predict(x): {seconds_of(lambda: model.predict(rows, verbose=0)) * 1e3:.2f} ms")
