"""What the exporters behind `model.export` need: silence, a gap mended, and a look inside."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autotune.errors import one_line


class Ends(NamedTuple):
    """Inputs and outputs of an exported file: their names, and whether the rows are free."""

    inputs: list[str]
    outputs: list[str]
    rows_are_free: bool


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters from printing, warning, and telling their makers of their use."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    ci = os.environ.get("CI")
    # OpenVINO's converter reports its use over the network, but not from a test run. There is no
    # other switch for one process; openvino_telemetry reads this one at every start.
    os.environ["CI"] = "true"
    # The same converter sets up the root logger for itself: levels, filters, handlers.
    root = logging.getLogger()
    kept = root.level, root.filters[:], root.handlers[:]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        root.setLevel(kept[0])
        root.filters[:], root.handlers[:] = kept[1:]
        if ci is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = ci


@functools.cache
def mend_tf2onnx() -> None:
    """Teach tf2onnx `Erfc`, into which TensorFlow turns the exact GELU: 1 - Erf.

    tf2onnx logs the operation as unknown and writes a file that cannot be opened
    (https://github.com/onnx/tensorflow-onnx has no handler for it at any opset).
    """
    from tf2onnx import utils
    from tf2onnx.handler import tf_op

    if any("Erfc" in handlers for opsets in tf_op.get_opsets().values() for handlers in opsets):
        return

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
            dtype = utils.map_onnx_to_numpy_type(ctx.get_dtype(node.input[0]))
            one = ctx.make_const(utils.make_name("one"), np.array(1, dtype))
            erf = ctx.make_node("Erf", [node.input[0]], dtypes=[ctx.get_dtype(node.input[0])])
            node.type = "Sub"
            ctx.replace_inputs(node, [one.output[0], erf.output[0]])


def reason_of(error: Exception) -> str:
    """Say in half a sentence why a converter failed."""
    unknown = re.search(r"No conversion rule found for operations?: ([^\n]+)", str(error))
    if unknown:
        return f"its converter has no rule for the operation {unknown[1].strip()}."
    return f"{one_line(error, 200)}."


def ends_of(path: Path) -> Ends:
    """Look into an exported file.

    Raises:
        Exception: The runtime cannot open it; which error is the runtime's choice.
    """
    return _onnx_ends(path) if path.suffix == ".onnx" else _openvino_ends(path)


def _onnx_ends(path: Path) -> Ends:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    outputs = [port.name for port in session.get_outputs()]
    return Ends(
        [port.name for port in inputs], outputs, not any(type(p.shape[0]) is int for p in inputs)
    )


def _openvino_ends(path: Path) -> Ends:
    import openvino

    model = openvino.Core().read_model(path)
    names = [
        [min(port.names, key=len) for port in ports] for ports in (model.inputs, model.outputs)
    ]
    free = all(port.partial_shape[0].is_dynamic for port in model.inputs)
    return Ends(names[0], names[1], free)
