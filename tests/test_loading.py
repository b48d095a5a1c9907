"""Loading: silent where the tuning holds, one warning where it may not, and little is imported."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autotune
from autotune import InvalidModel, InvalidRecord, artifact
from autotune.fingerprint import look_around, look_at
from autotune.outcomes import Candidate
from autotune.records import Machine, TuningRecord
from tests.guards import GIB, FreeMemory
from tests.tunings import replaced, tuned_on, with_peaks


@pytest.fixture
def here() -> Machine:
    """This machine."""
    machine = look_around().machine
    assert machine is not None
    return machine


def save(folder: Path, record: TuningRecord, model: Any) -> Path:
    """Write a tuned folder, beside what it holds already, and return it."""
    artifact.write(folder, record, model.save)
    return folder


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What autotune itself has said."""
    return [record.getMessage() for record in caplog.records if record.name == "autotune"]


def test_on_the_same_machine_nothing_is_said(
    mlp: Any, rows: Any, here: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was tuned here is opened without a word, and answers as the model does."""
    record = tuned_on(here, look_at(mlp))
    predictor = autotune.load(save(tmp_path / "tuned", record, mlp))
    assert (predictor.record, predictor.strict) == (record, False)
    expected = mlp.predict(rows, verbose=0)
    np.testing.assert_allclose(predictor.predict(rows), expected, rtol=1e-5, atol=1e-6)
    assert told(caplog) == []


def test_elsewhere_one_warning_names_what_differs_and_the_command(
    mlp: Any, here: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All differences stand in one line, with the command that tunes here."""
    there = replaced(here, device="Zilog Z80", cpu_count=64)
    folder = save(tmp_path / "my tuned", tuned_on(there, look_at(mlp)), mlp)
    autotune.load(str(folder))
    (message,) = told(caplog)
    assert f"device: tuned on Zilog Z80, here {here.device}; processors: tuned with 64" in message
    command = shlex.split(message.partition("Tune it here: ")[2])
    assert command[:3] == ["autotune", "tune", str(folder / "model.keras")]
    assert command[-2:] == ["--out", str(folder)]


@pytest.mark.parametrize("strict", [False, True])
def test_elsewhere_batches_are_held_to_free_memory(
    mlp: Any,
    here: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    strict: bool,
) -> None:
    """The same warning tells the batch size; a strict predictor keeps what was tuned."""
    peaks = {size: GIB + size * 2**23 for size in (128, 256, 512)}
    record = with_peaks(peaks, Candidate(512), kind="cpu", counted=False, idle_bytes=GIB)
    record = replaced(record, machine=replaced(here, cpu_count=64), model=look_at(mlp))
    folder = save(tmp_path / "tuned", record, mlp)
    FreeMemory(monkeypatch, 3 * GIB)
    predictor = autotune.load(folder, strict=strict)
    (message,) = told(caplog)
    assert ("256 rows in place of 512" in message) != strict
    assert predictor.stats.batch_size == (512 if strict else 256)
    assert predictor.strict == strict
    assert predictor.recommendation.batch_size == 512


def test_of_several_devices_the_tuning_for_this_one_is_taken(
    mlp: Any, here: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever was tuned last; and nothing is said."""
    info = look_at(mlp)
    there = replaced(here, device="Zilog Z80", cpu_count=64)
    ours = tuned_on(here, info, created="2026-01-01T00:00:00+00:00")
    theirs = tuned_on(there, info, created="2026-01-02T00:00:00+00:00")
    for order in ((ours, theirs), (theirs, ours)):
        for record in order:
            save(tmp_path / "tuned", record, mlp)
        predictor = autotune.load(tmp_path / "tuned")
        assert predictor.record == ours
    assert told(caplog) == []


def test_what_was_loaded_can_be_saved(mlp: Any, here: Machine, tmp_path: Path) -> None:
    """The model's file is copied as it is, also over the folder that it came from."""
    first = save(tmp_path / "tuned", tuned_on(here, look_at(mlp)), mlp)
    data = (first / "model.keras").read_bytes()
    autotune.load(first).save(tmp_path / "again")
    autotune.load(first).save(first)
    for folder in (tmp_path / "again", first):
        assert (folder / "model.keras").read_bytes() == data
        assert autotune.load(folder).record == autotune.load(first).record


@pytest.mark.parametrize("name", ["record.json", "model.keras", "manifest.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "changed"])
def test_a_damaged_folder_is_refused(
    mlp: Any, here: Machine, tmp_path: Path, name: str, damage: str
) -> None:
    """A file that is missing, empty or changed: nothing is opened."""
    path = save(tmp_path / "tuned", tuned_on(here, look_at(mlp)), mlp) / name
    if damage == "gone":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(path.read_bytes().replace(b'"', b"'", 1) + b"x")
    with pytest.raises(InvalidRecord, match=name):
        autotune.load(tmp_path / "tuned")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The message has its name."""
    with pytest.raises(InvalidRecord, match=r"not found: .*nowhere"):
        autotune.load(tmp_path / "nowhere")


def test_python_code_in_a_model_must_be_trusted(keras: Any, here: Machine, tmp_path: Path) -> None:
    """A Lambda layer is not run unless the caller says so; the warning's command says it too."""
    layers = [keras.Input((10,), name="x"), keras.layers.Lambda(lambda x: x * 2, (10,))]
    model = keras.Sequential(layers)
    folder = save(tmp_path / "tuned", tuned_on(here, look_at(model)), model)
    with pytest.raises(InvalidModel, match="unsafe"):
        autotune.load(folder)
    predictor = autotune.load(folder, unsafe=True)
    assert predictor.predict(np.ones((2, 10), np.float32)).tolist() == [[2.0] * 10] * 2


def test_neither_optuna_nor_nvml_is_imported(mlp: Any, here: Machine, tmp_path: Path) -> None:
    """Nor anything of the search: production needs none of it."""
    folder = save(tmp_path / "tuned", tuned_on(here, look_at(mlp)), mlp)
    code = (
        "import sys, numpy, autotune;"
        "predictor = autotune.load(sys.argv[1]);"
        "assert predictor.predict(numpy.ones((20, 10), 'float32')).shape == (20, 1);"
        "search = {'tuning', 'searching', 'driver', 'probe', 'ledger', 'studies', 'demo', 'cli'};"
        "print({'optuna', 'pynvml', *(f'autotune.{name}' for name in search)} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code, str(folder)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "set()"
