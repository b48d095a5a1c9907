"""Random command lines and damaged files: never a traceback, and only the exit codes there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.doors import damaged, lines, shown, standing_in, try_door
from tests.doubling import doubling

EXAMPLES = 40
SEVERAL = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
DOORS = {
    "m.keras": "tune m.keras --sample x.npy --seed -1",  # after the model was looked at
    "x.npy": "predict tuned x.npy --out y.csv",
    "x.npz": "predict tuned x.npz --out y.npz",
    "x.csv": "predict tuned x.csv --out y.parquet --keep 0",
    "x.parquet": "predict tuned x.parquet --out y.npy",
    "tuned/record.json": "show tuned/record.json",
    "tuned/manifest.json": "show tuned",
    "conf.toml": "show tuned --config conf.toml",
    "conf.yaml": "show tuned --config conf.yaml",
}


def furnish(place: Path) -> list[str]:
    """Put a good file of each kind into a folder, and return their names."""
    (place / "tmp").mkdir()
    predictor = doubling()
    predictor.model.save(place / "m.keras")
    predictor.save(place / "tuned")
    x = np.arange(60, dtype=np.float32).reshape(20, 3)
    np.save(place / "x.npy", x)
    np.savez(place / "x.npz", x)
    rows = [",".join([f"user {n}", *map(str, row)]) for n, row in enumerate(x.tolist())]
    (place / "x.csv").write_text("\n".join(rows))
    pyarrow.parquet.write_table(pyarrow.table({"x": list(x)}), place / "x.parquet")
    (place / "conf.toml").write_text('quiet = true\n[tune]\nengine = ["keras"]\n')
    (place / "conf.yaml").write_text("quiet: true\ntune: {engine: [keras], budget: 2min}\n")
    return [*DOORS, "tuned", "y.npy", "y.csv"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good file of each kind."""
    folder = tmp_path_factory.mktemp("doors")
    furnish(folder)
    return folder


@SEVERAL
@given(data=st.data())
def test_no_command_line_ends_in_a_traceback(place: Path, data: Any) -> None:
    """Whatever is typed, the answer is an exit code that is documented, and a line or two."""
    line = data.draw(lines([*DOORS, "tuned"]))
    with standing_in(place):
        wrong = try_door(line)
    assert not wrong, f"{shown(line)}\n{wrong}"


@pytest.mark.parametrize("name", DOORS)
@settings(SEVERAL, max_examples=EXAMPLES // 3)
@given(data=st.data())
def test_no_damaged_file_ends_in_a_traceback(place: Path, name: str, data: Any) -> None:
    """Whatever is in a file, what cannot be read of it is told in a line."""
    path = place / name
    whole = path.read_bytes()
    content = data.draw(damaged(whole))
    try:
        path.write_bytes(content)
        with standing_in(place):
            wrong = try_door(DOORS[name].split())
    finally:
        path.write_bytes(whole)
    assert not wrong, f"{name}: {content[:200]!r}...\n{wrong}"
