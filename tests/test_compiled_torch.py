"""The `compiled` engine on PyTorch, beyond what all engines promise: in a child of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_BEGIN = """
import keras, numpy as np, torch
from autotune import engines
from autotune.errors import EngineUnavailable

rows = np.random.default_rng(0).standard_normal((40, 10)).astype(np.float32)

def refused(model):
    try:
        engines.build("compiled", model, rows[:1])
    except EngineUnavailable as error:
        assert "\\n" not in str(error)
        return str(error)
    raise AssertionError("it was not refused")
"""


def run(code: str) -> None:
    """Run code in a child whose Keras is on PyTorch."""
    done = subprocess.run(
        [sys.executable, "-W", "error:The given NumPy array is not writable", "-c", _BEGIN + code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"KERAS_BACKEND": "torch"},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.needs("torch")
def test_a_graph_that_holds_for_some_batches_only_is_refused() -> None:
    """A model that looks at its number of rows, or at values, is refused, with the reason."""
    run(
        """
class Large(keras.Model):
    def call(self, x):
        return x * 2 if x.shape[0] > 10 else x

class Looks(keras.Model):
    def call(self, x):
        return x if float(x[0, 0]) > 0 else -x

class Nothing(keras.Model):
    def call(self, x):
        return [x, None]

assert "depends on the number of rows" in refused(Large())
assert "cannot export this model: GuardOnDataDependentSymNode" in refused(Looks())
assert "an output is no dense tensor" in refused(Nothing())
"""
    )


@pytest.mark.needs("torch")
def test_a_graph_is_lean_and_leaves_the_model_as_it_was() -> None:
    """Nothing in the graph only checks or converts to the same; the model may go on training."""
    run(
        """
dense = [keras.layers.Dense(16), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
model = keras.Sequential([keras.Input((10,)), *dense])
before = [module.training for module in model.modules()], list(model.state_dict())
engine = engines.build("compiled", model, rows[:1])
assert before == ([module.training for module in model.modules()], list(model.state_dict()))
calls = [str(n.target) for n in engine._run.graph.nodes if n.op == "call_function"]
assert sorted(calls) == ["aten.add.Tensor"] * 2 + ["aten.matmul.default"] * 2, calls
assert not torch.is_inference_mode_enabled()
rows.flags.writeable = False
np.testing.assert_array_equal(engine(rows), model.predict_on_batch(rows))
"""
    )
