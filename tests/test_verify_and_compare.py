"""`autotune verify` and `autotune compare`, with real models, as users and CI run them."""

from __future__ import annotations

import functools
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

from autotune import Candidate, Goal, TuningRecord, artifact, cli, family, search, tune
from autotune.commands.verify import EXIT_CODES
from autotune.duel import compare
from autotune.probe import IsolatedProbe
from autotune.signature import Signature
from autotune.worker import FactorySource, Load, SavedRows
from tests.bad_files import everything_in
from tests.noisy import BASELINES, NoisyMachine
from tests.tunings import own

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
    goal = Goal(max_batch_size=64)  # where a call costs most: the largest is clearly the best
    tune(folder / "small.keras", rows, goal, engines=["keras"], concurrency=[1], budget_s=4.0).save(
        folder / "tuned"
    )
    return folder


def claiming(record: TuningRecord, times: float) -> TuningRecord:
    """A record of the same model and machine, by which 64 rows beat 32 by so many times."""
    line = (0.64 + 1.0) / (0.32 + 1.0)  # what a batch of 64 takes there over one of 32
    machine = NoisyMachine(noise=0.01, slower={Candidate(32): times / 2 * line})
    goal = Goal(max_batch_size=64)
    found = search(machine, goal, budget_s=20.0, baselines=BASELINES)
    return msgspec.structs.replace(found, model=record.model, machine=record.machine)


def elsewhere(record: TuningRecord) -> TuningRecord:
    """The record as it were of another machine, and newer."""
    assert record.machine is not None
    machine = msgspec.structs.replace(record.machine, device="Another", cpu_count=96)
    return msgspec.structs.replace(record, machine=machine, created="2999-01-01T00:00:00+00:00")


def rewritten(place: Path, name: str, *records: TuningRecord, exports: Path | None = None) -> Path:
    """A tuned folder with other records, the last being the latest."""
    model = place / "tuned" / "model.keras"
    for record in records:
        artifact.write(place / name, record, functools.partial(shutil.copyfile, model), exports)
    return place / name


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "autotune.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_fresh_tuning_holds_or_is_undecided(place: Path) -> None:
    """Unless it was not settled itself. The verdict comes first, and the folder is not changed."""
    before = everything_in(place / "tuned")
    recommendation = TuningRecord.load(place / "tuned" / "record.json").recommendation
    assert recommendation is not None
    codes = (0, 3) if recommendation.confidence == "high" else (0, 1, 3)
    done = run("verify", place / "tuned", "--sample", place / "rows.npy", "--budget", "4s")
    assert done.returncode in codes, done.stdout + done.stderr
    first, *facts = done.stdout.splitlines()
    begins = {0: "The recommendation holds", 1: str(recommendation.candidate), 3: "Undecided"}
    assert first.startswith(begins[done.returncode])
    names = [fact.split()[0] for fact in facts]
    assert names.index("speed") > 0  # after the ratios
    assert names.index("effort") == names.index("latency") + 1
    assert done.stderr == ""
    assert everything_in(place / "tuned") == before


def test_a_claim_that_does_not_hold_is_told(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten times the advantage is lost: exit code 1, of this machine's record among several."""
    record = TuningRecord.load(place / "tuned" / "record.json")
    folder = rewritten(place, "boasting", claiming(record, 20.0), elsewhere(record))
    assert len(artifact.read(folder).records) == 2
    assert cli.run(["verify", str(folder), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "slower"
    assert found["recorded_advantage"]["low"] > 10
    assert found["advantage"]["high"] < found["recorded_advantage"]["low"]
    assert "drawn at random" in " ".join(found["warnings"])
    assert found["differences"] == []


def test_the_larger_model_is_slower(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tuned folder against a model, each in a child of its own, with one sample for both."""
    sample = str(place / "rows.npy")
    sides = str(place / "tuned"), str(place / "large.keras")
    words = ["compare", *sides, "--sample", sample, "--batch-size", "64", "--budget", "3s"]
    assert cli.run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "A faster"
    assert found["ratio"]["high"] < 1
    assert found["b"]["candidate"]["batch_size"] == 64
    assert own(found["warnings"]) == ()


def test_a_model_is_no_faster_than_itself(place: Path) -> None:
    """The same path may be given twice; rows are drawn then, and that is told."""
    path = place / "small.keras"
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
    "compare small.keras": ("'b'",),
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


def by_onnxruntime(record: TuningRecord) -> TuningRecord:
    """A record in which another engine did what this one did."""
    text = record.to_json().replace(b'"engine": "keras"', b'"engine": "onnxruntime"')
    return TuningRecord.from_json(text)


@pytest.mark.needs("onnxruntime")
def test_a_tuned_folders_exported_model_is_the_one_that_is_timed(
    place: Path, tmp_path: Path
) -> None:
    """What production runs is measured: an exported model that cannot be opened fails."""
    exported = tmp_path / "onnx"
    exported.mkdir()
    signature = Signature("model.onnx", (), (), 0, 0)
    signature.save(exported)
    (exported / "model.onnx").write_bytes(b"no model")
    record = by_onnxruntime(TuningRecord.load(place / "tuned" / "record.json"))
    folder = rewritten(place, "exported", record, exports=tmp_path)
    done = run("verify", folder, "--sample", place / "rows.npy", "--budget", "2s")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "does not run here" in done.stdout.splitlines()[0]
    assert "cannot open the exported model" in done.stdout.splitlines()[0]


def gate(tuned: Path, rows: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run the gate of the examples with a command in place of `autotune`."""
    settings = {"AUTOTUNE": command, "BUDGET": "4s"}
    return subprocess.run(
        ["/bin/sh", str(GATE), str(tuned), str(rows)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | settings,
    )


def test_the_gate_of_the_examples_lets_through_what_holds(place: Path) -> None:
    """A modest claim passes examples/ci_gate/gate.sh, at worst with a warning."""
    record = TuningRecord.load(place / "tuned" / "record.json")
    folder = rewritten(place, "modest", claiming(record, 1.3))
    done = gate(folder, place / "rows.npy", f"{sys.executable} -m autotune.cli")
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout if "The recommendation holds" in done.stdout else done.stderr
    assert "gate: " in said


@pytest.mark.parametrize(
    ("code", "ends", "times"), [(0, 0, 1), (1, 1, 1), (2, 2, 1), (3, 0, 2), (4, 4, 1)]
)
def test_the_gate_goes_by_the_exit_code(tmp_path: Path, code: int, ends: int, times: int) -> None:
    """Undecided is asked once more, with three times the budget; all but that and 0 stops."""
    log = tmp_path / "log"
    script = tmp_path / "autotune"
    script.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexit {code}\n')
    script.chmod(0o755)
    done = gate(Path("tuned"), Path("rows.npy"), str(script))
    assert done.returncode == ends
    lines = [f"verify tuned --sample rows.npy --budget {n}s" for n in (4, 12)]
    assert log.read_text().splitlines() == lines[:times]


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
