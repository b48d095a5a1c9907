"""Find the batch size that your machine really wants for a Keras model, and predict with it.

predictor = autotune.tune(model, sample)   # before deployment
predictor.save("tuned/")

predictor = autotune.load("tuned/")        # in production
y = predictor.predict(x)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from autotune import on_ray as on_ray  # a room that is public as a whole
    from autotune.batching import MicroBatcher
    from autotune.duel import Comparison, compare
    from autotune.errors import (
        AutotuneError,
        BatcherClosed,
        DeadlineExceeded,
        EngineUnavailable,
        EnvironmentFault,
        InvalidInput,
        InvalidModel,
        InvalidRecord,
        InvalidSample,
        NoFeasibleBatchSize,
        Overloaded,
        ProbeFailed,
        Unserved,
    )
    from autotune.goal import Goal
    from autotune.loading import load
    from autotune.models import ModelFactory, ModelFile
    from autotune.outcomes import Candidate, Failure, Measurement, Outcome, OutOfMemory, Probe
    from autotune.predictor import TunedPredictor
    from autotune.records import Progress, Recommendation, TuningRecord
    from autotune.searching import search
    from autotune.studies import open_study
    from autotune.tuning import tune
    from autotune.verifying import Verification, verify
    from autotune.workload import Synthetic

__all__ = [
    "AutotuneError",
    "BatcherClosed",
    "Candidate",
    "Comparison",
    "DeadlineExceeded",
    "EngineUnavailable",
    "EnvironmentFault",
    "Failure",
    "Goal",
    "InvalidInput",
    "InvalidModel",
    "InvalidRecord",
    "InvalidSample",
    "Measurement",
    "MicroBatcher",
    "ModelFactory",
    "ModelFile",
    "NoFeasibleBatchSize",
    "OutOfMemory",
    "Outcome",
    "Overloaded",
    "Probe",
    "ProbeFailed",
    "Progress",
    "Recommendation",
    "Synthetic",
    "TunedPredictor",
    "TuningRecord",
    "Unserved",
    "Verification",
    "compare",
    "load",
    "open_study",
    "search",
    "tune",
    "verify",
]

_ROOM_OF = {
    **dict.fromkeys(__all__, "outcomes"),
    **dict.fromkeys((name for name in __all__ if name.startswith("Invalid")), "errors"),
    "AutotuneError": "errors",
    "BatcherClosed": "errors",
    "DeadlineExceeded": "errors",
    "EngineUnavailable": "errors",
    "EnvironmentFault": "errors",
    "NoFeasibleBatchSize": "errors",
    "Overloaded": "errors",
    "ProbeFailed": "errors",
    "Unserved": "errors",
    "MicroBatcher": "batching",
    "Goal": "goal",
    "Progress": "records",
    "Recommendation": "records",
    "TuningRecord": "records",
    "ModelFactory": "models",
    "ModelFile": "models",
    "Synthetic": "workload",
    "TunedPredictor": "predictor",
    "Comparison": "duel",
    "Verification": "verifying",
    "compare": "duel",
    "load": "loading",
    "open_study": "studies",
    "search": "searching",
    "tune": "tuning",
    "verify": "verifying",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import autotune` itself stays cheap."""
    if name == "on_ray":
        return importlib.import_module("autotune.on_ray")
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"autotune.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
