"""Score a dataset: a pool of actors on Ray Data, each with the tuned predictor of its device."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray
import ray.data

from autotune import artifact
from autotune.errors import InvalidInput
from autotune.nesting import join
from autotune.on_ray.missing import Missing, Tunings
from autotune.on_ray.packing import Parcel, leave_threads_to_the_engine, pack
from autotune.on_ray.sizing import resources, rows_of_a_call
from autotune.on_ray.tables import Arrangement, Columns, arrange, in_pieces
from autotune.predictor import TunedPredictor
from autotune.workload import Spec

ROUNDS = 8  # of batches in flight: what is left over at their end is little beside them
CALLS = 2  # of a process at once: one has rows fetched or outputs stored while the other predicts


def score(
    dataset: ray.data.Dataset,
    tuned: str | os.PathLike[str],
    *,
    columns: Columns | None = None,
    output: str = "prediction",
    keep: Sequence[str] | None = None,
    concurrency: int | tuple[int, int] = 1,
    imports: Sequence[str] = (),
    unsafe: bool = False,
    tune_missing: float | None = None,
    **ray_options: Any,
) -> ray.data.Dataset:
    """Append a tuned model's predictions to a dataset; nothing runs before its rows are wanted.

    Each row comes out once, also where processes or machines are lost on the way: Ray starts them
    again and runs again what they had begun.

    Args:
        dataset: Rows, with columns of numbers, text, lists or tensors.
        tuned: A tuned folder. Machines that do not share its storage get it sent.
        columns: The column or columns that become each input of the model, by its name; None for
            the columns of these names, else all that are not in `keep` as the values of the only
            input.
        output: Name of the new column; several outputs are `output.name` each. A row of shape
            `()` is a number, of any other a tensor, as `model.predict` gives it; several texts
            are a list.
        keep: Columns that stay beside the predictions; None for all. To leave out what is large
            saves Ray from moving it.
        concurrency: Processes that score at once, or the fewest and the most of them.
        imports: Modules that define the model's own classes; all machines must have them.
        unsafe: Allow Python code in the model. Only for folders you trust.
        tune_missing: Where a device is none that the folder was tuned on: tune there once, for so
            many seconds, on rows of the dataset; None to do as on the device most like it.
        ray_options: Of `Dataset.map_batches`, such as `num_gpus`, `num_cpus`, `batch_size`,
            `memory`, `label_selector`, `runtime_env`, in place of those that follow from the
            record; `max_concurrency` is how many calls an actor has at once, of which one predicts.

    Returns:
        The dataset with the predictions.

    Raises:
        InvalidRecord: It is no tuned folder, or it is damaged.
        InvalidInput: An argument cannot be used.

    Example:
        One that runs stands in examples/ray/score.py.
    """
    records = artifact.read(tuned).records
    info = records[0].model
    inputs = [Spec(each.name, each.shape, each.dtype) for each in info.inputs] if info else []
    arrangement = arrange(inputs, columns, output, keep)
    options: dict[str, Any] = {"batch_size": rows_of_a_call(records), **ray_options}
    compute = _pool(concurrency, options.pop("max_concurrency", CALLS))
    missing = _missing(tune_missing)
    if not {"num_cpus", "num_gpus"} & set(options):
        options |= resources(records)
    return dataset.map_batches(
        Scorer,
        fn_constructor_args=(pack(tuned, tuple(imports), unsafe), arrangement, missing),
        batch_format="pyarrow",  # what is kept stays as it is: NumPy has no empty cells
        compute=compute,
        udf_modifying_row_count=False,
        **options,
    )


def _pool(concurrency: int | tuple[int, int], calls: int) -> ray.data.ActorPoolStrategy:
    sizes = concurrency if isinstance(concurrency, tuple) else (concurrency, concurrency)
    if len(sizes) != 2 or not all(map(_is_count, sizes)) or not sizes[0] <= sizes[1]:
        raise InvalidInput(
            f"concurrency must be a whole number of at least 1, or two of them, the fewest and the "
            f"most, but got {concurrency!r}."
        )
    if not _is_count(calls):
        raise InvalidInput(
            f"max_concurrency must be a whole number of at least 1, but got {calls!r}."
        )
    return ray.data.ActorPoolStrategy(
        min_size=sizes[0],
        max_size=sizes[1],
        max_concurrent_calls_per_actor=calls,
        enable_true_multi_threading=True,  # `Scorer` sees to it that one predicts at a time
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _missing(budget_s: float | None) -> Missing | None:
    if budget_s is None:
        return None
    if not 0 < budget_s < float("inf"):
        raise InvalidInput(
            f"tune_missing must be a positive number of seconds, but got {budget_s!r}."
        )
    tunings = ray.remote(Tunings).options(num_cpus=0).remote(budget_s)
    return Missing(budget_s, tunings)


class Scorer:
    """What runs in each process of the pool: Arrow tables in, with predictions out.

    Args:
        parcel: The tuned folder.
        arrangement: Which columns are what.
        missing: What to do on a device that the folder does not know.
    """

    def __init__(self, parcel: Parcel, arrangement: Arrangement, missing: Missing | None) -> None:
        leave_threads_to_the_engine()
        self._parcel = parcel
        self._arrangement = arrangement
        self._missing = missing
        self._turn = threading.Lock()  # several calls would take the memory of several predictors
        self._predictor: TunedPredictor | None = None
        if missing is None:  # else it may need rows
            self._predictor = parcel.open(self)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return a table with the predictions of its rows."""
        inputs = [self._arrangement.to_inputs(piece) for piece in in_pieces(table, self._least)]
        with self._turn:
            if self._predictor is None:
                assert self._missing is not None  # noqa: S101  else it was opened at once
                self._predictor = self._missing.open(self._parcel, inputs[0], self)
            outputs = [self._predictor.predict(rows) for rows in inputs]
        joined = outputs[0] if len(outputs) == 1 else join(outputs, len(table))
        return self._arrangement.with_outputs(table, joined)

    @property
    def _least(self) -> float:
        """Rows that are worth a call of the predictor of their own."""
        if self._predictor is None:  # it may be tuned on all there are
            return math.inf
        way = self._predictor.recommendation
        return ROUNDS * way.batch_size * way.concurrency
