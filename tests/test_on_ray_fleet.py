"""Tuning on each kind of device of a cluster: here one machine stands for two.

The second Ray node may use one processor only, by its affinity, which is another machine by the
rule that `autotune.load` goes by.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autotune
from autotune import artifact
from autotune.errors import InvalidInput, NoFeasibleBatchSize
from tests.rays import ON_RAY, workers
from tests.waiting import wait_until

pytestmark = ON_RAY


@pytest.fixture
def lesser_machine(cluster: Any) -> Iterator[None]:
    """One more machine in the cluster, with a single processor."""
    mine = os.sched_getaffinity(0)
    if len(mine) < 2:
        give_up = pytest.fail if os.environ.get("NO_SKIPS") else pytest.skip
        give_up("needs two processors, one of which stands for another machine")
    os.sched_setaffinity(0, {min(mine)})  # what is started now inherits it
    try:
        node = cluster.add_node(num_cpus=1)
    finally:
        os.sched_setaffinity(0, mine)
    yield
    cluster.remove_node(node)


@pytest.mark.needs("onnxruntime")
@pytest.mark.usefixtures("lesser_machine")
def test_each_kind_of_machine_gets_its_own_recommendation(
    exported: tuple[Path, Any], rows: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    """One folder holds a record of each kind, and `load` takes that of the machine it is on."""
    from autotune.on_ray import tune_fleet

    path, out = str(exported[0] / "model.keras"), tmp_path / "tuned"
    goal = autotune.Goal(max_batch_size=16)
    records = tune_fleet(
        path, rows, goal, out=out, engines=["keras"], concurrency=[1], budget_s=0.5
    )
    everything = len(os.sched_getaffinity(0))
    assert {r.machine.cpu_count for r in records if r.machine} == {1, everything}
    assert {r.model.source for r in records if r.model} == {path}
    tuned = artifact.read(out)
    assert len(tuned.records) == 2
    predictor = autotune.load(out)
    assert predictor.record.machine is not None
    assert predictor.record.machine.cpu_count == everything
    np.testing.assert_allclose(
        predictor.predict(rows), exported[1].predict(rows, verbose=0), rtol=1e-5, atol=1e-6
    )


@pytest.mark.usefixtures("cluster")
@pytest.mark.needs("onnxruntime")
def test_where_nothing_fits_anywhere_that_is_said(
    exported: tuple[Path, Any], rows: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    """A goal that no device meets is the error that `tune` raises, and no folder is written."""
    from autotune.on_ray import tune_fleet

    path, goal = str(exported[0] / "model.keras"), autotune.Goal(memory_budget_bytes=2**20)
    with pytest.raises(NoFeasibleBatchSize, match="No batch size fits"):
        tune_fleet(path, rows, goal, out=tmp_path / "tuned", engines=["keras"], budget_s=0.5)
    assert not (tmp_path / "tuned").exists()


@pytest.mark.usefixtures("cluster")
@pytest.mark.needs("onnxruntime")
def test_ctrl_c_ends_what_runs_on_the_machines(
    exported: tuple[Path, Any], rows: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    """It is not waited for the end of the tunings, and they do not go on for nobody."""
    from autotune.on_ray import tune_fleet

    def press_when_begun() -> None:
        wait_until(lambda: workers("_tune"))
        os.kill(os.getpid(), signal.SIGINT)

    path, pressing = str(exported[0] / "model.keras"), threading.Thread(target=press_when_begun)
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        tune_fleet(path, rows, out=tmp_path / "tuned", engines=["keras"], budget_s=3_600)
    pressing.join()
    wait_until(lambda: not workers("_tune"))
    assert not (tmp_path / "tuned").exists()


@pytest.mark.usefixtures("cluster")
def test_a_folder_that_holds_something_else_is_refused_at_once(
    rows: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    """Nothing is run where its result could not be written."""
    from autotune.on_ray import tune_fleet

    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(InvalidInput, match="holds something else"):
        tune_fleet("model.keras", rows, out=tmp_path)
