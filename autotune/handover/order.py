"""What a hand-over works on: a tuned directory that was read, and its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from autotune.artifact import Tuned
from autotune.errors import InvalidRecord
from autotune.inputs import are_by_place, draw_rows
from autotune.models import ModelFile
from autotune.nesting import Array, Nested, flatten, leaf_names, revive
from autotune.records import Input, TuningRecord
from autotune.serving import ServingLimits, limits_for
from autotune.signature import Signature
from autotune.workload import Spec, Synthetic

if TYPE_CHECKING:
    import keras

FREE_LENGTH = 16  # of axes that the model leaves free, in rows that are drawn to try a model
_VOCABULARY = 2  # whole numbers below it are inside every embedding


class Output(NamedTuple):
    """One array that the model gives: its place in the nesting, its dtype, the axes of a row."""

    name: str
    dtype: str
    axes: int


@dataclass(frozen=True, slots=True)
class Order:
    """A tuned directory that is to be handed over.

    Attributes:
        tuned: The directory.
        imports: Modules that define the model's own classes.
        unsafe: Allow Python code in the model.
    """

    tuned: Tuned
    imports: tuple[str, ...] = ()
    unsafe: bool = False

    @property
    def record(self) -> TuningRecord:
        """The latest tuning."""
        return self.tuned.record

    @property
    def model_name(self) -> str:
        """The model's own name, as whoever made it chose it."""
        return self.record.model.name if self.record.model else "model"

    def limits(self, engines: Sequence[str] = ()) -> ServingLimits:
        """Choose the numbers for a server; see `serving.limits_for`."""
        return limits_for(self.record, engines)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The model's inputs.

        Raises:
            InvalidRecord: The record does not tell.
        """
        if self.record.model is None or not self.record.model.inputs:
            raise InvalidRecord(f"{self.tuned.folder} does not tell the model's inputs.")
        return self.record.model.inputs

    def open_model(self) -> keras.Model:
        """Open the model in Keras's safe mode, as `load` does.

        Raises:
            InvalidModel: It cannot be opened.
        """
        info = self.record.model
        jit_compile = info.jit_compile if info else None
        file = ModelFile(str(self.tuned.model), self.imports, self.unsafe, jit_compile)
        file.check()
        return file.open()

    def example(self, rows: int) -> Nested:
        """Draw rows to try the model with."""
        names = [each.name for each in self.inputs]
        arrays = [_drawn(each, rows) for each in self.inputs]
        if len(arrays) == 1:
            return arrays[0]
        return arrays if are_by_place(names) else dict(zip(names, arrays, strict=True))

    def outputs(self) -> tuple[Output, ...]:
        """Tell what the model gives; by trying it, where no exported model says so.

        Raises:
            InvalidModel: It cannot be opened.
        """
        if self.tuned.formats:
            signature = Signature.load(self.tuned.folder / self.tuned.formats[0])
            names = leaf_names(revive(signature.output_layout, lambda place: place))
            ports = zip(names, signature.outputs, strict=True)
            return tuple(Output(name, port.dtype, len(port.shape)) for name, port in ports)
        answer = self.open_model().predict_on_batch(self.example(1))
        leaves = zip(leaf_names(answer), flatten(answer)[0], strict=True)
        return tuple(Output(name, leaf.dtype.name, leaf.ndim - 1) for name, leaf in leaves)


def _drawn(wanted: Input, rows: int) -> Array:
    shape = tuple(size or FREE_LENGTH for size in wanted.shape)
    if wanted.dtype == "string":
        return np.full((rows, *shape), "text")
    spec = Spec(wanted.name, wanted.shape, wanted.dtype)
    drawn: Array = draw_rows([spec], Synthetic(rows, {wanted.name: shape}), _VOCABULARY, seed=0)
    return drawn
