"""A model with two named inputs and two named outputs: rows go in and come out nested.

Run it: python examples/two_inputs.py
"""

import keras
import numpy as np

import autotune

BUDGET_S = 3.0  # seconds for probing

layers = keras.layers
words = keras.Input((12,), dtype="int32", name="words")
price = keras.Input((1,), name="price")
read = layers.GlobalAveragePooling1D()(layers.Embedding(1000, 16)(words))
joined = layers.Dense(32, activation="relu")(layers.Concatenate()([read, price]))
outputs = {
    "sold": layers.Dense(1, activation="sigmoid")(joined),
    "category": layers.Dense(5, activation="softmax")(joined),
}
model = keras.Model({"words": words, "price": price}, outputs)

rng = np.random.default_rng(0)
rows = {
    "words": rng.integers(1000, size=(3000, 12)).astype(np.int32),
    "price": rng.random((3000, 1), dtype=np.float32),
}
predictor = autotune.tune(model, rows, engines=["keras", "compiled"], budget_s=BUDGET_S)
print(predictor.recommendation.reason)

predicted = predictor.predict(rows)
expected = model.predict(rows, verbose=0)
for name, values in predicted.items():
    furthest = float(np.abs(values - expected[name]).max())
    print(f"{name}: {values.shape}, at most {furthest:.1e} from model.predict")
