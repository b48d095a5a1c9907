"""Tune a fleet: one recommendation for each kind of device in a cluster, into one tuned folder."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autotune import artifact, fingerprint
from autotune.errors import AutotuneError, NoFeasibleBatchSize, ProbeFailed, one_line
from autotune.goal import MOST_ROWS_PER_SECOND, Goal
from autotune.models import ModelFile
from autotune.nesting import Nested
from autotune.on_ray.kinds import Kind, kind_of
from autotune.on_ray.packing import Contents, contents_of, put_files
from autotune.on_ray.shipping import Shipment, ship
from autotune.preparation import Precision
from autotune.records import TuningRecord
from autotune.studies import open_study
from autotune.tuning import tune
from autotune.worker import FileSource, SavedRows
from autotune.workload import Synthetic, Table, Workload

if TYPE_CHECKING:
    import optuna

_log = logging.getLogger("autotune")

Node = dict[str, Any]  # as `ray.nodes` tells of it


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the caller of `tune_fleet` wants on each kind of device."""

    goal: Goal
    engines: Sequence[str] | None
    concurrency: Sequence[int] | None
    budget_s: float
    precision: Precision | None
    seed: int
    storage: str | None
    study: str


@dataclass(slots=True)
class _Group:
    """Machines of one kind."""

    kind: Kind
    nodes: list[Node] = field(default_factory=list)


def tune_fleet(
    model: Any,
    sample: Nested | Synthetic,
    goal: Goal = MOST_ROWS_PER_SECOND,
    *,
    out: str | os.PathLike[str],
    engines: Sequence[str] | None = None,
    concurrency: Sequence[int] | None = None,
    budget_s: float = 60.0,
    precision: Precision | None = None,
    seed: int = 0,
    storage: str | None = None,
    study: str = "autotune",
) -> tuple[TuningRecord, ...]:
    """Tune a model on each kind of device that a cluster has now, at the same time.

    One machine of each kind is tuned on, reserved whole meanwhile; where it is lost, another of its
    kind takes over. `autotune.load` takes from the folder what was tuned on the device it is on.

    Args:
        model: As `tune` takes it. What a function makes is made here, once for all.
        sample: As `tune` takes it.
        goal: What to maximise, and under which limits.
        out: The tuned folder. What it holds of the same model, tuned on other devices, is kept.
        engines: Engines to try; None for all that can run the model on a device.
        concurrency: Numbers of batches in flight to try; None for what suits a device's processors.
        budget_s: Seconds for probing on each kind of device.
        precision: "bfloat16" lets engines that can compute in it.
        seed: Seed of the searches.
        storage: URL of a database that all machines reach, such as a PostgreSQL server, to go on
            from where a fleet's tuning was stopped; each kind has a study of its own in it.
        study: First part of the studies' names.

    Returns:
        The records, one for each kind of device.

    Raises:
        InvalidModel: The model cannot be opened, cut into batches, or sent.
        InvalidSample: The rows do not fit the model.
        InvalidInput: `out` holds something else.
        NoFeasibleBatchSize: No candidate is within the limits on any device.
        ProbeFailed: All machines of all kinds were lost.
    """
    folder = Path(out)
    artifact.check_target(folder)
    shipment = ship(model, sample, engines=engines, seed=seed, made_here=True)
    groups = _groups()
    _log.info("Tuning on %d kinds of devices: %s", len(groups), "; ".join(_names(groups)))
    wish = _Wish(goal, engines, concurrency, budget_s, precision, seed, storage, study)
    sent = ray.put(shipment)
    with ThreadPoolExecutor(len(groups)) as pool:
        results = list(pool.map(functools.partial(_tune_one_of, sent, wish), groups))
    return tuple(_gather(folder, groups, results, shipment.request.name))


def _names(groups: Sequence[_Group]) -> list[str]:
    return [f"{group.kind} ({len(group.nodes)} machines)" for group in groups]


