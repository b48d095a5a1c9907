"""Rows and inputs that the tests of what may be handed to a predictor have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from autotune.intake import to_arrays
from autotune.workload import Spec

X = Spec("x", (2,), "float32")
A_AND_B = [Spec("a", (2,), "float32"), Spec("b", (1,), "float32")]
ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def read(x: Any, *specs: Spec) -> Any:
    """The arrays alone."""
    return to_arrays(x, specs or [X])[0]
