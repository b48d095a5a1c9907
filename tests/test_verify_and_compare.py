"""`autotune verify` and `autotune compare`, with real models, as users and CI run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from autotune import Candidate, Goal, Measurement, TuningRecord, artifact, cli, family, tune
from autotune.commands.verify import EXIT_CODES
from autotune.duel import compare
from autotune.files import sha256_of
from autotune.probe import IsolatedProbe
from autotune.worker import FactorySource, Load, SavedRows
from tests.bad_files import everything_in

HOME = Path(__file__).parents[1]
GATE = HOME / "examples" / "ci_gate" / "gate.sh"
PAGE = HOME / "docs" / "verify-and-compare.md"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, keras: Any) -> Path:
    """A small model, tuned; a larger one, one of other inputs, and rows for the first two."""
    folder = tmp_path_factory.mktemp("verify")
    dense = keras.layers.Dense
    keras.Sequential([keras.Input((10,), name="x"), dense(1)]).save(folder / "small.keras")
    wide = [dense(1024, activation="relu") for _ in range(3)]
    keras.Sequential([keras.Input((10,), name="x"), *wide, dense(1)]).save(folder / "large.keras")
    keras.Sequential([keras.Input((9,), name="x"), dense(1)]).save(folder / "nine.keras")
    rows = np.random.default_rng(0).standard_normal((200, 10)).astype(np.float32)
    np.save(folder / "rows.npy", rows)
    predictor = tune(
        folder / "large.keras", rows, Goal(max_batch_size=64), engines=["keras"], budget_s=4.0
    )
    predictor.save(folder / "tuned")
    return folder


def claim_more(record: TuningRecord) -> TuningRecord:
    """A record by which the recommendation took a tenth of the time that it took."""
    assert record.recommendation is not None
    chosen = record.recommendation.candidate

    def shrink(outcome: Any) -> Any:
        if outcome.candidate != chosen or not isinstance(outcome, Measurement):
            return outcome
        times_s = tuple(time_s / 10 for time_s in outcome.times_s)
        return msgspec.structs.replace(outcome, times_s=times_s)

    outcomes = tuple(map(shrink, record.outcomes))
    return msgspec.structs.replace(record, outcomes=outcomes)


def elsewhere(record: TuningRecord) -> TuningRecord:
    """The record as it were of another machine, and newer."""
    assert record.machine is not None
    machine = msgspec.structs.replace(record.machine, device="Another", cpu_count=96)
    return msgspec.structs.replace(record, machine=machine, created="2999-01-01T00:00:00+00:00")


def rewritten(place: Path, name: str, *records: TuningRecord) -> Path:
    """A tuned folder with other records, the last being the latest."""
    for record in records:
        artifact.write(
            place / name,
            record,
            lambda path: shutil.copyfile(place / "tuned" / "model.keras", path),
        )
    return place / name


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "autotune.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_fresh_tuning_holds_or_is_undecided(place: Path) -> None:
    """The first line is the verdict, nothing is said on standard error, and the folder stays."""
    before = everything_in(place / "tuned")
    done = run("verify", place / "tuned", "--sample", place / "rows.npy", "--budget", "4s")
    assert done.returncode in (0, 3), done.stdout + done.stderr
    first, *facts = done.stdout.splitlines()
    assert first.startswith("The recommendation holds" if done.returncode == 0 else "Undecided")
    assert facts[0].startswith("advantage ")
    assert "recorded" in facts[0]
    assert done.stderr == ""
    assert everything_in(place / "tuned") == before


def test_a_claim_that_does_not_hold_is_told(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten times the advantage is lost: exit code 1, of this machine's record among several."""
    record = TuningRecord.load(place / "tuned" / "record.json")
    folder = rewritten(place, "boasting", claim_more(record), elsewhere(record))
    assert len(artifact.read(folder).records) == 2
    assert cli.run(["verify", str(folder), "--budget", "4s", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "slower"
    assert found["recorded_advantage"]["ratio"] > 5 * found["advantage"]["ratio"]
    assert "drawn at random" in " ".join(found["warnings"])
    assert found["differences"] == []


def test_the_larger_model_is_slower(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tuned folder against a model, each in a child of its own, with one sample for both."""
    sample = str(place / "rows.npy")
    sides = str(place / "small.keras"), str(place / "tuned")
    words = ["compare", *sides, "--sample", sample, "--batch-size", "64", "--budget", "3s"]
    assert cli.run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "A faster"
    assert found["ratio"]["high"] < 1
    assert found["a"]["candidate"]["batch_size"] == 64
    assert found["warnings"] == [] or "disturbed" in found["warnings"][0]


def test_a_model_is_no_faster_than_itself(place: Path) -> None:
    """The same path may be given twice; rows are drawn then, and that is told."""
    path = place / "large.keras"
    found = compare(path, path, budget_s=3.0, tolerance=0.25)
    assert found.verdict in ("same", "undecided"), found
    assert found.a.candidate == found.b.candidate == Candidate(32)
    assert "drawn at random" in " ".join(found.warnings)


def test_rows_that_do_not_fit_are_told_with_their_side(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two models that need different rows are compared with --sample-b."""
    paths = str(place / "small.keras"), str(place / "nine.keras")
    assert cli.run(["compare", *paths, "--sample", str(place / "rows.npy")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: B: Input 'x' has shape (rows, 10)")
    assert "--sample-b" in err
    assert len(err.splitlines()) == 1


BAD = {
    "verify nope": ("not found", "nope"),
    "verify .": ("not a tuned folder",),
    "verify changed": ("model.keras", "changed after tuning"),
    "verify tuned --budget 0s": ("--budget", "'0s'", "positive"),
    "verify tuned --tolerance 0": ("tolerance", "more than 0"),
    "verify tuned --tolerance much": ("--tolerance", "'much'"),
    "verify tuned --sample nope.npy": ("not found", "nope.npy"),
    "compare nope.keras small.keras": ("not found", "nope.keras"),
    "compare small.keras .": ("not a tuned folder",),
    "compare small.keras small.keras --budget 0s": ("--budget", "'0s'"),
    "compare small.keras small.keras --batch-size 0": ("batch_size", "at least 1", "0"),
    "compare small.keras small.keras --sample-b nope.npy": ("not found", "nope.npy"),
    "compare small.keras": ("'B'",),
}


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=list(BAD))
def test_bad_input_is_refused_at_once(
    place: Path,
    line: str,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, one or two clear lines, no child started and nothing left behind."""

    def no_child(**_: Any) -> None:
        raise AssertionError("A child was started")

    if not (place / "changed").exists():
        shutil.copytree(place / "tuned", place / "changed")
        with (place / "changed" / "model.keras").open("ab") as file:
            file.write(b"x")
    monkeypatch.chdir(place)
    monkeypatch.setattr(family, "Nursery", no_child)
    (place / "tmp").mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
    before = everything_in(place)
    assert cli.run(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert 1 <= len(err.splitlines()) <= 2
    assert [word for word in words if word not in err] == [], err
    assert everything_in(place) == before


def test_what_is_exported_already_is_not_exported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the model of each wanted format in its folder no child is started to export it."""
    monkeypatch.setattr("autotune.engines.formats_wanted", lambda _: ["onnx", "openvino"])
    for form in ("onnx", "openvino"):
        (tmp_path / form).mkdir()
    load = Load(
        id=0,
        model=FactorySource("models:make"),
        name="",
        sample=SavedRows(""),
        engines=None,
        exports=str(tmp_path),
    )
    with IsolatedProbe(load) as probe:
        probe._export()
        assert probe.pids == {}


@pytest.mark.needs("onnxruntime")
@pytest.mark.needs("tf2onnx")
def test_a_tuned_folders_exported_model_is_the_one_that_is_timed(
    place: Path, tmp_path: Path
) -> None:
    """What production runs is measured: an export that is broken in the folder fails."""
    rows = np.load(place / "rows.npy")
    folder = tmp_path / "tuned"
    tune(
        place / "small.keras",
        rows,
        Goal(max_batch_size=8),
        engines=["onnxruntime"],
        budget_s=1.0,
    ).save(folder)
    (folder / "onnx" / "model.onnx").write_bytes(b"no model")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["onnx/model.onnx"] = sha256_of(folder / "onnx" / "model.onnx")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = run("verify", folder, "--sample", place / "rows.npy", "--budget", "2s")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "does not run here" in done.stdout.splitlines()[0]


@pytest.mark.parametrize(("name", "codes"), [("tuned", (0,)), ("boasting", (1,))])
def test_the_gate_of_the_examples_lets_through_what_holds(
    place: Path, name: str, codes: tuple[int, ...]
) -> None:
    """examples/ci_gate/gate.sh ends with 0 where a deployment may go on, and 1 where not."""
    if name == "boasting":
        record = TuningRecord.load(place / "tuned" / "record.json")
        rewritten(place, "boasting", claim_more(record))
    settings = {"AUTOTUNE": f"{sys.executable} -m autotune.cli", "BUDGET": "4s"}
    done = subprocess.run(
        ["/bin/sh", str(GATE), str(place / name), str(place / "rows.npy")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | settings,
    )
    assert done.returncode in codes, done.stdout + done.stderr


def test_the_page_tells_each_verdict_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/verify-and-compare.md has a line for each; the commands' help has an example."""
    text = PAGE.read_text()
    for verdict, code in EXIT_CODES.items():
        assert f"| {code} | `{verdict}` |" in text
    for command in ("verify", "compare"):
        assert cli.run([command, "--help"]) == 0
        assert f"Example: autotune {command}" in capsys.readouterr().out


def test_the_pages_workflow_runs_commands_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each option in the page's commands is one of the command's."""
    lines = [line.strip().removeprefix("run: ") for line in PAGE.read_text().splitlines()]
    commands = [line.split("#")[0].split() for line in lines if line.startswith("autotune ")]
    assert {command[1] for command in commands} == {"verify", "compare"}
    for _, command, *words in commands:
        assert cli.run([command, "--help"]) == 0
        usage = capsys.readouterr().out
        assert [word for word in words if word.startswith("--") and word not in usage] == []
