"""An Optuna sampler in place of the ladder: here one that looks around the best so far.

Whatever a sampler proposes, no batch is more than twice the largest that ran, none is tried whose
memory is not forecast to fit, and the best are raced and measured afresh as usual.

Run it: python examples/own_sampler.py
"""

from typing import Any

import keras
import numpy as np
import optuna

import autotune

BUDGET_S = 4.0  # seconds for probing


class AroundTheBest(optuna.samplers.BaseSampler):
    """Proposes the best batch size so far, times one of a few factors."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(self, *_: Any) -> dict[str, Any]:
        """Nothing is sampled together."""
        return {}

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        """Nothing is sampled together."""
        return {}

    def sample_independent(self, study: Any, _trial: Any, name: str, distribution: Any) -> Any:
        """One parameter: near the best for the batch size, any for the others."""
        if name != "batch_size":
            choices = getattr(distribution, "choices", None) or range(
                distribution.low, distribution.high + 1
            )
            return choices[int(self._rng.integers(len(choices)))]
        done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        fine = [t for t in done if t.value and all(over <= 0 for over in t.constraints.values())]
        best = max(fine, key=lambda t: t.value).params[name] if fine else distribution.low
        size = int(best * self._rng.choice([0.5, 0.75, 1.5, 2.0, 4.0]))
        return min(max(size, distribution.low), distribution.high)


layers = keras.layers
model = keras.Sequential([keras.Input((50,)), layers.Dense(200, "relu"), layers.Dense(5)])
rows = np.random.default_rng(0).random((4000, 50), dtype=np.float32)

optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(direction="maximize", sampler=AroundTheBest(seed=1))
predictor = autotune.tune(
    model, rows, engines=["keras", "compiled"], budget_s=BUDGET_S, study=study, strategy="sampler"
)
tried = sorted({trial.params["batch_size"] for trial in study.trials if trial.params})
print(f"{len(study.trials)} trials of {len(tried)} sizes: {', '.join(map(str, tried))}")
print(predictor.recommendation.reason)
