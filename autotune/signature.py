"""What an exported model takes and gives, in a file beside it: read without Keras."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import optree

from autotune.dtypes import named
from autotune.errors import InvalidRecord
from autotune.nesting import Array, Nested, describe, flatten, revive

FILE_NAME = "signature.json"
LIGHT_BYTES = 16 * 2**20


def is_worth_programs(weights_bytes: float, shapes: Iterable[Sequence[int | None]]) -> bool:
    """Whether a model is to have a program of its own for each of a few batch sizes.

    Where that is the engine's choice, as it is OpenVINO's: each takes the weights once more, and
    where a length is free there would be some for each length.

    Args:
        weights_bytes: Of the model.
        shapes: Of one row of each input; None for an axis of free length.

    Example:
        >>> is_worth_programs(2**20, [(28, 28)]), is_worth_programs(2**20, [(None, 28)])
        (True, False)
    """
    return weights_bytes <= LIGHT_BYTES and not any(None in shape for shape in shapes)


class Port(msgspec.Struct, frozen=True):
    """One array that goes in or comes out.

    Attributes:
        name: The exported file's name for it; None for an input that the file does not use.
        dtype: NumPy's name of the dtype that Keras takes or gives.
        shape: Shape of one row; None for an axis of free length.
    """

    name: str | None
    dtype: str
    shape: tuple[int | None, ...]


class Signature(msgspec.Struct, frozen=True):
    """Inputs and outputs of an exported model, in the order of their nesting.

    Attributes:
        file: Name of the exported file, in the same folder.
        inputs: What goes in.
        outputs: What comes out.
        input_layout: The nesting of the inputs, as `describe` writes it, over their places.
        output_layout: The same of the outputs.
    """

    file: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    input_layout: Any
    output_layout: Any

    def save(self, folder: Path) -> None:
        """Write it to the folder of the exported file."""
        (folder / FILE_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(self)))

    @classmethod
    def load(cls, folder: Path) -> Signature:
        """Read what `save` wrote.

        Raises:
            InvalidRecord: There is none, or it is damaged.
        """
        path = folder / FILE_NAME
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise InvalidRecord(f"{path} cannot be read as an exported model: {error}") from error


class Wiring:
    """Takes batches apart for an exported model, and puts its outputs together as Keras does.

    Args:
        signature: What goes in and comes out.
    """

    def __init__(self, signature: Signature) -> None:
        self._wanted = [named(port.dtype) for port in signature.inputs]
        self._given = [named(port.dtype) for port in signature.outputs]
        self._is_one = list(signature.output_layout) == ["leaf"]
        self._structure = flatten(revive(signature.output_layout, lambda place: place))[1]

    def take(self, batch: Nested) -> list[Array]:
        """Return the arrays of a batch in their order, cast as Keras casts its inputs."""
        leaves = [batch] if isinstance(batch, np.ndarray) else optree.tree_leaves(batch)
        return [
            np.ascontiguousarray(leaf, dtype)
            for leaf, dtype in zip(leaves, self._wanted, strict=True)
        ]

    def give(self, outputs: list[Array]) -> Nested:
        """Return outputs in the nesting and dtypes that Keras gives them in."""
        arrays = [
            array if array.dtype == dtype else array.astype(dtype)
            for array, dtype in zip(outputs, self._given, strict=True)
        ]
        return arrays[0] if self._is_one else self._structure.unflatten(arrays)


def layout_of(nested: Nested) -> Any:
    """Describe a nesting over the places of its arrays."""
    leaves, structure = flatten(nested)
    return describe(structure.unflatten(range(len(leaves))))
