"""Do these rows fit this model? Arrange them, draw them, or say what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from autotune.errors import InvalidSample
from autotune.models import input_specs
from autotune.nesting import Array, Nested
from autotune.tables import to_inputs
from autotune.workload import Spec, Synthetic, Table, Workload

if TYPE_CHECKING:
    import keras


def fit_sample(model: keras.Model, sample: Workload | Synthetic, seed: int = 0) -> Workload:
    """Return rows that fit the model's inputs, arranged or drawn if need be.

    Raises:
        InvalidSample: They do not fit; the message names the input, what came and what was
            expected.
    """
    specs = input_specs(model)
    if isinstance(sample, Synthetic):
        if not specs:
            raise InvalidSample("The model does not say what its inputs are. Give sample rows.")
        return Workload(draw_rows(specs, sample, _least_vocabulary(model), seed))
    if sample.is_table:
        if not specs:
            raise InvalidSample("The model does not name its inputs. Give rows as .npy or .npz.")
        return Workload(to_inputs(Table(sample.take(sample.rows)), specs))
    check_inputs(specs, [spec.name for spec in sample.specs], sample.arrays)
    return sample


def _least_vocabulary(model: keras.Model) -> int:
    """Smallest vocabulary among the embeddings: integers below it are inside all of them."""
    sizes = [getattr(layer, "input_dim", None) for layer in model._flatten_layers()]
    return min((size for size in sizes if isinstance(size, int)), default=2)


def check_inputs(specs: Sequence[Spec], names: Sequence[str], arrays: Sequence[Array]) -> None:
    """Compare rows with a model's inputs; say nothing where the model does not tell (no specs).

    Raises:
        InvalidSample: Wrong names, number of inputs, shape or dtype, or NaN for integers.
    """
    if not specs:
        return
    for spec, array in zip(_match(specs, names), arrays, strict=True):
        _check_input(spec, array)


def _match(specs: Sequence[Spec], names: Sequence[str]) -> Sequence[Spec]:
    """Return the input that each array of a nesting is: by its name, else by its place."""
    if len(specs) == len(names) == 1:
        return specs  # one input, one array: the name is decoration, to Keras too
    by_name = {spec.name: spec for spec in specs}
    wants = ", ".join(by_name)
    if not are_by_place(names):
        have = ", ".join(names)
        missing = next((name for name in by_name if name not in names), None)
        if missing is not None:
            raise InvalidSample(
                f"Input {missing!r} is missing (have: {have}; the model wants: {wants})."
            )
        extra = next((name for name in names if name not in by_name), None)
        if extra is not None:  # Keras may take it in another's place, and only warns
            raise InvalidSample(
                f"The model has no input {extra!r} (have: {have}; the model wants: {wants})."
            )
        return [by_name[name] for name in names]
    if len(names) != len(specs):
        wants = ", ".join(f"{spec.name} {spec}" for spec in specs)
        hint = " A list holds inputs, not rows: np.stack(rows)." if len(specs) == 1 else ""
        raise InvalidSample(f"The sample has {len(names)} inputs, the model wants {wants}.{hint}")
    return specs


def are_by_place(names: Sequence[str]) -> bool:
    """Tell whether arrays are a model's inputs by their place: in a list, or nested deeper.

    The names of a model's inputs say nothing of a deeper nesting, whose order is Keras's own.
    """
    return any("/" in name for name in names) or all(name == "" or name.isdigit() for name in names)


def _check_input(spec: Spec, array: Array) -> None:
    got = Spec(spec.name, array.shape[1:], array.dtype.name)
    kind, wanted = array.dtype.kind, _kind(spec.dtype)
    if (kind in "SUO") != (wanted == "s"):
        raise InvalidSample(f"Input {spec.name!r} has dtype {got.dtype}; the model wants {spec}.")
    if wanted in "iub" and kind == "f" and not np.all(np.isfinite(array)):
        raise InvalidSample(
            f"Input {spec.name!r} holds NaN or infinity, but the model wants {spec}."
        )
    if not any(_shape_fits(shape, spec.shape) for shape in _readings(got.shape)):
        if len(got.shape) < len(spec.shape) and _shape_fits(array.shape, spec.shape):
            hint = " One row needs a first axis too: rows[None], or dataset.batch(n)."
        else:
            hint = ""
        raise InvalidSample(f"Input {spec.name!r} has shape {got}; the model wants {spec}.{hint}")


def _kind(dtype: str) -> str:
    if dtype == "string":
        return "s"
    return "f" if dtype == "bfloat16" else np.dtype(dtype).kind


def _readings(shape: tuple[int | None, ...]) -> list[tuple[int | None, ...]]:
    """The shape itself, and with a last axis of 1 added or dropped, as Keras does."""
    return [shape, (*shape, 1), *([shape[:-1]] if shape[-1:] == (1,) else [])]


def _shape_fits(shape: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        w is None or n == w for n, w in zip(shape, wanted, strict=True)
    )


def draw_rows(specs: Sequence[Spec], synthetic: Synthetic, int_below: int, seed: int) -> Nested:
    """Draw rows from the inputs' specs: normal numbers, and integers below `int_below`.

    Raises:
        InvalidSample: An axis is free and `synthetic.shapes` does not fix it, or it is text.
    """
    if synthetic.rows < 0:
        raise InvalidSample(f"Synthetic rows must be at least 1, but got {synthetic.rows}.")
    if "" in synthetic.shapes and len(specs) == 1:  # the only input need not be named
        synthetic = Synthetic(synthetic.rows, {specs[0].name: synthetic.shapes[""]})
    unknown = sorted(set(synthetic.shapes) - {spec.name for spec in specs})
    if unknown:
        known = ", ".join(spec.name for spec in specs)
        raise InvalidSample(f"There is no input {unknown[0]!r} (the model has: {known}).")
    rng = np.random.default_rng(seed)
    drawn = {spec.name: _draw(rng, spec, synthetic, int_below) for spec in specs}
    return drawn if len(drawn) > 1 else next(iter(drawn.values()))


def _draw(rng: np.random.Generator, spec: Spec, synthetic: Synthetic, int_below: int) -> Array:
    shape = synthetic.shapes.get(spec.name, spec.shape)
    if not _shape_fits(shape, spec.shape) or any(n is not None and n < 1 for n in shape):
        raise InvalidSample(f"Shape {shape} does not fit input {spec.name!r}, which is {spec}.")
    sizes = [size for size in shape if size is not None]
    if len(sizes) < len(shape):
        example = ",".join(str(n or 128) for n in shape)
        raise InvalidSample(
            f"Input {spec.name!r} has free axes: {spec}. Say what a row looks like, "
            f"for example --shape {spec.name}={example}; or give rows."
        )
    size = (synthetic.rows, *sizes)
    kind = _kind(spec.dtype)
    if kind == "s":
        raise InvalidSample(f"Input {spec.name!r} takes text, which cannot be drawn. Give rows.")
    if kind == "f":
        dtype = np.float32 if spec.dtype == "bfloat16" else np.dtype(spec.dtype)
        return rng.standard_normal(size, np.float32).astype(dtype)
    return rng.integers(0, 2 if kind == "b" else int_below, size).astype(spec.dtype)
