"""Scoring on Ray Data, with actors that are killed meanwhile."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from autotune import TunedPredictor, artifact, fingerprint
from autotune.errors import InvalidInput, InvalidRecord
from tests.rays import ON_RAY, workers
from tests.tunings import L4, tuned_on
from tests.waiting import wait_until

pytestmark = [
    *ON_RAY,
    pytest.mark.needs("onnxruntime"),
    pytest.mark.usefixtures("cluster"),
]

ROWS = 4_000


def features_of(ids: Any) -> Any:
    """Ten numbers for each row id, the same whenever they are asked for."""
    return np.sin(ids[:, None] * np.arange(1, 11)).astype(np.float32)


def make_rows(table: Any, pause_s: float = 0.0) -> Any:
    """Rows of a dataset by their ids, at leisure."""
    from ray.data.extensions import ArrowTensorArray

    time.sleep(pause_s)
    features = features_of(table["id"].to_numpy())
    return table.append_column("x", ArrowTensorArray.from_numpy(features))


def numbered(blocks: int, pause_s: float = 0.0) -> Any:
    """A dataset of row ids and features."""
    import ray

    ids = ray.data.range(ROWS, override_num_blocks=blocks)
    return ids.map_batches(
        make_rows, fn_kwargs={"pause_s": pause_s}, batch_size=None, batch_format="pyarrow"
    )


def check(scored: Any, model: Any, kill_after: Sequence[int] = ()) -> set[str]:
    """Each row came out once, with the model's own answer; returns the names of the columns.

    Args:
        scored: The dataset.
        model: The model.
        kill_after: After which of the blocks that come out the actor is killed.
    """
    found: dict[str, list[Any]] = {}
    for index, batch in enumerate(scored.iter_batches(batch_size=None)):
        for name, values in batch.items():
            found.setdefault(name, []).append(values)
        if index in kill_after:
            os.kill(wait_until(lambda: workers("MapWorker"))[0], signal.SIGKILL)
    ids, predictions = (np.concatenate(found[name]) for name in ("id", "prediction"))
    np.testing.assert_array_equal(np.sort(ids), np.arange(ROWS))
    expected = model.predict(features_of(np.arange(ROWS)), verbose=0)
    np.testing.assert_allclose(predictions, expected[ids], rtol=1e-4, atol=1e-5)
    return set(found)


def test_each_row_has_its_own_prediction(exported: tuple[Path, Any]) -> None:
    """All columns stay, and beside each row stands what `model.predict` says of it."""
    from autotune import on_ray

    folder, model = exported
    scored = on_ray.score(numbered(blocks=4), folder)
    assert check(scored, model) == {"id", "x", "prediction"}


def test_calls_of_an_actor_predict_one_at_a_time(
    exported: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes the memory of the tuned batches in flight; and each has its own answer."""
    from autotune.on_ray import scoring
    from autotune.on_ray.packing import pack
    from autotune.on_ray.tables import arrange

    folder, model = exported
    predict, inside, most = TunedPredictor.predict, 0, 0

    def watched(predictor: TunedPredictor, x: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.02)
        outputs = predict(predictor, x)
        inside -= 1
        return outputs

    monkeypatch.setattr(TunedPredictor, "predict", watched)
    monkeypatch.setattr(scoring, "leave_threads_to_the_engine", lambda: None)  # this is no actor
    scorer = scoring.Scorer(pack(folder), arrange([], None, "prediction", ["id"]), None)
    parts = np.split(np.arange(40), 4)
    tables = [make_rows(pa.table({"id": part})) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        scored = list(pool.map(scorer, tables))
    assert most == 1
    for part, table in zip(parts, scored, strict=True):
        found = table["prediction"].combine_chunks().to_numpy_ndarray()
        expected = model.predict(features_of(part), verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_blocks_of_one_call_are_predicted_by_themselves(
    exported: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each is large enough; where one is not, all are predicted together. Rows keep order."""
    from autotune.on_ray import scoring
    from autotune.on_ray.packing import pack
    from autotune.on_ray.tables import arrange

    folder, model = exported
    predict, sizes = TunedPredictor.predict, list[int]()

    def watched(predictor: TunedPredictor, x: Any) -> Any:
        outputs = predict(predictor, x)
        sizes.append(len(outputs))
        return outputs

    monkeypatch.setattr(TunedPredictor, "predict", watched)
    monkeypatch.setattr(scoring, "leave_threads_to_the_engine", lambda: None)  # this is no actor
    scorer = scoring.Scorer(pack(folder), arrange([], None, "prediction", ["id"]), None)
    way = artifact.read(folder).record.recommendation
    assert way is not None
    enough = scoring.ROUNDS * way.batch_size * way.concurrency
    for counts, called in (
        ((enough, enough + 1), [enough, enough + 1]),
        ((enough, 1), [enough + 1]),
    ):
        ids = np.arange(sum(counts))
        parts = np.split(ids, [counts[0]])
        found = scorer(pa.concat_tables([make_rows(pa.table({"id": part})) for part in parts]))
        assert sizes == called
        np.testing.assert_array_equal(found["id"], ids)
        np.testing.assert_allclose(
            found["prediction"].combine_chunks().to_numpy_ndarray(),
            model.predict(features_of(ids), verbose=0),
            rtol=1e-4,
            atol=1e-5,
        )
        sizes.clear()


def test_killed_actors_lose_no_row_and_double_none(exported: tuple[Path, Any]) -> None:
    """Whenever an actor is killed, Ray starts another, and each row comes out just once."""
    from autotune import on_ray

    folder, model = exported
    slow = numbered(blocks=40, pause_s=0.1)
    scored = on_ray.score(slow, folder, keep=["id"], batch_size=50)
    assert check(scored, model, kill_after=(1, 5, 10)) == {"id", "prediction"}


def test_a_machine_of_another_kind_is_tuned_for_once(
    exported: tuple[Path, Any], tmp_path: Path
) -> None:
    """Where no record is of this device, one actor tunes, and the others use what it found."""
    import ray

    from autotune.on_ray.kinds import kind_of
    from autotune.on_ray.missing import Missing, Tunings
    from autotune.on_ray.packing import pack, put_files
    from autotune.on_ray.scoring import Scorer
    from autotune.on_ray.tables import arrange
    from autotune.workload import Spec

    folder, model = exported
    record = artifact.read(folder).record
    assert record.machine is not None
    foreign = msgspec.structs.replace(record.machine, device="Abacus")
    other = msgspec.structs.replace(record, machine=foreign)
    copy_model = functools.partial(shutil.copyfile, folder / "model.keras")
    artifact.write(tmp_path / "other", other, copy_model, folder)
    tunings: Any = ray.remote(Tunings).options(num_cpus=0).remote(0.5)
    arrangement = arrange([Spec("x", (10,), "float32")], None, "prediction", ["id"])
    scored = numbered(blocks=4).map_batches(
        Scorer,
        fn_constructor_args=(pack(tmp_path / "other"), arrangement, Missing(0.5, tunings)),
        batch_format="pyarrow",
        batch_size=500,
        num_cpus=0.5,
        compute=ray.data.ActorPoolStrategy(size=2),
    )
    check(scored, model)
    kind = kind_of(fingerprint.look_around(backend=""), "tensorflow")
    contents: Any = ray.get(tunings.ask.remote(kind, "the test"))
    put_files(contents, tmp_path / "found")
    found = artifact.read(tmp_path / "found").record
    assert found.machine is not None
    assert found.machine.device == record.machine.device
    assert found.created != record.created


def test_who_tunes_is_asked_once_unless_it_is_lost() -> None:
    """The first of a kind tunes, others wait; the first again does if it was killed meanwhile."""
    from autotune.on_ray.kinds import Kind
    from autotune.on_ray.missing import Tunings

    tunings, kind = Tunings(1.0), Kind(L4, "tensorflow")
    assert tunings.ask(kind, "first") is True
    assert tunings.ask(kind, "second") is False
    assert tunings.ask(Kind(L4, "jax"), "second") is True
    assert tunings.ask(kind, "first") is True
    tunings.tell(kind, {"manifest.json": b"{}"})
    assert tunings.ask(kind, "second") == {"manifest.json": b"{}"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be a whole number of at least 1"),
        ({"max_concurrency": 0}, "max_concurrency must be a whole number of at least 1"),
        ({"concurrency": (3, 2)}, r"the fewest and the most, but got \(3, 2\)"),
        ({"tune_missing": 0}, "tune_missing must be a positive number of seconds, but got 0"),
        ({"columns": {"z": "x"}}, r"for each input of the model \(x\)"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_before_any_work(
    exported: tuple[Path, Any], options: Any, message: str
) -> None:
    """What is wrong with an argument is told here, not by an actor."""
    from autotune import on_ray

    with pytest.raises(InvalidInput, match=message):
        on_ray.score(numbered(blocks=1), exported[0], **options)


def test_what_is_no_tuned_folder_is_refused(tmp_path: Path) -> None:
    """Another folder is refused in this process."""
    from autotune import on_ray

    with pytest.raises(InvalidRecord, match="not a tuned folder"):
        on_ray.score(numbered(blocks=1), tmp_path)


def test_a_call_holds_whole_batches_of_all_flights() -> None:
    """Rows of a call are a multiple of those in flight, about a tenth of a second of work."""
    from autotune.on_ray.sizing import rows_of_a_call
    from autotune.outcomes import Candidate
    from tests.tunings import recommending

    slow = recommending(tuned_on(L4), Candidate(8, concurrency=2))
    assert slow.recommendation is not None
    fast = msgspec.structs.replace(
        slow, recommendation=msgspec.structs.replace(slow.recommendation, rows_per_s=10_000.0)
    )
    assert rows_of_a_call([slow]) == 16
    assert rows_of_a_call([fast]) == 992


def test_processors_are_left_for_reading() -> None:
    """A process reserves what its batches use, but never the last processor of a machine."""
    from autotune.on_ray.sizing import resources
    from autotune.outcomes import Candidate
    from tests.tunings import XEON, recommending

    record = tuned_on(XEON)
    assert resources([record]) == {"num_cpus": 1}
    assert resources([recommending(record, Candidate(8, concurrency=2, threads=1))]) == {
        "num_cpus": 1
    }
    assert resources([tuned_on(L4)]) == {"num_cpus": 1}  # there is no GPU in the cluster


def test_the_example_runs() -> None:
    """examples/ray/score.py tunes, scores and tells how many rows it scored."""
    example = Path(__file__).parents[1] / "examples/ray/score.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "20000 rows, each with its prediction" in done.stdout
