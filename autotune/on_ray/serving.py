"""Serve a tuned predictor with Ray Serve: batches of the tuned size out of many requests.

A request is `{"instances": [row, ...]}` and its answer `{"predictions": [row, ...]}`, as with
TensorFlow Serving and KServe. A row is a number or a list; where the model has several inputs or
outputs, an object of these by name.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

import msgspec
import numpy as np
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from autotune import artifact
from autotune.answers import Rows, join, nest, share_out
from autotune.errors import InvalidSample, one_line
from autotune.jsonrows import keeps_value
from autotune.nesting import Nested, flatten, leaf_names
from autotune.on_ray.packing import Parcel, leave_threads_to_the_engine, pack
from autotune.on_ray.sizing import resources
from autotune.predictor import TunedPredictor
from autotune.records import TuningRecord
from autotune.schedule import Schedule
from autotune.scheduling import schedule_for

BAD_REQUEST, FAULT = 400, 500


def deployment(
    tuned: str | os.PathLike[str],
    *,
    name: str = "autotune",
    imports: Sequence[str] = (),
    unsafe: bool = False,
    **options: Any,
) -> serve.Application:
    """Make an application for `ray.serve.run` that answers with a tuned predictor.

    Requests are collected with `serve.batch`: at most the rows of the record's batch limit, and no
    longer than its longest wait, as `MicroBatcher` has them. As many batches run at once as the
    record recommends. Each replica goes by what was tuned on its own device.

    Where more requests wait than make a second of work, further ones are answered with status 503;
    rows that do not fit the model with 400.

    Args:
        tuned: A tuned folder. Machines that do not share its storage get it sent.
        name: Name of the deployment.
        imports: Modules that define the model's own classes; all machines must have them.
        unsafe: Allow Python code in the model. Only for folders you trust.
        options: Of `serve.deployment`, such as `num_replicas`, `autoscaling_config`,
            `ray_actor_options`, `max_queued_requests`, in place of those that follow from the
            record.

    Returns:
        The application.

    Raises:
        InvalidRecord: It is no tuned folder, or it is damaged.

    Example:
        ray.serve.run(autotune.on_ray.deployment("tuned/"))
    """
    records = artifact.read(tuned).records
    chosen: dict[str, Any] = {
        "ray_actor_options": resources(records),
        **_limits(records[0]),
        **options,
    }
    parcel = pack(tuned, tuple(imports), unsafe)
    made = serve.deployment(name=name, **chosen)(Replica)
    application: serve.Application = made.bind(parcel)
    return application


def _limits(record: TuningRecord) -> dict[str, int]:
    """How many requests a replica has at once, and how many wait for one, if each has one row."""
    assert record.recommendation is not None  # noqa: S101  a tuned folder has one
    schedule = schedule_for(record.recommendation, record)
    batches = record.recommendation.concurrency + 1  # one more, which fills while they run
    return {
        "max_ongoing_requests": batches * schedule.batch_size,
        "max_queued_requests": schedule.max_queue_rows,
    }


class Replica:
    """One process that answers requests.

    Args:
        parcel: The tuned folder.
    """

    def __init__(self, parcel: Parcel) -> None:
        leave_threads_to_the_engine()
        self._predictor = parcel.open(self)
        way, record = self._predictor.recommendation, self._predictor.record
        self._schedule = schedule_for(way, record)
        self._batched = _batched(self._predictor, self._schedule, way.concurrency)
        self._known: set[Hashable] = set()
        info = record.model
        self._inputs = [(each.name, each.dtype) for each in info.inputs] if info else []

    async def __call__(self, request: Request) -> Response:
        """Answer a request over HTTP."""
        try:
            rows = self._read(await request.body())
            outputs = await self.predict(rows)
        except InvalidSample as error:
            return _answer({"error": str(error)}, BAD_REQUEST)
        except Exception as error:
            return _answer({"error": one_line(error)}, FAULT)
        return _answer({"predictions": _as_lists(outputs)})

    async def predict(self, rows: Nested) -> Nested:
        """Return the outputs of rows; for other deployments, through a handle.

        Raises:
            InvalidSample: The rows do not fit the model.
        """
        parcel = Rows(rows)
        if parcel.kind not in self._known:  # what does not fit shall not share a batch
            none_of_them = nest(parcel.kind, [leaf[:0] for leaf in parcel.leaves])
            await asyncio.to_thread(self._predictor.predict, none_of_them)
            self._known.add(parcel.kind)
        if parcel.count > self._schedule.batch_size:  # it fills batches of its own
            return await asyncio.to_thread(self._predictor.predict, rows)
        outputs = await self._batched(parcel)
        if isinstance(outputs, BaseException):
            raise outputs
        return outputs

    def _read(self, body: bytes) -> Nested:
        try:
            rows = msgspec.json.decode(body, type=_Question).instances
        except msgspec.MsgspecError as error:
            raise InvalidSample(
                f'Expected JSON of the form {{"instances": [row, ...]}}, but: {error}.'
            ) from error
        if not isinstance(rows[0] if rows else None, dict):
            dtype = self._inputs[0][1] if len(self._inputs) == 1 else None
            return _as_array(rows, dtype)
        dtypes = dict(self._inputs)
        names = list(rows[0])
        if any(not isinstance(row, dict) or set(row) != set(names) for row in rows):
            raise InvalidSample(f"All rows must name the same inputs ({', '.join(names)}).")
        return {name: _as_array([row[name] for row in rows], dtypes.get(name)) for name in names}


class _Question(msgspec.Struct):
    instances: list[Any]


def _batched(
    predictor: TunedPredictor, schedule: Schedule, flights: int
) -> Callable[[Rows], Awaitable[Any]]:
    """Collect the requests of many callers; each gets his own outputs, or the error."""

    @serve.batch(  # type: ignore[untyped-decorator, unused-ignore]  # Ray's types are not read
        max_batch_size=schedule.batch_size,
        batch_wait_timeout_s=schedule.max_wait_s,
        max_concurrent_batches=flights,
        batch_size_fn=lambda requests: sum(request.count for request in requests),
    )
    async def run(requests: list[Rows]) -> list[Any]:
        return await asyncio.to_thread(_run, predictor, requests)

    batched: Callable[[Rows], Awaitable[Any]] = run
    return batched


def _run(predictor: TunedPredictor, requests: Sequence[Rows]) -> list[Any]:
    """Run requests of the same kind together; where that fails, each alone, to find the cause."""
    answers: dict[int, Any] = {}
    kinds: dict[Any, list[int]] = {}
    for index, request in enumerate(requests):
        kinds.setdefault(request.kind, []).append(index)
    for indices in kinds.values():
        together = [requests[index] for index in indices]
        answers |= zip(indices, _run_alike(predictor, together), strict=True)
    return [answers[index] for index in range(len(requests))]


def _run_alike(predictor: TunedPredictor, requests: Sequence[Rows]) -> list[Any]:
    try:
        return share_out(predictor.predict(join(requests)), requests)
    except Exception as error:
        if len(requests) == 1:
            return [error]
    middle = len(requests) // 2
    return [
        *_run_alike(predictor, requests[:middle]),
        *_run_alike(predictor, requests[middle:]),
    ]


def _as_array(values: list[Any], dtype: str | None) -> Any:
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of unequal lengths
        raise InvalidSample(f"The rows are not of one shape: {one_line(error)}") from error
    if array.dtype.kind == "O":
        raise InvalidSample("The rows hold what is neither a number nor text.")
    if dtype and dtype != "string" and array.dtype.kind in "fiub":
        wanted = np.dtype("float32" if dtype == "bfloat16" else dtype)
        if not keeps_value(array, wanted):
            raise InvalidSample(f"The model wants {wanted.name}, which some of the rows are not.")
        return array.astype(wanted)
    return array


def _as_lists(outputs: Nested) -> list[Any]:
    leaves, names = flatten(outputs)[0], leaf_names(outputs)
    columns: list[list[Any]] = [
        (leaf.astype(np.float32) if leaf.dtype.name == "bfloat16" else leaf).tolist()
        for leaf in leaves
    ]
    if names == [""]:
        return columns[0]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _answer(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
