"""Completion: what a shell offers, asked as a shell asks."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.engines import NAMES

BASH = shutil.which("bash")
bash = pytest.mark.skipif(BASH is None, reason="needs bash")


def completed(line: str, shell: str = "bash") -> list[str]:
    """What completes a command line at its end."""
    words = shlex.split(line) + [""] * line.endswith(" ")
    asked = {
        "_AUTOTUNE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    command = [sys.executable, "-m", "autotune.cli"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | asked
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("autotune tu", ["tune"]),
        ("autotune tune --lat", ["--latency-budget"]),
        ("autotune tune m.keras --engine ", list(NAMES)),
        ("autotune tune m.keras --engine o", ["onnxruntime", "openvino"]),
        ("autotune tune --objective ", ["throughput", "makespan", "latency"]),
        ("autotune tune --strategy s", ["sampler"]),
        ("autotune tune --isolation ", ["process", "spawn", "none"]),
        ("autotune tune --precision b", ["bfloat16"]),
    ],
)
def test_names_are_completed(line: str, expected: list[str]) -> None:
    """Commands, options, engines, objectives and the like."""
    assert completed(line) == expected


@pytest.mark.parametrize("line", ["autotune tune ", "autotune tune m.keras --sample "])
def test_files_are_left_to_the_shell(line: str) -> None:
    """Where a file is wanted nothing is offered, and shells offer files then."""
    assert completed(line) == []
    assert completed(line, "zsh") == ["_files"]


@bash
def test_bash_takes_the_script_and_completes(tmp_path: Path) -> None:
    """What `--show-completion` prints is a script for the shell that asked, and it works there."""
    shim = tmp_path / "autotune"
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m autotune.cli "$@"\n')
    shim.chmod(0o755)
    script = (
        'eval "$(autotune --show-completion)"; COMP_WORDS=(autotune tune --engine x); '
        'COMP_CWORD=3; _autotune_completion autotune; echo "${COMPREPLY[@]}"; true'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [BASH or "", "--norc", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": path, "HOME": str(tmp_path)},
    )
    assert done.stdout == "xla\n", done.stderr


@bash
def test_installing_writes_the_script_into_the_home_folder(tmp_path: Path) -> None:
    """`--install-completion` puts the script where the shell finds it, and says where."""
    command = f"{shlex.quote(sys.executable)} -m autotune.cli --install-completion; true"
    done = subprocess.run(
        [BASH or "", "--norc", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    (script,) = tmp_path.rglob("autotune.sh")
    assert str(script) in done.stdout
    assert str(script) in (tmp_path / ".bashrc").read_text()
