"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import TuningRecord, __version__, cli
from autotune.demo import FOLDER

QUICK = ("--budget", "1s", "--max-batch-size", "8")
PLAIN = (*QUICK, "--engine", "keras", "--concurrency", "1")
SETTLED_OR_NOT = (0, 3)  # a second is not always enough


def autotune(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "autotune.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's model, tuned for a second."""
    folder = tmp_path_factory.mktemp("cli")
    with np.load(FOLDER / "digits.npz") as digits:
        np.save(folder / "rows.npy", digits["image"][:100].astype(np.float32))
    out = folder / "tuned"
    sample = folder / "rows.npy"
    done = autotune("tune", FOLDER / "digits.keras", "--sample", sample, "--out", out, *QUICK)
    assert done.returncode in SETTLED_OR_NOT, done.stderr
    assert "rows/s" in done.stdout
    assert f"autotune.load({str(out)!r})" in done.stderr
    return out


def test_tune_writes_a_folder_that_predict_uses(tuned: Path, tmp_path: Path) -> None:
    """Rows in a file go in, outputs in a file come out, equal to the model's own."""
    import keras

    out = tmp_path / "outputs.npy"
    done = autotune("predict", tuned, tuned.parent / "rows.npy", "--out", out)
    assert (done.returncode, done.stdout) == (0, f"100 rows written to {out}\n")
    assert done.stderr == ""
    model = keras.saving.load_model(FOLDER / "digits.keras", compile=False)
    expected = model.predict(np.load(tuned.parent / "rows.npy"), verbose=0)
    np.testing.assert_allclose(np.load(out), expected, rtol=1e-5, atol=1e-6)


def test_show_prints_the_curve_without_colour_in_a_pipe(
    tuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer and all candidates are there, in plain text."""
    assert cli.run(["show", str(tuned)]) == 0
    text = capsys.readouterr().out
    assert "rows/s" in text
    assert "batch size" in text
    assert "\x1b" not in text


def test_json_is_the_record_and_nothing_else(tuned: Path) -> None:
    """`show --json` can be read by a program."""
    done = autotune("show", tuned, "--json")
    record = TuningRecord.from_json(done.stdout.encode())
    assert record == TuningRecord.load(tuned / "record.json")
    assert record.machine is not None
    assert record.machine.versions["keras-autotune"] == __version__


def test_a_synthetic_sample_is_warned_of(
    tmp_path: Path, save: Callable[..., Path], mlp: Any
) -> None:
    """Without rows they are drawn, and the result says that real ones are better."""
    done = autotune("tune", save(mlp), "--synthetic", "--json", *PLAIN)
    assert done.returncode in SETTLED_OR_NOT, done.stderr
    assert "real rows" in " ".join(json.loads(done.stdout)["warnings"])


def test_columns_of_a_csv_become_the_input(
    tmp_path: Path, save: Callable[..., Path], mlp: Any
) -> None:
    """A text file with a line of names serves as sample."""
    lines = [",".join(f"c{n}" for n in range(10)), *[",".join(["0.5"] * 10)] * 20]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    done = autotune("tune", save(mlp), "--sample", tmp_path / "rows.csv", "--json", *PLAIN)
    assert done.returncode in SETTLED_OR_NOT, done.stderr
    assert json.loads(done.stdout)["sample_rows"] == 20


def test_a_factory_of_the_working_folder_is_found(tmp_path: Path) -> None:
    """`module:function` names a module beside the user, and its model is saved for him."""
    code = (
        "import keras\n"
        "def make():\n"
        "    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])\n"
    )
    (tmp_path / "factory.py").write_text(code)
    done = autotune("tune", "factory:make", "--synthetic", "--out", "tuned", *PLAIN, cwd=tmp_path)
    assert done.returncode in SETTLED_OR_NOT, done.stderr
    np.save(tmp_path / "rows.npy", np.ones((5, 3), np.float32))
    done = autotune("predict", "tuned", "rows.npy", "--out", "y.npz", "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"rows": 5})
    assert np.load(tmp_path / "y.npz")["output"].shape == (5, 2)


def test_the_demo_compares_three_ways_at_equal_accuracy() -> None:
    """The demo prints what it measured, and tuning changes no digit's name."""
    done = autotune("demo", "--budget", "2s", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    names = [timing["name"] for timing in found["timings"]]
    assert names == ["model.predict(x)", "predict_on_batch, 32 rows", "tuned predictor"]
    assert len({timing["accuracy"] for timing in found["timings"]}) == 1
    assert found["timings"][0]["accuracy"] > 0.9
    assert found["rows"] == 1797


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the package's version."""
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"autotune {__version__}\n"
