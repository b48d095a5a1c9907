"""The Ray Serve application, run in a child process with a Ray of its own."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.handover import hand_over

pytestmark = [
    pytest.mark.needs("onnxruntime"),
    pytest.mark.needs("tf2onnx"),
    pytest.mark.needs("ray"),
    pytest.mark.needs("httpx"),
]
REQUESTS = 40

# As `serve run app:app` does, but small, and on a port of its own. It ends with its input.
SERVE = """
import sys
import ray
from ray import serve
ray.init(address="local", num_cpus=int(sys.argv[1]), include_dashboard=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
from app import app
serve.run(app)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


def test_many_at_once_get_their_own_answers(exported_folder: Path, tmp_path: Path) -> None:
    """Each request gets the outputs of `predict` for just its rows; bad ones a 422."""
    from tests.servers import HOME, free_port, running

    folder = tmp_path / "service"
    limits = hand_over(exported_folder, "rayserve", folder).limits
    rows = np.load(exported_folder.parent / "rows.npy")
    expected = np.load(exported_folder.parent / "expected.npy")
    port, cpus = free_port(), max(2, limits.cpus or 1)
    command = [sys.executable, "-c", SERVE, str(cpus), str(port)]
    address, path = f"http://127.0.0.1:{port}", f"{HOME}:{folder}"
    env = {"PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    with running(command, folder, address, env, 422) as client:  # the application, without rows

        def ask(number: int) -> Any:
            answer = client.post(address, json={"rows": rows[number : number + 2].tolist()})
            assert answer.status_code == 200, answer.text
            return answer.json()["outputs"]

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(REQUESTS)))
        refused = client.post(address, json={"rows": [[1.0]]})
    for number, outputs in enumerate(answers):
        np.testing.assert_allclose(outputs, expected[number : number + 2], rtol=1e-5, atol=1e-6)
    assert (refused.status_code, "'x'" in refused.json()["detail"]) == (422, True)
