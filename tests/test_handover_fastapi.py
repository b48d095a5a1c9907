"""The FastAPI service: run behind a real server, and held up to see what it turns away."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from autotune import Candidate, MicroBatcher, TunedPredictor, artifact
from autotune.handover import hand_over
from autotune.records import Input
from tests.batchers import behind_door, doubler, record_of, serve
from tests.tunings import MODEL, XEON, replaced

pytestmark = [
    pytest.mark.needs("onnxruntime"),
    pytest.mark.needs("tf2onnx"),
    pytest.mark.needs("fastapi"),
    pytest.mark.needs("uvicorn"),
    pytest.mark.needs("httpx"),
]
REQUESTS = 200
HOME = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(exported_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service in its folder."""
    out = tmp_path_factory.mktemp("fastapi") / "service"
    hand_over(exported_folder, "fastapi", out)
    return out


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[tuple[Any, str]]:
    """A client, and the address of the service under uvicorn."""
    from tests.servers import free_port, running

    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    with running(command, folder, f"{address}/healthz", {}) as client:
        yield client, address


def test_two_hundred_at_once_get_their_own_answers(
    served: tuple[Any, str], exported_folder: Path
) -> None:
    """Each request gets the outputs of `predict` for just its rows, and the metrics count them."""
    import httpx

    client, address = served
    rows = np.load(exported_folder.parent / "rows.npy")
    expected = np.load(exported_folder.parent / "expected.npy")
    asked = [slice(n % 50, n % 50 + 1) for n in range(REQUESTS)]

    async def ask(session: httpx.AsyncClient, part: slice) -> Any:
        answer = await session.post(f"{address}/predict", json={"rows": rows[part].tolist()})
        assert answer.status_code == 200, answer.text
        return answer.json()["outputs"]

    async def ask_all() -> list[Any]:
        limits = httpx.Limits(max_connections=REQUESTS)
        async with httpx.AsyncClient(limits=limits, timeout=60) as session:
            return await asyncio.gather(*(ask(session, part) for part in asked))

    for part, outputs in zip(asked, asyncio.run(ask_all()), strict=True):
        np.testing.assert_allclose(outputs, expected[part], rtol=1e-5, atol=1e-6)
    metrics = client.get(f"{address}/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    counted = dict(re.findall(r"^(\w+_total) (\d+)$", metrics.text, re.MULTILINE))
    assert counted["autotune_batcher_requests_total"] == str(REQUESTS)
    assert counted["autotune_batcher_answered_total"] == str(REQUESTS)
    assert int(counted["autotune_batcher_batches_total"]) < REQUESTS


def test_bad_rows_are_told_from_bad_requests(served: tuple[Any, str]) -> None:
    """What cannot be run is a 422 with the reason; the service goes on."""
    client, address = served
    for body in (b"{", b'{"rows": [[1, 2]]}', b'{"rows": [["a"]]}', b"[]"):
        answer = client.post(f"{address}/predict", content=body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["detail"]
    assert client.get(f"{address}/predict").status_code == 405
    assert client.get(f"{address}/healthz").json()["waiting_rows"] == 0


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Any]:
    """The code of a service whose tuned folder is never opened."""
    record = replaced(
        record_of(Candidate(4), call_s=0.001),
        model=replaced(MODEL, inputs=(Input("x", (3,), "float32"),)),
        machine=XEON,
    )
    artifact.write(tmp_path / "tuned", record, doubler().save)
    hand_over(tmp_path / "tuned", "fastapi", tmp_path / "service")
    spec = importlib.util.spec_from_file_location("served_app", tmp_path / "service" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    found: Any = importlib.util.module_from_spec(spec)
    sys.modules["served_app"] = found
    spec.loader.exec_module(found)
    found.RECORD = record
    yield found
    del sys.modules["served_app"]


@asynccontextmanager
async def client_of(module: Any, batcher: MicroBatcher) -> AsyncIterator[Any]:
    """A client of the service in this process, with a batcher that a test holds up."""
    import httpx

    module.app.state.batcher, module.app.state.record = batcher, module.RECORD
    transport = httpx.ASGITransport(module.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def test_a_full_queue_and_a_missed_deadline_are_told(module: Any) -> None:
    """Who finds the queue full is told when to come back; who waits too long is not run."""
    watched, batcher = serve(Candidate(4), max_queue_rows=2)
    module.DEADLINE_S = 0.05

    async def ask() -> list[Any]:
        async with client_of(module, batcher) as client:
            body = {"rows": [[1, 2, 3]] * 2}
            late = asyncio.ensure_future(client.post("/predict", json=body))
            while not batcher.figures.queue_rows:
                await asyncio.sleep(0.001)
            return [await client.post("/predict", json=body), await late]

    held = behind_door(watched, batcher)
    full, late = asyncio.run(ask())
    watched.door.set()
    assert (full.status_code, full.headers["retry-after"]) == (503, "1")
    assert "queue is full" in full.json()["detail"]
    assert late.status_code == 504
    batcher.close()
    assert all(future.done() for future in held)


def test_a_batcher_that_is_closed_and_a_model_that_fails_are_errors(module: Any) -> None:
    """At the end of the service it says 503, and an error of the model is a 500."""
    watched, batcher = serve(Candidate(4))
    watched.poison[7.0] = RuntimeError("the model fails")

    async def ask() -> list[int]:
        async with client_of(module, batcher) as client:
            failed = await client.post("/predict", json={"rows": [[7, 7, 7]]})
            batcher.close()
            closed = await client.post("/predict", json={"rows": [[1, 1, 1]]})
            return [failed.status_code, closed.status_code]

    assert asyncio.run(ask()) == [500, 503]


def test_the_service_loads_its_own_folder(module: Any) -> None:
    """From start to end: the model of the folder answers, and the batcher is closed at last."""
    import httpx

    async def run() -> Any:
        async with module.lifespan(module.app):
            transport = httpx.ASGITransport(module.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return (await client.post("/predict", json={"rows": [[1, 2, 3]]})).json()

    assert asyncio.run(run()) == {"outputs": [[2.0, 4.0, 6.0]]}
    batcher = cast(MicroBatcher, module.app.state.batcher)
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(np.ones((1, 3), np.float32))
    assert isinstance(batcher._predictor, TunedPredictor)


def test_the_container_is_small_and_not_root(folder: Path) -> None:
    """Just what the predictor imports is installed, and no service runs as root."""
    lines = (folder / "Dockerfile").read_text().splitlines()
    assert "FROM python:3.11-slim" in lines
    assert lines.index("USER server") < next(n for n, x in enumerate(lines) if x.startswith("CMD"))
    assert any("--no-deps keras-autotune==" in line for line in lines)
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    copied = [line.split()[1] for line in lines if line.startswith("COPY")]
    assert all((folder / name).exists() for name in copied)
    wanted = (folder / "requirements.txt").read_text().splitlines()
    assert wanted[0] == "-r tuned/requirements.txt"


def test_the_example_puts_load_on_the_service(
    served: tuple[Any, str], exported_folder: Path
) -> None:
    """The load script of examples/fastapi_service ends, and prints what it measured."""
    _, address = served
    script = HOME / "examples" / "fastapi_service" / "load.py"
    words = [sys.executable, script, address, exported_folder.parent / "rows.npy"]
    words += ["--requests", "100", "--callers", "16"]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "100 answered, 0 turned away, 0 too late" in done.stdout
    assert re.search(r"p50 \d+\.\d ms, p99 \d+\.\d ms", done.stdout)
