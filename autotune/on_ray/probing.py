"""A probe on another machine: the tuner here, the device there."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import ray
from ray.exceptions import GetTimeoutError, RayError

from autotune.errors import AutotuneError, ProbeFailed, one_line
from autotune.nesting import Nested
from autotune.on_ray.shipping import Shipment, ship
from autotune.outcomes import Candidate, Failure, Outcome
from autotune.probe import IsolatedProbe, error_of
from autotune.records import Loaded
from autotune.worker import Reply
from autotune.workload import Synthetic

START_TIMEOUT_S = 600.0  # a cluster that grows may take minutes to get the machine
CLOSE_TIMEOUT_S = 5.0  # then it is killed, and what was unloaded there stays


class RayProbe:
    """A probe that measures on a machine of a Ray cluster, in children of a process there.

    To be searched with where the device is elsewhere; the study, the search and its record are
    here. The model's death is an outcome, as with a child of this machine, and so is the loss of
    the process or its machine: the next probe starts another. Use it as a context manager.

    Args:
        model: As `tune` takes it; what a function makes is made there.
        sample: As `tune` takes it.
        engines: Engines to make ready; None for all that can run the model there.
        precision: Lower precision that engines may compute in; None for the model's own.
        seed: Seed for drawn rows.
        start_timeout_s: Seconds to wait for a machine with what is asked.
        ray_options: Of the process there, which choose the machine: `num_gpus`, `num_cpus`,
            `resources`, `label_selector`, `accelerator_type`, `runtime_env`. Reserve what the model
            is to have to itself.

    Attributes:
        loaded: What was told of model and machine; None before `load`.

    Raises:
        InvalidModel: The model cannot be opened, or cannot be sent.
        InvalidSample: The rows do not fit the model.

    Example:
        with on_ray.RayProbe("model.keras", rows, num_gpus=1) as probe:
            loaded = probe.load()
            record = autotune.search(
                probe,
                engines=loaded.engines,
                memory_limit_bytes=loaded.memory_limit_bytes,
                study=study,
            )
    """

    def __init__(
        self,
        model: Any,
        sample: Nested | Synthetic,
        *,
        engines: Sequence[str] | None = None,
        precision: str | None = None,
        seed: int = 0,
        start_timeout_s: float = START_TIMEOUT_S,
        **ray_options: Any,
    ) -> None:
        shipment = ship(model, sample, engines=engines, precision=precision, seed=seed)
        self._start_timeout_s = start_timeout_s
        self._options = {"num_cpus": 1, **ray_options}
        self._shipment = ray.put(shipment)
        self._bench: Any = None  # a handle of the actor
        self.loaded: Loaded | None = None

    def __enter__(self) -> RayProbe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process there, with its children, whatever they are doing."""
        bench, self._bench = self._bench, None
        if bench is None:
            return
        with contextlib.suppress(RayError):  # it is gone, or busy with what hangs
            ray.get(bench.close.remote(), timeout=CLOSE_TIMEOUT_S)
        ray.kill(bench)

    def load(self) -> Loaded:
        """Have a machine chosen, and the model loaded there, unless that is done.

        Raises:
            InvalidModel: The model cannot be opened or cut into batches.
            InvalidSample: The rows do not fit the model.
            ProbeFailed: There is no such machine, or the process died.
        """
        if self.loaded is None:
            self.loaded = self._load()
        return self.loaded

    def _load(self) -> Loaded:
        try:
            reply = _decoded(ray.get(self._started().load.remote()))
        except RayError as error:
            self.close()
            raise ProbeFailed(f"The process on Ray died: {one_line(error)}") from error
        except BaseException:
            self.close()
            raise
        if reply.loaded is None:
            self.close()
            raise error_of(reply)
        return reply.loaded

    def _started(self) -> Any:
        if self._bench is None:
            # It would come back without its model, and a probe that is repeated unseen takes time
            # that nobody counts.
            actor = ray.remote(Bench).options(max_restarts=0, max_task_retries=0, **self._options)
            self._bench = actor.remote(self._shipment)
            try:
                ray.get(self._bench.is_there.remote(), timeout=self._start_timeout_s)
            except GetTimeoutError as error:
                self.close()
                asked = ", ".join(f"{name}={value!r}" for name, value in self._options.items())
                raise ProbeFailed(
                    f"No machine of the cluster was free for {asked} within "
                    f"{self._start_timeout_s:g} s. `ray status` shows what there is."
                ) from error
        return self._bench

    def __call__(self, candidate: Candidate, seconds: float) -> Outcome:
        """Measure a candidate there; the death of a process is an outcome."""
        began = time.perf_counter()
        try:
            bench = self._started()
            reply = _decoded(ray.get(bench.probe.remote(msgspec.json.encode(candidate), seconds)))
        except (RayError, ProbeFailed) as error:
            self.close()
            elapsed_s = time.perf_counter() - began
            message = f"The process on Ray died: {one_line(error)}"
            return Failure(candidate, kind="crash", elapsed_s=elapsed_s, message=message)
        except BaseException:  # Ctrl-C: nothing must go on there
            self.close()
            raise
        if reply.outcome is None:
            raise error_of(reply)
        return reply.outcome


class Bench:
    """The process there: it starts the children, and passes on what they say, as JSON.

    Args:
        shipment: The model and its sample.
    """

    def __init__(self, shipment: Shipment) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="autotune-")
        folder = Path(self._place.name)
        request = shipment.unload(folder)
        self._probe = IsolatedProbe(request, scratch=(str(folder),))

    def is_there(self) -> bool:
        """Answer: the process has its machine."""
        return True

    def load(self) -> bytes:
        """Load the model, and tell of it and the machine."""
        try:
            return msgspec.json.encode(Reply(id=0, loaded=self._probe.load()))
        except AutotuneError as error:
            return _refusal(error)

    def probe(self, candidate: bytes, seconds: float) -> bytes:
        """Measure a candidate."""
        try:
            wanted = msgspec.json.decode(candidate, type=Candidate)
            return msgspec.json.encode(Reply(id=0, outcome=self._probe(wanted, seconds)))
        except AutotuneError as error:
            return _refusal(error)

    def close(self) -> None:
        """End the children, and remove what was unloaded."""
        self._probe.close()
        self._place.cleanup()


def _refusal(error: AutotuneError) -> bytes:
    return msgspec.json.encode(Reply(id=0, error=str(error), error_type=type(error).__name__))


def _decoded(data: bytes) -> Reply:
    return msgspec.json.decode(data, type=Reply)
