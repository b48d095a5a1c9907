"""One tuned directory for several devices: copied around, tuned on each, read on all."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autotune
from autotune import artifact, cli
from autotune.errors import InvalidInput, InvalidRecord
from autotune.fingerprint import look_around, look_at
from autotune.records import Machine, TuningRecord
from tests.test_artifact import contents, put_half, put_model, put_other
from tests.tunings import L4, MODEL, XEON, replaced, tuned_on

ON_XEON = tuned_on(XEON, created="2026-01-01T00:00:00+00:00")
ON_L4 = tuned_on(L4, created="2026-01-02T00:00:00+00:00")


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """A folder that was tuned on the Xeon, and then on the L4."""
    folder = tmp_path / "tuned"
    artifact.write(folder, ON_XEON, put_model)
    artifact.write(folder, ON_L4, put_other)
    return folder


def other_record(folder: Path) -> Path:
    """The file that holds what was tuned first."""
    (path,) = folder.glob("record-*.json")
    return path


def test_each_device_keeps_its_tuning(tuned: Path) -> None:
    """The latest comes first, the others beside it, and each machine gets its own."""
    read = artifact.read(tuned)
    assert read.record == ON_L4
    assert read.records == (ON_L4, ON_XEON)
    assert read.model.read_bytes() == b"new weights"
    assert read.record_for(XEON, "tensorflow") == ON_XEON
    assert read.record_for(L4, "tensorflow") == ON_L4
    assert read.record_for(None, "tensorflow") == ON_L4
    assert [path.name for path in tuned.parent.iterdir()] == ["tuned"]


def test_every_file_has_its_hash(tuned: Path) -> None:
    """The manifest names all files but itself, with the first hash in the record's own name."""
    files = json.loads((tuned / "manifest.json").read_bytes())["files"]
    assert {*files, "manifest.json"} == set(contents(tuned))
    name = other_record(tuned).name
    assert name == f"record-{files[name][:12]}.json"


@pytest.mark.parametrize("first", [XEON, L4])
def test_tuning_again_replaces_that_device_alone(tuned: Path, first: Machine) -> None:
    """Of each device the latest tuning is kept, however often it is tuned, in whatever order."""
    second = XEON if first is L4 else L4
    for number in range(3):
        for machine in (first, second):
            record = tuned_on(machine, seed=number)
            artifact.write(tuned, record, put_model)
    expected = (tuned_on(second, seed=2), tuned_on(first, seed=2))
    assert artifact.read(tuned).records == expected
    assert len(contents(tuned)) == 5


def test_another_model_replaces_everything(tuned: Path) -> None:
    """Tunings of another model say nothing of this one."""
    record = tuned_on(XEON, replaced(MODEL, sha256="1" * 64))
    artifact.write(tuned, record, lambda path: put_bytes(path, b"another model"))
    assert artifact.read(tuned).records == (record,)
    assert len(contents(tuned)) == 4


def put_bytes(path: Path, data: bytes) -> None:
    """Write what stands for a model."""
    path.write_bytes(data)


def test_the_same_file_is_the_same_model(tuned: Path) -> None:
    """A Keras that writes layers down otherwise changes the hash of a model, not its file."""
    record = tuned_on(replaced(XEON, cpu_count=8), replaced(MODEL, sha256="1" * 64))
    artifact.write(tuned, record, put_other)
    assert artifact.read(tuned).records[0] == record
    assert len(artifact.read(tuned).records) == 3


def test_many_devices_share_a_folder(tmp_path: Path) -> None:
    """Ten machines tune in turn, and all of their tunings are there."""
    records = [tuned_on(replaced(XEON, cpu_count=count)) for count in range(1, 11)]
    for record in records:
        artifact.write(tmp_path / "tuned", record, put_model)
    read = artifact.read(tmp_path / "tuned")
    assert read.record == records[-1]
    assert {record.machine.cpu_count for record in read.records if record.machine} == {
        *range(1, 11)
    }


def test_a_folder_of_one_device_is_read_as_ever(tmp_path: Path) -> None:
    """A folder with one record has no record but that, and what must be installed for it."""
    artifact.write(tmp_path / "tuned", ON_XEON, put_model)
    names = {"manifest.json", "model.keras", "record.json", "requirements.txt"}
    assert set(contents(tmp_path / "tuned")) == names
    assert artifact.read(tmp_path / "tuned").others == ()


