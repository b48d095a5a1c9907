"""A container's worth: a bare environment with autotune alone and what the tuned folder lists."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autotune
from autotune import Goal

HOME = Path(autotune.__file__).parents[1]

CODE = """
import importlib.util, sys
import numpy, autotune
y = autotune.load(sys.argv[1]).predict(numpy.load(sys.argv[2]))
numpy.save(sys.argv[3], y)
print(*[n for n in ("keras", "tensorflow", "optuna", "typer") if importlib.util.find_spec(n)])
"""


@pytest.mark.needs("onnxruntime")
@pytest.mark.needs("tf2onnx")
def test_a_tuned_folder_serves_where_only_its_requirements_are_installed(
    mlp: Any, rows: Any, tmp_path: Path
) -> None:
    """`pip install --no-deps keras-autotune`, `pip install -r tuned/requirements.txt`, and go."""
    predictor = autotune.tune(
        mlp, rows, Goal(max_batch_size=64), engines=["onnxruntime"], budget_s=2
    )
    predictor.save(tmp_path / "tuned")
    np.save(tmp_path / "x.npy", rows)
    venv.create(tmp_path / "bare", with_pip=True)
    python = tmp_path / "bare" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--no-deps", str(HOME)], check=True)
    subprocess.run([*install, "-r", str(tmp_path / "tuned" / "requirements.txt")], check=True)
    places = [str(tmp_path / name) for name in ("tuned", "x.npy", "y.npy")]
    done = subprocess.run(
        [str(python), "-P", "-c", CODE, *places], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")
    expected = mlp.predict(rows, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-4, atol=1e-6)
    assert sys.prefix != str(tmp_path / "bare")
