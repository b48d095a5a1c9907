"""Serving with Ray Serve, over HTTP and with many clients at once."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.errors import InvalidSample
from tests.rays import ON_RAY
from tests.servers import free_port

pytestmark = [*ON_RAY, pytest.mark.needs("onnxruntime")]

CLIENTS = 16


@pytest.fixture(scope="module")
def port(cluster: Any) -> Iterator[int]:
    """Ray Serve, on a port of this machine."""
    from ray import serve

    number = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": number})
    yield number
    serve.shutdown()


def ask(port: int, path: str, body: Any) -> tuple[int, Any]:
    """Send a request, and return the status and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        text = body if isinstance(body, str) else json.dumps(body)
        connection.request("POST", path, text, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    return response.status, json.loads(answer) if response.status in (200, 400) else None


@pytest.fixture(scope="module")
def served(port: int, exported: tuple[Path, Any]) -> str:
    """The path of a deployment as the record has it."""
    from ray import serve

    from autotune.on_ray import deployment

    serve.run(deployment(exported[0]), name="served", route_prefix="/served")
    return "/served"


def test_many_clients_at_once_each_get_the_answers_to_their_own_rows(
    port: int, served: str, exported: tuple[Path, Any]
) -> None:
    """Requests of one row and of many, at once, are answered as `model.predict` answers them."""
    random = np.random.default_rng(0)
    sizes = [1, 2, 5, 1, 100, 1, 3, 64] * 8
    requests = [random.standard_normal((size, 10)).astype(np.float32) for size in sizes]

    def client(rows: Any) -> Any:
        return ask(port, served, {"instances": rows.tolist()})

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(client, requests))
    assert [status for status, _ in answers] == [200] * len(requests)
    found = [np.array(answer["predictions"], np.float32) for _, answer in answers]
    assert [len(one) for one in found] == sizes
    expected = exported[1].predict(np.concatenate(requests), verbose=0)
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "Expected JSON of the form"),
        ({"rows": [[1.0] * 10]}, "Expected JSON of the form"),
        ({"instances": []}, "no rows"),
        ({"instances": [[1.0] * 9]}, r"Input 'x' has shape (rows, 9)"),
        ({"instances": [[1.0], [1.0, 2.0]]}, "not of one shape"),
        ({"instances": [["a"] * 10]}, "Input 'x'"),
        ({"instances": [[None] * 10]}, "neither a number nor text"),
        ({"instances": [{"x": [1.0] * 10}, {"y": [1.0] * 10}]}, "must name the same inputs"),
    ],
)
def test_rows_that_do_not_fit_are_the_callers_fault(
    port: int, served: str, body: Any, message: str
) -> None:
    """What cannot be run is answered with status 400 and the reason."""
    status, answer = ask(port, served, body)
    assert status == 400
    assert message in answer["error"]


def test_the_limits_of_a_batch_are_those_of_the_record(exported: tuple[Path, Any]) -> None:
    """How many requests run and wait follows from the batch limit and the speed measured."""
    from autotune import artifact
    from autotune.on_ray.serving import deployment
    from autotune.scheduling import schedule_for

    record = artifact.read(exported[0]).record
    assert record.recommendation is not None
    schedule = schedule_for(record.recommendation, record)
    made: Any = deployment(exported[0], name="limits", num_replicas=2)
    options = made._bound_deployment
    assert options.name == "limits"
    assert options.num_replicas == 2
    assert options.max_queued_requests == schedule.max_queue_rows
    assert options.max_ongoing_requests == 2 * schedule.batch_size


def test_too_many_requests_are_turned_away_with_503(port: int, exported: tuple[Path, Any]) -> None:
    """Where the queue is full, the rest is answered at once with 503, and the others are right."""
    from ray import serve

    from autotune.on_ray import deployment

    narrow = deployment(exported[0], name="narrow", max_ongoing_requests=1, max_queued_requests=1)
    serve.run(narrow, name="narrow", route_prefix="/narrow")
    rows = np.random.default_rng(1).standard_normal((200, 10)).astype(np.float32)
    expected = exported[1].predict(rows, verbose=0)

    def client(index: int) -> Any:
        return ask(port, "/narrow", {"instances": rows[index : index + 1].tolist()})

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(client, range(len(rows))))
    assert {status for status, _ in answers} == {200, 503}
    for index, (status, answer) in enumerate(answers):
        if status == 200:
            found = np.array(answer["predictions"], np.float32)
            np.testing.assert_allclose(found, expected[index : index + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "dtype", "fits"),
    [
        ([[255, 0]], "uint8", True),
        ([[300, -1]], "uint8", False),
        ([[2**33]], "int32", False),
        ([[1.5]], "int32", False),
        ([[7]], "float32", True),
        ([[True]], "float32", False),
        ([[1.5]], "bfloat16", True),
    ],
)
def test_numbers_keep_their_value_or_are_refused(values: Any, dtype: str, fits: bool) -> None:
    """No integer wraps around, and no fraction is let through to an input of integers."""
    from autotune.on_ray.serving import _as_array

    if fits:
        assert _as_array(values, dtype).tolist() == values
    else:
        with pytest.raises(InvalidSample, match=f"wants {dtype}"):
            _as_array(values, dtype)