def test_an_older_record_has_no_quota(tmp_path: Path) -> None:
    """A record from before processors' quotas were noted is read, as one without a quota."""
    fields = json.loads(ON_XEON.to_json())
    del fields["machine"]["cpu_quota"]
    assert TuningRecord.from_json(json.dumps(fields).encode()) == ON_XEON


def test_a_changed_or_missing_record_of_another_device_is_refused(tuned: Path) -> None:
    """The records beside the latest one are vouched for as well."""
    path = other_record(tuned)
    data = path.read_bytes()
    path.write_bytes(data + b" ")
    with pytest.raises(InvalidRecord, match=f"{path.name} was changed after tuning"):
        artifact.read(tuned)
    path.unlink()
    with pytest.raises(InvalidRecord, match=f"is damaged: {path.name} is missing"):
        artifact.read(tuned)


def test_a_record_that_the_manifest_does_not_name_is_not_read(tuned: Path) -> None:
    """It is ignored at load, and it makes the folder one that is not replaced."""
    stray = tuned / "record-0123456789ab.json"
    shutil.copyfile(other_record(tuned), stray)
    assert len(artifact.read(tuned).records) == 2
    with pytest.raises(InvalidInput, match="holds something else"):
        artifact.write(tuned, ON_XEON, put_model)
    assert stray.exists()


@pytest.mark.parametrize(
    "name", ["record-0123456789ab.json/../x", "../record-0123456789ab.json", "record-1.json", "x"]
)
def test_a_manifest_that_names_other_files_is_no_tuned_folder(tuned: Path, name: str) -> None:
    """Names that autotune never gives are neither read nor taken for its own."""
    manifest = json.loads((tuned / "manifest.json").read_bytes())
    manifest["files"][name] = "0" * 64
    (tuned / "manifest.json").write_text(json.dumps(manifest))
    assert not artifact.is_tuned(tuned)
    assert len(artifact.read(tuned).records) == 2


def test_a_damaged_folder_is_replaced_and_told(
    tuned: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be trusted is not carried on, and a warning says so."""
    (tuned / "model.keras").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "autotune"):
        artifact.write(tuned, ON_L4, put_model)
    assert artifact.read(tuned).records == (ON_L4,)
    (message,) = caplog.messages
    assert "all that was tuned on other devices" in message
    assert "model.keras was changed" in message


def test_all_devices_stand_when_writing_fails(tuned: Path) -> None:
    """A tuning that cannot be written takes nothing of the others away."""
    before = contents(tuned.parent)
    with pytest.raises(ValueError, match="no such layer"):
        artifact.write(tuned, ON_XEON, put_half)
    assert contents(tuned.parent) == before


def test_a_folder_is_copied_tuned_there_and_copied_back(
    mlp: Any, rows: Any, tmp_path: Path
) -> None:
    """With a real model: tuned here, tuned elsewhere from the copy, used in both places."""
    here = look_around()
    assert here.machine is not None
    there = replaced(here.machine, device="Zilog Z80", cpu_count=64)
    info = look_at(mlp)
    home, away = tmp_path / "tuned", tmp_path / "away"
    artifact.write(home, tuned_on(here.machine, info), mlp.save)
    shutil.copytree(home, away)
    copied = (away / "model.keras").read_bytes()  # as the command line does it
    artifact.write(away, tuned_on(there, info), lambda path: put_bytes(path, copied))
    shutil.rmtree(home)
    shutil.copytree(away, home)
    read = artifact.read(home)
    assert read.record_for(here.machine, here.backend).machine == here.machine
    assert read.record_for(there, here.backend).machine == there
    expected = mlp.predict(rows, verbose=0)
    np.testing.assert_allclose(autotune.load(home).predict(rows), expected, rtol=1e-5, atol=1e-6)


def test_show_tells_of_the_other_devices(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The latest tuning is shown whole, the others on a line each; JSON is the latest record."""
    assert cli.run(["show", str(tuned)]) == 0
    text = capsys.readouterr().out
    assert "machine    NVIDIA L4" in text
    assert text.endswith(
        "Also tuned: Intel Xeon, 2 processors on tensorflow: 8 rows, keras, 80.0 rows/s\n"
    )
    assert cli.run(["show", str(tuned), "--json"]) == 0
    assert TuningRecord.from_json(capsys.readouterr().out.encode()) == ON_L4
