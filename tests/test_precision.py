"""Lower precision: only where it was asked for, told in the record, kept in production."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import autotune
from autotune import Candidate, Goal, TuningRecord, artifact, tune
from autotune.cli import run
from autotune.errors import InvalidInput
from autotune.exports import Exports
from autotune.lineup import LineUp
from autotune.parity import RELATIVE_BFLOAT16, compare
from autotune.workload import Workload
from tests.exported import convolution

SMALL = Goal(max_batch_size=8)
needs_openvino = pytest.mark.needs("openvino")


def has_bfloat16() -> bool:
    """Whether the processor computes in it."""
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text()


@needs_openvino
def test_one_export_serves_both_precisions(keras: Any, tmp_path: Path) -> None:
    """The file is the same; who opens it says how it is run."""
    model, rows = convolution(keras)
    folder = Exports(model, rows[:1], tmp_path).folder_of("openvino")
    open_exported = autotune.engines.open_exported
    got = open_exported("openvino", folder, precision="bfloat16")(rows)
    expected = open_exported("openvino", folder)(rows)
    assert compare(got, expected, relative=RELATIVE_BFLOAT16).complaint is None
    if has_bfloat16():
        assert compare(got, expected).complaint


@needs_openvino
def test_tuned_saved_and_loaded(
    mlp: Any, rows: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record and the report tell of it, and a loaded predictor computes in it again."""
    predictor = tune(mlp, rows, SMALL, engines=["openvino"], budget_s=3, precision="bfloat16")
    predictor.save(tmp_path / "tuned")
    loaded = autotune.load(tmp_path / "tuned")
    assert loaded.record.precision == "bfloat16"
    np.testing.assert_array_equal(loaded.predict(rows[:8]), predictor.predict(rows[:8]))
    assert run(["show", str(tmp_path / "tuned")]) == 0
    assert "precision  bfloat16: outputs within " in capsys.readouterr().out
    record = msgspec.structs.replace(loaded.record, precision="")
    artifact.write(tmp_path / "exact", record, mlp.save, tmp_path / "tuned")
    exact = autotune.load(tmp_path / "exact").predict(rows[:8])
    assert compare(exact, mlp.predict_on_batch(rows[:8]), depth=2).complaint is None
    if has_bfloat16():
        assert (exact != loaded.predict(rows[:8])).any()


@needs_openvino
def test_only_what_can_be_reduced_is_let_differ(keras: Any, tmp_path: Path) -> None:
    """An engine that computes in the model's own precision is held to it."""
    model, rows = convolution(keras)
    names = ["keras", "openvino"]
    lineup = LineUp(model, Workload(rows), names, tmp_path, precision="bfloat16")
    outputs = model.predict_on_batch(rows[:8]) * np.float32(1.002)
    complaints = [
        lineup.parity(Candidate(8, name), rows[:8], outputs).complaint is None for name in names
    ]
    assert complaints == [False, True]


def test_without_an_engine_for_it_the_record_says_so(mlp: Any, rows: Any) -> None:
    """Nothing is slower for the asking, and nothing is reduced."""
    record = tune(mlp, rows, SMALL, engines=["keras"], budget_s=1, precision="bfloat16").record
    assert any("No engine here computes in bfloat16" in warning for warning in record.warnings)
    assert TuningRecord.from_json(record.to_json()).precision == "bfloat16"


def test_it_is_never_taken_unasked(mlp: Any, rows: Any) -> None:
    """The default is the model's own precision."""
    assert tune(mlp, rows, SMALL, engines=["keras"], budget_s=1).record.precision == ""


def test_an_unknown_precision_is_refused(
    mlp: Any, rows: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """By both doors, in words."""
    with pytest.raises(InvalidInput, match="precision must be bfloat16"):
        tune(mlp, rows, precision="int4")  # type: ignore[arg-type]
    assert run(["tune", "m.keras", "--synthetic", "--precision", "int4"]) == 2
    assert capsys.readouterr().err.startswith("Error: ")
