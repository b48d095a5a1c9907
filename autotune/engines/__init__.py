"""Ways of running one batch, one file each, and the test that they agree with `keras`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from autotune.errors import EngineUnavailable
from autotune.nesting import Array, Nested, flatten, leaf_names

if TYPE_CHECKING:
    import keras

REFERENCE = "keras"
NAMES = ("keras", "compiled", "xla")
BASELINE = "predict"  # what most people run: never a choice, only something to compare with
THREADS_PER_SESSION: tuple[str, ...] = ()  # engines that are told their threads when they are built


class Engine(Protocol):
    """Runs batches of any size through one model.

    Calling it with a batch (NumPy arrays nested as the sample is, shapes `(rows, ...)`) gives
    the outputs nested as `model.predict` gives them, as NumPy arrays that are ready: when the
    call returns, the device has finished.
    """

    thread_safe: bool
    """Whether calls from several threads at once give right answers."""

    compiles_per_shape: bool
    """Whether each new batch size costs a compilation."""

    survives_shortage: bool
    """Whether it may be called again after it ran out of memory."""

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch."""
        ...


def threads_are_the_process(name: str) -> bool:
    """Tell whether an engine's calls have the threads that the backend has in this process.

    All of a process's engines of that kind have the same number then, set before the first call;
    of the others each is told when it is built.
    """
    return name not in THREADS_PER_SESSION


def build(name: str, model: keras.Model, example: Nested, *, threads: int | None = None) -> Engine:
    """Make an engine for a model.

    Args:
        name: One of `NAMES`, or `BASELINE`.
        model: The model, built.
        example: A batch as it will come: its nesting, shapes and dtypes.
        threads: Threads of one call, for an engine of `THREADS_PER_SESSION`; None leaves it to
            the engine.

    Raises:
        EngineUnavailable: There is no such engine, or it cannot run this model; the message
            says why in one sentence.
    """
    if threads is not None and threads_are_the_process(name):
        raise EngineUnavailable(f"The {name!r} engine has the threads of its process.")
    match name:
        case "keras":
            from autotune.engines.keras import KerasEngine

            return KerasEngine(model)
        case "compiled":
            from autotune.engines import compiled

            return compiled.build(model, example)
        case "xla":
            from autotune.engines import xla

            return xla.build(model, example)
        case "predict":
            from autotune.engines.predict import PredictEngine

            return PredictEngine(model)
    raise EngineUnavailable(f"There is no engine {name!r}; there are: {', '.join(NAMES)}.")


def difference(got: Nested, expected: Nested) -> str | None:
    """Compare an engine's outputs with those of the reference for the same rows.

    Returns:
        None where they agree in nesting, dtype, shape and values; else half a sentence that
        says where they do not.
    """
    got_leaves, got_structure = flatten(got)
    leaves, structure = flatten(expected)
    if got_structure != structure:
        return f"the outputs are nested as {got_structure}, not as {structure}"
    for name, a, b in zip(leaf_names(expected), got_leaves, leaves, strict=True):
        where = f"output {name!r}" if name else "the output"
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{where} is {a.dtype}{a.shape}, not {b.dtype}{b.shape}"
        error = _largest_error(a, b)
        if error > 1:
            return f"{where} differs from that of keras by {error:.1f} times what is tolerated"
    return None


def _largest_error(got: Array, expected: Array) -> float:
    """Largest difference as a multiple of the tolerance for the dtype; infinite for a bad NaN.

    The tolerance is relative to each value and to the largest value of the output: a sum of
    many terms is as exact as its largest term, not as its result.
    """
    if expected.dtype.kind not in "fV":
        return 0.0 if np.array_equal(got, expected) else np.inf
    relative = 1e-2 if expected.dtype.itemsize < 4 else 1e-5
    a, b = got.astype(np.float64), expected.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    scale = np.max(np.abs(b[np.isfinite(b)]), initial=0.0)
    with np.errstate(invalid="ignore"):
        error = np.abs(a - b) / (relative * (np.abs(b) + scale))
    return float(np.max(np.where(same, 0.0, np.nan_to_num(error, nan=np.inf, posinf=np.inf))))
