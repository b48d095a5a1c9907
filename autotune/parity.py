"""Do an engine's answers agree with those of `keras`? How near they are, and what is too far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autotune.nesting import Array, Nested, flatten, leaf_names

if TYPE_CHECKING:
    import keras

RELATIVE = 1e-5  # of one layer: 80 units in the last place; sums of hundreds of terms need some
RELATIVE_BFLOAT16 = 2**-8  # of one layer: its unit roundoff; sums are kept in float32
RELATIVE_16_BITS = 1e-2  # at any depth: kernels add in float32, and round what they store


@dataclass(frozen=True, slots=True)
class Parity:
    """How outputs compare with those of the reference for the same rows.

    Attributes:
        largest_error: Largest difference of two floats, as a share of the largest finite value
            of its output; infinite where one is NaN or infinite and the other is not.
        changed_classes: Share of rows whose largest entry stands elsewhere, near ties and all;
            None where no output has scores to choose from.
        complaint: Half a sentence that says where they disagree; None where they agree.
    """

    largest_error: float = 0.0
    changed_classes: float | None = None
    complaint: str | None = None


def compare(got: Nested, expected: Nested, depth: int = 1, relative: float = RELATIVE) -> Parity:
    """Compare an engine's outputs with those of the reference for the same rows.

    Nesting, dtypes, shapes, whole numbers and the places of NaN must be equal. A float may
    differ by a tolerance that is relative to itself and to the largest value of its output: a
    sum of many terms is as exact as its largest term, not as its result.

    For 32 and 64 bits the tolerance grows with the square root of the depth. Every layer rounds
    anew; roundings that are independent and zero in the mean add up like a random walk, not to
    the worst case (Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis",
    SIAM J. Sci. Comput. 41(5), 2019). A wrong axis, a lost weight or a rounding to 16 bits on
    the way is far beyond.

    Another class may win only in a near tie: where the reference's scores for the two lie within
    the two scores' tolerances. Beyond it, one of the two scores breaks its own tolerance.

    Args:
        got: What the engine gave.
        expected: What the reference gave.
        depth: How many layers with weights lie between input and output.
        relative: Tolerance of one layer for outputs of 32 or 64 bits.

    Example:
        >>> compare(np.float32([[0.1, 0.9]]), np.float32([[0.9, 0.1]])).changed_classes
        1.0
    """
    got_leaves, got_structure = flatten(got)
    leaves, structure = flatten(expected)
    if got_structure != structure:
        return Parity(complaint=f"the outputs are nested as {got_structure}, not as {structure}")
    largest, shares, complaint = 0.0, [], None
    for name, a, b in zip(leaf_names(expected), got_leaves, leaves, strict=True):
        where = f"output {name!r}" if name else "the output"
        if a.dtype != b.dtype or a.shape != b.shape:
            return Parity(complaint=f"{where} is {a.dtype}{a.shape}, not {b.dtype}{b.shape}")
        error, excess = _errors(a, b, relative * math.sqrt(max(1, depth)))
        largest = max(largest, error)
        shares += _changed(a, b)
        if excess > 1 and complaint is None:
            complaint = (
                f"{where} differs from that of keras by {excess:.1f} times what is tolerated"
            )
    return Parity(largest, max(shares, default=None), complaint)


def _errors(got: Array, expected: Array, relative: float) -> tuple[float, float]:
    """Largest difference as a share of the output's scale, and as a multiple of the tolerance."""
    if expected.dtype.kind not in "fV":  # whole numbers, truth values, text
        return 0.0, 0.0 if np.array_equal(got, expected) else math.inf
    if expected.dtype.itemsize < 4:
        relative = max(relative, RELATIVE_16_BITS)
    a, b = got.astype(np.float64), expected.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0, 0.0
    scale = np.max(np.abs(b[np.isfinite(b)]), initial=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        off, allowed = np.abs(a - b), relative * (np.abs(b) + scale)
        return _largest(off / scale, same), _largest(off / allowed, same)


def _largest(errors: Array, same: Array) -> float:
    # What is no number here stands for a NaN or an infinity in one of the two outputs only.
    finite = np.nan_to_num(errors, nan=np.inf, posinf=np.inf)
    return float(np.max(np.where(same, 0.0, finite)))


def _changed(got: Array, expected: Array) -> list[float]:
    """Share of rows whose largest entry stands elsewhere; nothing for an output without scores."""
    if expected.dtype.kind not in "fV" or expected.ndim < 2 or expected.shape[-1] < 2:
        return []
    if expected.size == 0:
        return []
    a, b = got.astype(np.float64), expected.astype(np.float64)
    return [float(np.mean(a.argmax(axis=-1) != b.argmax(axis=-1)))]


def tolerance_of(model: keras.Model) -> tuple[int, float]:
    """The `depth` of a model and the `relative` that its answers are compared with.

    Where a layer computes in 16 bits, an output of 32 is no more exact than that: at another
    batch size another kernel rounds otherwise.
    """
    inner = _layers_with_weights(model)
    dtypes = {str(getattr(layer, "compute_dtype", "")) for layer in inner}
    depth = max(1, len(inner))
    if dtypes & {"float16", "bfloat16"}:
        return depth, RELATIVE_16_BITS / math.sqrt(depth)
    return depth, RELATIVE


def _layers_with_weights(model: keras.Model) -> list[keras.Layer]:
    layers = model._flatten_layers(include_self=False)
    inner = (layer for layer in layers if not list(layer._flatten_layers(include_self=False)))
    return [layer for layer in inner if layer.weights]
