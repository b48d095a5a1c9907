"""Tuned folders to hand over, with figures that are known, made without tuning."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from autotune import Candidate, artifact
from autotune.records import Input
from tests.batchers import record_of, timed
from tests.tunings import MODEL, XEON, replaced

PAIR = (Input("a", (4,), "float32"), Input("b", (3,), "float32"))


def write_tuned(folder: Path, model: Any, *inputs: Input, engine: str = "keras") -> Path:
    """Write a tuned folder of a model, best with 32 rows in 250 ms: slower than any deadline.

    Args:
        folder: Where.
        model: A Keras model.
        inputs: Its inputs.
        engine: "keras", or "onnxruntime", whose predictor needs no Keras and starts in no time.
    """
    curve = (timed(1, 0.05, engine=engine), timed(8, 0.08, engine=engine))
    record = replaced(
        record_of(Candidate(32, engine), call_s=0.25, outcomes=curve),
        model=replaced(MODEL, name=model.name, inputs=inputs),
        machine=XEON,
    )
    with tempfile.TemporaryDirectory() as scratch:
        if engine == "onnxruntime":
            _export(model, inputs, Path(scratch))
        artifact.write(folder, record, model.save, Path(scratch))
    return folder


def _export(model: Any, inputs: tuple[Input, ...], folder: Path) -> None:
    import numpy as np

    from autotune.exports import Exports

    rows = {each.name: np.ones((1, *(n or 4 for n in each.shape)), each.dtype) for each in inputs}
    example = rows if len(rows) > 1 else next(iter(rows.values()))
    Exports(model, example, folder).folder_of("onnx")
