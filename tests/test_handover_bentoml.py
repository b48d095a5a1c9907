"""The BentoML service, run by `bentoml serve`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.handover import hand_over

pytestmark = [
    pytest.mark.needs("onnxruntime"),
    pytest.mark.needs("tf2onnx"),
    pytest.mark.needs("bentoml"),
    pytest.mark.needs("httpx"),
    # Of BentoML 1.4 itself, when it is imported beside pathspec 1 and pydantic 2.11.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
REQUESTS = 40


@pytest.fixture(scope="module")
def served(
    exported_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, str]]:
    """A client, and the address of the service."""
    from tests.servers import free_port, running

    folder = tmp_path_factory.mktemp("bentoml")
    hand_over(exported_folder, "bentoml", folder / "service")
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "bentoml", "serve", "service:Model", "--port", str(port)]
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "home")}
    ready = f"{address}/readyz"
    with running([*command, "--host", "127.0.0.1"], folder / "service", ready, quiet) as client:
        yield client, address


def test_many_at_once_get_their_own_answers(served: tuple[Any, str], exported_folder: Path) -> None:
    """Each request gets the outputs for just its rows, though bad ones come between."""
    client, address = served
    rows = np.load(exported_folder.parent / "rows.npy")
    expected = np.load(exported_folder.parent / "expected.npy")

    def ask(number: int) -> tuple[int, Any]:
        body = {"rows": [[1.0]] if number % 4 == 3 else rows[number : number + 2].tolist()}
        answer = client.post(f"{address}/predict", json=body)
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(REQUESTS)))
    for number, (status, outputs) in enumerate(answers):
        if number % 4 == 3:
            assert status == 400
        else:
            assert status == 200, outputs
            want = expected[number : number + 2]
            np.testing.assert_allclose(outputs, want, rtol=1e-5, atol=1e-6)


def test_its_limits_are_the_measured_ones(exported_folder: Path, tmp_path: Path) -> None:
    """BentoML itself reads the numbers from the service."""
    import bentoml

    limits = hand_over(exported_folder, "bentoml", tmp_path / "service").limits
    service: Any = bentoml.load(str(tmp_path / "service"))
    (method,) = service.apis.values()
    assert method.batchable
    assert method.max_batch_size == limits.batch_size
    assert service.config["workers"] == limits.concurrency
    assert service.config["traffic"]["max_concurrency"] == limits.queue_rows
