"""Triton: a model repository with the model as ONNX, and its configuration."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from autotune.engines import FORMATS, why_not_installed
from autotune.errors import EngineUnavailable
from autotune.exports import Exports
from autotune.handover.order import Order
from autotune.handover.writing import about, comment, fill, origin, quoted, shown, slug, values_of
from autotune.nesting import leaf_names, revive
from autotune.serving import ServingLimits
from autotune.signature import Signature

ENGINE = "onnxruntime"
VERSION = "1"
TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(bfloat16)": "TYPE_BF16",
    "tensor(string)": "TYPE_STRING",
}


class Tensor(NamedTuple):
    """One input or output of an ONNX file: Triton's type, and the axes of a row, -1 for free."""

    name: str
    type: str
    dims: tuple[int, ...]


def write(order: Order, folder: Path) -> ServingLimits:
    """Write `NAME/1/model.onnx`, `NAME/config.pbtxt` and a README."""
    limits, name = order.limits((ENGINE,)), slug(order.model_name)
    home = folder / name
    (home / VERSION).mkdir(parents=True)
    model = home / VERSION / "model.onnx"
    signature = _put_model(order, model)
    inputs, outputs = tensors_of(model)
    (home / "config.pbtxt").write_text(config(order, limits, name, inputs, outputs))
    values = {"name": name, "names": _names(order, signature)}
    fill("triton", "README.md", folder, values_of(order, limits) | values)
    return limits


def _put_model(order: Order, target: Path) -> Signature:
    """Copy the model as ONNX, exported now where the tuned folder does not hold it.

    Raises:
        EngineUnavailable: ONNX Runtime is not installed, or the model cannot be exported.
    """
    if why := why_not_installed(ENGINE):
        raise EngineUnavailable(why)
    form = FORMATS[ENGINE]
    with tempfile.TemporaryDirectory(prefix="autotune-") as scratch:
        if form in order.tuned.formats:
            found = order.tuned.folder / form
        else:
            found = Exports(order.open_model(), order.example(1), Path(scratch)).folder_of(form)
        signature = Signature.load(found)
        shutil.copyfile(found / signature.file, target)
    return signature


def tensors_of(path: Path) -> tuple[list[Tensor], list[Tensor]]:
    """Return the inputs and outputs of an ONNX file.

    Raises:
        EngineUnavailable: ONNX Runtime cannot open it, or Triton has no name for a type.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    ends = session.get_inputs(), session.get_outputs()
    unknown = [port.type for ports in ends for port in ports if port.type not in TYPES]
    if unknown:
        raise EngineUnavailable(f"Triton has no type for the model's {unknown[0]}.")
    inputs, outputs = (
        [Tensor(port.name, TYPES[port.type], _dims(port.shape[1:])) for port in ports]
        for ports in ends
    )
    return inputs, outputs


def _dims(shape: list[int | str | None]) -> tuple[int, ...]:
    """An axis without a number is free: the file gives it a name of its own."""
    return tuple(size if isinstance(size, int) else -1 for size in shape)


def config(
    order: Order,
    limits: ServingLimits,
    name: str,
    inputs: list[Tensor],
    outputs: list[Tensor],
) -> str:
    """Return inference.ModelConfig in protobuf's text format."""
    machine = order.record.machine
    kind = "KIND_GPU" if machine and machine.device_kind == "gpu" else "KIND_CPU"
    preferred = ", ".join(map(str, sorted({limits.enough_rows, limits.batch_size})))
    wait_us, deadline_us = (round(s * 1e6) for s in (limits.max_wait_s, limits.deadline_s))
    lines = [
        comment(origin(order.record, limits)),
        f"name: {quoted(name)}",
        'backend: "onnxruntime"',
        about(limits, "batch_size"),
        f"max_batch_size: {limits.batch_size}",
        *(_tensor("input", tensor) for tensor in inputs),
        *(_tensor("output", tensor) for tensor in outputs),
        "dynamic_batching {",
        about(limits, "enough_rows", "  "),
        f"  preferred_batch_size: [ {preferred} ]",
        about(limits, "max_wait_s", "  "),
        f"  max_queue_delay_microseconds: {wait_us}",
        "  default_queue_policy {",
        about(limits, "queue_rows", "    "),
        "    # Triton counts requests: divide it by the rows that yours have.",
        f"    max_queue_size: {limits.queue_rows}",
        about(limits, "deadline_s", "    "),
        "    timeout_action: REJECT",
        f"    default_timeout_microseconds: {deadline_us}",
        "  }",
        "}",
        about(limits, "concurrency"),
        f"instance_group [ {{ count: {limits.concurrency} kind: {kind} }} ]",
    ]
    if limits.threads:
        lines += [about(limits, "threads"), _parameter("intra_op_thread_count", limits.threads)]
    return "\n".join(lines) + "\n"


def _tensor(end: str, tensor: Tensor) -> str:
    """A row of a single number has no axes, which Triton wants written as one that is dropped."""
    dims, reshape = tensor.dims, ""
    if not dims:
        dims, reshape = (1,), " reshape { shape: [ ] }"
    sizes = ", ".join(map(str, dims))
    name = quoted(tensor.name)
    return f"{end} [ {{ name: {name} data_type: {tensor.type} dims: [ {sizes} ]{reshape} }} ]"


def _parameter(key: str, value: int) -> str:
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'


def _names(order: Order, signature: Signature) -> str:
    """Say in Markdown which input of the model is which of the file's."""
    nesting = revive(signature.input_layout, lambda place: place)
    given = leaf_names(nesting) if len(signature.inputs) > 1 else [order.inputs[0].name]
    pairs = [
        f"{shown(name)} is {shown(port.name)}" if port.name else f"{shown(name)} is not used"
        for name, port in zip(given, signature.inputs, strict=True)
    ]
    return ", ".join(pairs)
