"""Spark: a function for DataFrames, over pyspark's own `predict_batch_udf`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from autotune import artifact
from autotune.errors import InvalidModel
from autotune.handover.order import Order, Output
from autotune.handover.writing import comment, fill, literal, values_of
from autotune.inputs import are_by_place
from autotune.records import Input
from autotune.serving import ServingLimits

FILES = ("scoring.py", "requirements.txt", "README.md")

# Dtype of an output: the dtype and Spark's type that hold all its values. Spark has no unsigned
# numbers, and its function takes no booleans.
TYPES = {
    "bool": ("int8", "ByteType"),
    "int8": ("int8", "ByteType"),
    "uint8": ("int16", "ShortType"),
    "int16": ("int16", "ShortType"),
    "uint16": ("int32", "IntegerType"),
    "int32": ("int32", "IntegerType"),
    "uint32": ("int64", "LongType"),
    "int64": ("int64", "LongType"),
    "float16": ("float32", "FloatType"),
    "bfloat16": ("float32", "FloatType"),
    "float32": ("float32", "FloatType"),
    "float64": ("float64", "DoubleType"),
}


def write(order: Order, folder: Path) -> ServingLimits:
    """Write `scoring.py`, `requirements.txt`, a README and the tuned directory.

    Raises:
        InvalidModel: Its inputs have free axes, or its outputs a type that Spark has not.
    """
    inputs, outputs = order.inputs, order.outputs()
    _refuse(inputs, outputs)
    limits = order.limits()
    artifact.copy(order.tuned, folder / "tuned")
    names = [f"input_{place}" for place in range(len(inputs))]
    used = sorted({TYPES[each.dtype][1] for each in outputs})
    arrays = any(each.axes for each in outputs)
    several = len(outputs) > 1 or outputs[0].name != ""
    types = [*(["ArrayType"] * arrays), *used, *(["StructField", "StructType"] * several)]
    values = {
        "batch_size": limits.way.batch_size,
        "about_batch_size": comment("Rows in a batch: the tuned size. Nobody waits for one here."),
        "imports": ", ".join(sorted(types)),
        "return_type": _return_type(outputs, several),
        "outputs": _lines(f"({literal(o.name)}, {_dtype(o)}, {bool(o.axes)})" for o in outputs),
        "inputs": _lines(f"({literal(i.name)}, {literal(_plain(i.dtype))})" for i in inputs),
        "nested": _nested(names, [each.name for each in inputs]),
        "shapes": literal([list(each.shape) for each in inputs]),
        "parameters": ", ".join(f"{name}: Array" for name in names),
        "arguments": ", ".join(names),
        "columns": ", ".join(f'"{name}"' for name in names),
    }
    for name in FILES:
        fill("spark", name, folder, values_of(order, limits) | values)
    return limits


def _refuse(inputs: Sequence[Input], outputs: Sequence[Output]) -> None:
    free = next((each for each in inputs if None in each.shape), None)
    if free is not None:
        raise InvalidModel(
            f"Input {free.name!r} has axes of free length, and Spark's predict_batch_udf takes "
            "rows of one shape. Give the model's input a fixed shape, and tune that."
        )
    unknown = next((each for each in outputs if each.dtype not in TYPES), None)
    if unknown is not None:
        raise InvalidModel(f"Spark's predict_batch_udf has no type for outputs of {unknown.dtype}.")


def _nested(columns: Sequence[str], names: Sequence[str]) -> str:
    """How the arrays are nested for the model, as source."""
    if len(columns) == 1:
        return "arrays[0]"
    by_name = "dict(zip([name for name, _ in INPUTS], arrays, strict=True))"
    return "arrays" if are_by_place(names) else by_name


def _plain(dtype: str) -> str:
    """NumPy's name of what rows are cast to: it has no bfloat16, and text stays as it is."""
    return {"bfloat16": "float32", "string": "str"}.get(dtype, dtype)


def _dtype(output: Output) -> str:
    return literal(TYPES[output.dtype][0])


def _return_type(outputs: Sequence[Output], several: bool) -> str:
    kinds = [_kind(output) for output in outputs]
    if not several:
        return kinds[0]
    fields = zip(outputs, kinds, strict=True)
    listed = _lines(f"StructField({literal(o.name)}, {kind})" for o, kind in fields)
    inner = listed.replace("\n", "\n    ")
    return f"StructType(\n    {inner}\n)" if "\n" in inner else f"StructType({inner})"


def _kind(output: Output) -> str:
    name = f"{TYPES[output.dtype][1]}()"
    return f"ArrayType({name})" if output.axes else name


def _lines(items: Iterable[str]) -> str:
    """Write a list as ruff would: one item a line where there are several."""
    every = list(items)
    if len(every) == 1:
        return f"[{every[0]}]"
    return "[\n" + "".join(f"    {item},\n" for item in every) + "]"
