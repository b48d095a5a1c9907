"""What people paste first: the README's commands, and the examples."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autotune

HOME = Path(__file__).parents[1]
SEED = sorted((HOME / "examples" / "seed").glob("[0-9]_*.py"))
NOTEBOOK = HOME / "examples" / "notebook.ipynb"
PRINTS = {  # what each program is there to say
    "larger_than_memory.py": r"read \d+ MiB, wrote \d+ MiB\nthe process grew by \d+ MiB",
    "latency_budget.py": r"> +\d+ rows: +\d+\.\d+ ms at 90 %, ",
    "own_sampler.py": r"\d+ trials of \d+ sizes: ",
    "two_inputs.py": r"category: \(3000, 5\), at most \d\.\de[+-]\d+ from model\.predict",
}
PRINTS_APART = {  # of those that are about the process in which the model runs
    "memory_limit.py": r"rows: at most +\d+ MiB expected, \d+ MiB",
    "own_layer.py": r"loaded again: \(2000, 3\), at most \d\.\de[+-]\d+ from model\.predict",
}
# Folders of programs that are more than a file, with tests of their own.
RUN_ELSEWHERE = {"ci_gate", "fastapi_service", "ray"}


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


# A second or two settle little, and what was tuned so hastily may not be the best.
ENDS = {"tune": (0, 3), "verify": (0, 1, 3), "compare": (0, 3), "plan": (0, 1)}


def test_the_readmes_shell_runs(place: Path) -> None:
    """Each command of the README ends well, here with a second in place of a minute."""
    (code,) = blocks("sh")
    lines = [line.split("#")[0].strip() for line in code.splitlines()]
    commands = [line for line in lines if line]
    assert len(commands) == 14
    for line in commands:
        words = line.replace("20ms", "5s").replace("512", "8").split()[1:]
        if words[0] in ("verify", "compare"):
            words += ["--budget", "2s"]
        if words[0] == "tune":
            words += ["--budget", "1s"] + ["--max-batch-size", "8"] * ("8" not in words)
        command = [sys.executable, "-m", "autotune.cli", *words]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode in ENDS.get(words[0], (0,)), f"{line}\n{done.stderr}"


@pytest.mark.parametrize("path", SEED, ids=lambda path: path.stem)
def test_an_example_of_the_seed_runs_and_prints_its_times(path: Path) -> None:
    """Each program of examples/seed ends well and prints measured milliseconds."""
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+\.\d+ ms", done.stdout)


@pytest.mark.parametrize("name", PRINTS)
def test_an_example_runs_and_prints_what_it_measured(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each program of examples/ ends well and says what it is there to say, here in a second."""
    tune = autotune.tune

    def hasty(*arguments: Any, **options: Any) -> Any:
        return tune(*arguments, **options | {"budget_s": 1.0, "isolation": "none"})

    monkeypatch.setattr(autotune, "tune", hasty)
    runpy.run_path(str(HOME / "examples" / name), run_name="__main__")
    assert re.search(PRINTS[name], capsys.readouterr().out)


@pytest.mark.parametrize("name", PRINTS_APART)
def test_an_example_of_processes_runs_in_its_own(name: str, tmp_path: Path) -> None:
    """Each of these ends well as a newcomer starts it, and leaves nothing behind."""
    command = [sys.executable, str(HOME / "examples" / name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTS_APART[name], done.stdout), done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("tensorflow", "jax", "torch")],
)
def test_the_example_of_backends_runs_on_each(backend: str) -> None:
    """The same file tunes on TensorFlow, JAX and PyTorch, and says on which it did."""
    done = subprocess.run(
        [sys.executable, HOME / "examples/backend.py"],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"on {backend}: " in done.stdout
    assert re.search(r"at most \d\.\de[+-]\d+ from model\.predict", done.stdout)


def test_every_example_is_listed_and_run_by_a_test() -> None:
    """No example stands outside the tests, or outside examples/README.md."""
    folder, text = HOME / "examples", (HOME / "examples/README.md").read_text()
    programs = [path.relative_to(folder) for path in folder.rglob("*.py")]
    run = {*PRINTS, *PRINTS_APART, "backend.py", "train_demo_model.py"}
    assert {str(path) for path in programs if path.parent == Path()} == run
    assert {path.parent.name for path in programs} - {""} <= {"seed", *RUN_ELSEWHERE}
    for path in programs:
        listed = f"({path})" in text or (path.parent.name and f"({path.parent}/" in text)
        assert listed, f"{path} is not in examples/README.md"


def test_the_notebook_is_kept_without_outputs() -> None:
    """What a notebook printed on another machine is nobody's measurement."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert "(notebook.ipynb)" in (HOME / "examples/README.md").read_text()


@pytest.mark.needs("nbconvert")
@pytest.mark.needs("ipykernel")
def test_the_notebook_runs(tmp_path: Path) -> None:
    """Every cell of examples/notebook.ipynb runs in a fresh kernel, and the curve is printed."""
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute"]
    own = {f"JUPYTER_{name}_DIR": str(tmp_path) for name in ("CONFIG", "DATA", "RUNTIME")}
    done = subprocess.run(
        [*command, "--output-dir", str(tmp_path), str(NOTEBOOK)],
        env=os.environ | own | {"IPYTHONDIR": str(tmp_path), "JUPYTER_PLATFORM_DIRS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = (tmp_path / "notebook.ipynb").read_text()
    assert re.search(r"in flight +\d+ rows +[\d,]+ rows/s #", printed)
    assert re.search(r"answers differ by at most \d", printed)


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
