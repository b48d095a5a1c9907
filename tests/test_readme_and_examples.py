"""What people paste first: the README's commands, and the examples."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
EXAMPLES = sorted((HOME / "examples" / "seed").glob("[0-9]_*.py"))


def test_the_readme_has_its_two_commands() -> None:
    """The two commands that do all the set-up stand in the README just so."""
    text = (HOME / "README.md").read_text()
    assert "\n    pip install . && autotune demo\n" in text
    assert "\n    pip install '.[test]' && pytest\n" in text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_prints_its_times(path: Path) -> None:
    """Each program of examples/seed ends well and prints measured milliseconds."""
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+\.\d+ ms", done.stdout)


def test_every_example_is_run_by_a_test() -> None:
    """No example stands outside the tests."""
    run = {*EXAMPLES, HOME / "examples/seed/common.py", HOME / "examples/train_demo_model.py"}
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
