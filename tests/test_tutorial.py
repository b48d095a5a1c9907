"""The tutorial, followed to the letter by somebody in a hurry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autotune import TuningRecord
from tests.pages import HOME, blocks, commands

TUTORIAL = HOME / "docs/tutorial.md"
# Run by others as they stand: CI installs what is here, and tests/test_cli.py runs the demo.
ELSEWHERE = (["pip", "install"], ["autotune", "demo"])
HASTE = ["--budget", "1s", "--max-batch-size", "8"]  # a second in place of a minute


@pytest.mark.needs("altair")
def test_each_step_of_the_tutorial_works(tmp_path: Path) -> None:
    """From the files that it writes to the predictor in production, each command ends well."""
    for file, code in blocks(TUTORIAL, "python"):
        assert file, "each program of the tutorial is saved as a file"
        (tmp_path / file).write_text(code)
    followed = [words for words in commands(TUTORIAL) if words[:2] not in ELSEWHERE]
    assert [words[1] for words in followed] == [
        *("make_files.py", "tune", "show", "report", "predict", "serve.py"),
    ]
    for words in followed:
        program, *arguments = (word.replace("20ms", "5s") for word in words)
        start = [sys.executable] if program == "python" else [sys.executable, "-m", "autotune.cli"]
        haste = HASTE if arguments[0] == "tune" else []
        command = [*start, *arguments, *haste]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        settled_or_not = (0, 3) if arguments[0] == "tune" else (0,)
        assert done.returncode in settled_or_not, f"{words}\n{done.stderr}"
        if arguments == ["serve.py"]:
            assert "(2000, 3)\n(1, 3)\n" in done.stdout
    assert TuningRecord.load(tmp_path / "tuned/record.json").sample_rows == 2000
    assert (tmp_path / "report.html").stat().st_size > 0
    assert (tmp_path / "outputs.npy").stat().st_size > 2000 * 3 * 4