def _groups() -> list[_Group]:
    """Look at each machine of the cluster, and put those together that share a tuning."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    looks = [_on(node, _look, num_cpus=0).remote() for node in nodes]
    groups: list[_Group] = []
    for node, look in zip(nodes, looks, strict=True):
        try:
            kind = ray.get(look)
        except RayError as error:
            _log.warning("Left out: machine %s: %s", node["NodeName"], one_line(error))
            continue
        if kind is None:
            _log.warning("Left out: machine %s, which cannot be described.", node["NodeName"])
            continue
        group = next((each for each in groups if each.kind.is_like(kind)), None)
        if group is None:
            group = _Group(kind)
            groups.append(group)
        group.nodes.append(node)
    if not groups:
        raise ProbeFailed("No machine of the cluster can be tuned on: none could be described.")
    return groups


def _on(node: Node, function: Any, num_cpus: float) -> Any:
    """A task on just that machine, with its GPU if it has one, in a process for nothing else."""
    options: dict[str, Any] = {
        "num_cpus": num_cpus,
        "num_gpus": 1 if node["Resources"].get("GPU") else 0,
        "max_calls": 1,
        "max_retries": 1,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
    }
    return ray.remote(**options)(function)


def _look() -> Kind | None:
    return kind_of(fingerprint.look_around())


def _tune_one_of(
    shipment: ray.ObjectRef[Shipment], wish: _Wish, group: _Group
) -> Contents | AutotuneError:
    """Tune on the first machine of a kind that is not lost meanwhile."""
    lost = ""
    for node in group.nodes:
        try:
            task = _on(node, _tune, num_cpus=node["Resources"]["CPU"])
            found: Contents = ray.get(task.remote(shipment, wish, group.kind))
        except RayTaskError as error:
            if isinstance(error.cause, AutotuneError):
                return error.cause
            return ProbeFailed(f"Tuning on {group.kind} failed: {one_line(error.cause or error)}")
        except RayError as error:
            lost = one_line(error)
            _log.warning("Machine %s was lost while it tuned: %s", node["NodeName"], lost)
        else:
            return found
    return ProbeFailed(f"All machines of the kind {group.kind} were lost: {lost}")


def _tune(shipment: Shipment, wish: _Wish, kind: Kind) -> Contents:
    """Tune on this machine, and return the tuned folder."""
    with tempfile.TemporaryDirectory(prefix="autotune-") as place:
        arrived, tuned = Path(place) / "arrived", Path(place) / "tuned"
        arrived.mkdir()
        load = shipment.unload(arrived)
        assert isinstance(load.model, FileSource)  # noqa: S101  the tuner made it so
        source = load.model
        model = ModelFile(source.path, source.imports, source.unsafe, source.jit_compile)
        with _study(wish, kind) as study:
            predictor = tune(
                model,
                _rows(load.sample),
                wish.goal,
                engines=wish.engines,
                concurrency=wish.concurrency,
                budget_s=wish.budget_s,
                precision=wish.precision,
                seed=wish.seed,
                study=study,
            )
        predictor.save(tuned)
        return contents_of(tuned)


def _rows(sample: Any) -> Nested | Synthetic:
    if not isinstance(sample, SavedRows):
        return Synthetic(sample.rows, sample.shapes)
    rows = Workload.open_saved(Path(sample.folder))
    taken = rows.take(rows.rows)
    return Table(taken) if rows.is_table else taken


def _study(wish: _Wish, kind: Kind) -> contextlib.AbstractContextManager[optuna.Study | None]:
    if wish.storage is None:
        return contextlib.nullcontext()
    return open_study(wish.storage, f"{wish.study}: {kind}")


def _gather(
    folder: Path,
    groups: Sequence[_Group],
    results: Sequence[Contents | AutotuneError],
    source: str,
) -> Iterator[TuningRecord]:
    """Put what was tuned into one folder; what failed is told, and an error if all did."""
    errors = [result for result in results if isinstance(result, AutotuneError)]
    if len(errors) == len(results):
        raise next((e for e in errors if isinstance(e, NoFeasibleBatchSize)), errors[0])
    for group, result in zip(groups, results, strict=True):
        if isinstance(result, AutotuneError):
            _log.warning("Not tuned for %s: %s", group.kind, result)
            continue
        with tempfile.TemporaryDirectory(prefix="autotune-") as place:
            put_files(result, Path(place))
            tuned = artifact.read(place)
            copy_model = functools.partial(shutil.copyfile, tuned.model)
            record = _from(source, tuned.record)
            artifact.write(folder, record, copy_model, tuned.folder)
            yield record


def _from(source: str, record: TuningRecord) -> TuningRecord:
    """Have the record name the model that the caller gave, not the copy that was sent."""
    model = record.model and msgspec.structs.replace(record.model, source=source)
    return msgspec.structs.replace(record, model=model)
