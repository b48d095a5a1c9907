"""What a process with a tuned predictor asks of a cluster: processors, GPUs, rows in a call."""

from __future__ import annotations

from collections.abc import Sequence

import ray

from autotune.dtypes import row_bytes
from autotune.records import TuningRecord

# Ray takes about a millisecond to hand a call its rows and to take its outputs: with so much work
# in a call that is one part in a hundred, and little is done again where a process was killed.
CALL_S = 0.1
CALL_BYTES = 64 * 2**20  # of inputs: more of them only wait in memory


def rows_of_a_call(records: Sequence[TuningRecord]) -> int:
    """A multiple of the batches in flight on whichever device has most, worth a tenth of a second.

    The predictor cuts them into batches of its own device's size.
    """
    ways = [record.recommendation for record in records if record.recommendation]
    way = max(ways, key=lambda each: each.batch_size * each.concurrency)
    in_flight = way.batch_size * way.concurrency
    info = records[0].model
    bytes_each = sum(row_bytes(each.shape, each.dtype) for each in info.inputs) if info else 0
    rows = min(CALL_S * way.rows_per_s, CALL_BYTES / max(1, bytes_each))
    return in_flight * max(1, int(rows / in_flight))


def resources(records: Sequence[TuningRecord]) -> dict[str, float]:
    """Say what one process is to reserve, as options of a Ray actor.

    A whole GPU where one was tuned on a GPU and the cluster has one: the figures hold for a GPU
    that nothing else uses. Else the processors that the batches in flight use.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    kinds = {record.machine.device_kind for record in records if record.machine}
    if "gpu" in kinds and any(node.get("GPU") for node in nodes):
        return {"num_gpus": 1}
    most = max((int(node.get("CPU", 0)) for node in nodes), default=1) or 1
    # One stays free: Ray Data reads and writes in tasks that take a processor each, and processes
    # that hold all of them would wait for their rows for ever.
    return {"num_cpus": min(most - 1, max(map(_processors, records)))}


def _processors(record: TuningRecord) -> int:
    way, machine = record.recommendation, record.machine
    if way is None or machine is None:
        return 1
    return machine.cpus_for(way.candidate)
