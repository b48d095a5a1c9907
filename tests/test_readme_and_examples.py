"""What people paste first: the README's commands, and the examples."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HOME = Path(__file__).parents[1]
EXAMPLES = sorted((HOME / "examples" / "seed").glob("[0-9]_*.py"))


def test_the_readme_has_its_two_commands() -> None:
    """The two commands that do all the set-up stand in the README just so."""
    text = (HOME / "README.md").read_text()
    assert "\n    pip install . && autotune demo\n" in text
    assert "\n    pip install '.[test]' && pytest\n" in text


@pytest.fixture
def place(tmp_path: Path, save: Callable[..., Path], mlp: Any, rows: Any) -> Path:
    """A folder with the files that the README speaks of."""
    save(mlp)
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "rows.npz", x=rows)
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",")
    code = "import keras\nmake = lambda: keras.saving.load_model('model.keras')\n"
    (tmp_path / "models.py").write_text(code)
    return tmp_path


def blocks(language: str) -> list[str]:
    """Blocks of code in the README."""
    return re.findall(rf"```{language}\n(.*?)```", (HOME / "README.md").read_text(), re.DOTALL)


def test_the_readmes_python_runs(place: Path) -> None:
    """The ten lines of Python do what they say, here with a second in place of a minute."""
    (code,) = blocks("python")
    goal = "autotune.Goal(latency_budget_s=0.020)"
    assert goal in code
    quick = code.replace(goal, "autotune.Goal(latency_budget_s=5.0, max_batch_size=8), budget_s=1")
    command = [sys.executable, "-c", quick + "\nassert y.shape == (50, 1)"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rows/s" in done.stdout


def test_the_readmes_shell_runs(place: Path) -> None:
    """Each command of the README ends well, here with a second in place of a minute."""
    (code,) = blocks("sh")
    lines = [line.split("#")[0].strip() for line in code.splitlines()]
    commands = [line for line in lines if line]
    assert len(commands) == 9
    for line in commands:
        words = line.replace("20ms", "5s").replace("512", "8").split()[1:]
        if words[0] == "tune":
            words += ["--budget", "1s"] + ["--max-batch-size", "8"] * ("8" not in words)
        command = [sys.executable, "-m", "autotune.cli", *words]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        settled_or_not = (0, 3) if words[0] == "tune" else (0,)
        assert done.returncode in settled_or_not, f"{line}\n{done.stderr}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_prints_its_times(path: Path) -> None:
    """Each program of examples/seed ends well and prints measured milliseconds."""
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+\.\d+ ms", done.stdout)


def test_every_example_is_run_by_a_test() -> None:
    """No example stands outside the tests."""
    others = (
        *("seed/common.py", "train_demo_model.py"),
        *("fastapi_service/load.py", "ray/score.py"),  # each in the tests of its part
    )
    run = {*EXAMPLES, *(HOME / "examples" / name for name in others)}
    assert set((HOME / "examples").rglob("*.py")) == run


@pytest.mark.needs("sklearn")
def test_the_demo_model_can_be_trained_again(tmp_path: Path) -> None:
    """The script that made the demo's files still makes them."""
    script = (
        f"import sys; sys.path.insert(0, {str(HOME / 'examples')!r})\n"
        "import pathlib, train_demo_model\n"
        f"print(train_demo_model.main(pathlib.Path({str(tmp_path)!r}), epochs=2))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0.5
    assert {path.name for path in tmp_path.iterdir()} == {"digits.keras", "digits.npz"}
