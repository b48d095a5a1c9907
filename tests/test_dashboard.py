"""A study in optuna-dashboard: what a person sees there, asked from its own server."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bad_files import autotune
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("optuna_dashboard")

TUNE = (
    "tune model.keras --sample rows.npy --engine keras --concurrency 1 --max-batch-size 8 "
    "--budget 1s --latency-budget 1s --storage sqlite:///tune.db --study mine"
)


@pytest.fixture
def ask(
    tmp_path: Path, save: Callable[..., Path], mlp: Any, rows: np.ndarray[Any, Any]
) -> Iterator[Callable[[str], Any]]:
    """Tune for a second, open the study in the dashboard, and ask its server for JSON."""
    save(mlp)
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "tmp").mkdir()
    done = autotune(tmp_path, TUNE)
    assert done.returncode in (0, 3), done.stderr
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    dashboard = Path(sys.executable).with_name("optuna-dashboard")
    server = subprocess.Popen(
        [dashboard, "sqlite:///tune.db", "--port", str(port), "--server", "wsgiref"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def get(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}") as answer:
            return json.load(answer)

    def is_there() -> bool:
        with contextlib.suppress(urllib.error.URLError):
            return bool(get("meta"))
        assert server.poll() is None
        return False

    try:
        wait_until(is_there)
        yield get
    finally:
        server.terminate()
        server.wait()


def test_a_study_can_be_read_in_the_dashboard(ask: Callable[[str], Any]) -> None:
    """Name, parameters, values with their unit, what is over a limit, and each trial's figures."""
    (summary,) = ask("studies")["study_summaries"]
    assert (summary["study_name"], summary["directions"]) == ("mine", ["maximize"])
    assert [each["key"] for each in summary["user_attrs"]] == ["belongs_to"]
    study = ask(f"studies/{summary['study_id']}")
    assert study["objective_names"] == ["rows/s"]
    assert {each["name"] for each in study["union_search_space"]} == {
        "batch_size",
        "engine",
        "concurrency",
    }
    probed = [trial for trial in study["trials"] if trial["state"] == "Complete"]
    assert len(probed) > 3
    for trial in probed:
        figures = {each["key"]: each["value"] for each in trial["user_attrs"]}
        assert figures["came_of_it"] == "within the limits"
        assert float(figures["rows_per_s"]) == pytest.approx(trial["values"][0], rel=1e-3)
        assert 0 < float(figures["latency_s"]) < 1
        assert len(trial["constraints"]) == 3
        assert max(trial["constraints"]) <= 0
    sortable = {each["key"] for each in study["union_user_attrs"] if each["sortable"]}
    assert {"rows_per_s", "latency_s", "peak_bytes"} <= sortable | {"peak_bytes"}
    best = study["best_trials"][0]
    assert best["values"][0] == max(trial["values"][0] for trial in probed)
