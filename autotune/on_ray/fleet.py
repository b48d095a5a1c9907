"""Tune a fleet: one recommendation for each kind of device in a cluster, into one tuned folder."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import ray
from ray.exceptions import RayError, RayTaskError

from autotune import artifact
from autotune.errors import AutotuneError, NoFeasibleBatchSize, ProbeFailed, one_line
from autotune.goal import MOST_ROWS_PER_SECOND, Goal
from autotune.models import ModelFile
from autotune.nesting import Nested
from autotune.on_ray.kinds import Kind
from autotune.on_ray.machines import Group, groups_of_cluster, task_on
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
    groups = groups_of_cluster()
    _log.info("Tuning on %d kinds of devices: %s", len(groups), "; ".join(map(str, groups)))
    wish = _Wish(goal, engines, concurrency, budget_s, precision, seed, storage, study)
    results = _tune_each(ray.put(shipment), wish, groups)
    return tuple(_gather(folder, groups, results, shipment.request.name))


def _tune_each(
    shipment: ray.ObjectRef[Shipment], wish: _Wish, groups: Sequence[Group]
) -> list[Contents | AutotuneError]:
    """Tune on a machine of each kind at the same time; where it is lost, on the next one.

    Whatever ends this early, such as Ctrl-C, ends what runs on the machines too.
    """
    found: dict[int, Contents | AutotuneError] = {}
    running: dict[ray.ObjectRef[Contents], int] = {}

    def start(place: int) -> None:
        node, kind = groups[place].nodes[0], groups[place].kind
        task = task_on(node, _tune, num_cpus=node["Resources"]["CPU"])
        running[task.remote(shipment, wish, kind)] = place

    try:
        for place in range(len(groups)):
            start(place)
        while running:
            (task, *_), _ = ray.wait(list(running))
            place = running.pop(task)
            result = _result_of(task, groups[place])
            if result is None:
                start(place)
            else:
                found[place] = result
    finally:
        for task in running:
            with contextlib.suppress(Exception):  # Ray is gone, say: not the error that counts
                ray.cancel(task)
    return [found[place] for place in range(len(groups))]


def _result_of(task: ray.ObjectRef[Contents], group: Group) -> Contents | AutotuneError | None:
    """What came of a tuning; None where its machine was lost, and there is another of its kind.

    The lost one leaves the group.
    """
    try:
        found: Contents = ray.get(task)
    except RayTaskError as error:
        if isinstance(error.cause, AutotuneError):
            return error.cause
        return ProbeFailed(f"Tuning on {group.kind} failed: {one_line(error.cause or error)}")
    except RayError as error:
        node, lost = group.nodes.pop(0), one_line(error)
        _log.warning("Machine %s was lost while it tuned: %s", node["NodeName"], lost)
        if group.nodes:
            return None
        return ProbeFailed(f"All machines of the kind {group.kind} were lost: {lost}")
    return found


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
    groups: Sequence[Group],
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
