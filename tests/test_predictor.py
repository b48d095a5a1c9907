"""The tuned predictor: the same answers as `model.predict`, for any number of rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optree
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import autotune
from autotune import Candidate, Goal, InvalidRecord, InvalidSample, Measurement, TunedPredictor
from autotune.recommend import recommend
from autotune.records import TuningRecord
from tests.batchers import doubler, numbered, record_of, timed
from tests.blocks import standing_of

RTOL = 1e-5


def predictor_of(model: Any, candidate: Candidate) -> TunedPredictor:
    """A predictor that follows a given candidate."""
    measurement = Measurement(candidate, (0.001,) * 5)
    record = TuningRecord(
        goal=Goal(),
        outcomes=(measurement,),
        recommendation=recommend(standing_of([[measurement]])),
    )
    return TunedPredictor(record, lambda: model, model.save)


def assert_same(got: Any, expected: Any) -> None:
    """Equal nesting, shapes, dtypes, and values within float tolerance."""
    assert optree.tree_structure(got) == optree.tree_structure(expected)
    for a, b in zip(optree.tree_leaves(got), optree.tree_leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=RTOL, atol=1e-6)


CANDIDATES = [
    Candidate(16, "keras"),
    Candidate(16, "compiled"),
    Candidate(16, "keras", concurrency=3),
    Candidate(16, "compiled", concurrency=2),
]


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 47, 50])
def test_answers_equal_those_of_model_predict(
    mlp: Any, rows: Any, candidate: Candidate, count: int
) -> None:
    """Whatever the number of rows, each row has the answer that `model.predict` gives it."""
    predictor = predictor_of(mlp, candidate)
    assert_same(predictor.predict(rows[:count]), mlp.predict(rows[:count], verbose=0))


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
@pytest.mark.parametrize("count", [0, 1, 16, 50])
def test_batches_run_in_turn_on_the_callers_thread(
    mlp: Any, rows: Any, candidate: Candidate, count: int
) -> None:
    """The answers are the same, and no thread is started for them."""
    predictor = predictor_of(mlp, candidate)
    predictor.open()
    before = threading.active_count()
    got = predictor.predict_in_turn(rows[:count])
    assert threading.active_count() == before
    assert_same(got, predictor.predict(rows[:count]))
    assert predictor.stats.rows == 2 * count


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
def test_no_rows_give_no_answers(mlp: Any, rows: Any, candidate: Candidate) -> None:
    """Zero rows are answered with zero rows, of the right shape and dtype."""
    got = predictor_of(mlp, candidate).predict(rows[:0])
    assert (got.shape, got.dtype) == ((0, 1), np.float32)


@pytest.mark.parametrize("engine", ["keras", "compiled"])
def test_nested_inputs_and_outputs_keep_their_nesting(two_by_two: Any, engine: str) -> None:
    """A dict of two inputs goes in, a dict of two outputs comes out."""
    rng = np.random.default_rng(1)
    x = {
        "a": rng.random((21, 4), dtype=np.float32),
        "b": rng.random((21, 3), dtype=np.float32),
    }
    predictor = predictor_of(two_by_two, Candidate(8, engine))
    for got in (predictor.predict(x), predictor.predict_in_turn(x)):
        assert_same(got, two_by_two.predict(x, verbose=0))
    empty = predictor_of(two_by_two, Candidate(8, engine)).predict(
        {name: array[:0] for name, array in x.items()}
    )
    assert empty["label"].shape == (0, 5)


@pytest.mark.parametrize("dtype", ["float64", "int64", "float16", "uint8"])
def test_rows_of_another_dtype_are_cast_as_keras_casts_them(
    mlp: Any, rows: Any, dtype: str
) -> None:
    """A predictor tuned on float32 answers other dtypes as the model does."""
    predictor = predictor_of(mlp, Candidate(16, "compiled"))
    x = np.abs(rows * 10).astype(dtype)
    assert_same(predictor.predict(rows), mlp.predict(rows, verbose=0))
    assert_same(predictor.predict(x), mlp.predict(x, verbose=0))


def test_a_predictor_is_called_like_a_function(mlp: Any, rows: Any) -> None:
    """`predictor(x)` is `predictor.predict(x)`."""
    predictor = predictor_of(mlp, Candidate(16))
    np.testing.assert_array_equal(predictor(rows), predictor.predict(rows))


def test_weights_that_change_are_seen(mlp: Any, rows: Any) -> None:
    """The engines run the model's own weights, not a copy."""
    predictor = predictor_of(mlp, Candidate(16, "compiled"))
    before = predictor.predict(rows)
    mlp.set_weights([weight + 1 for weight in mlp.get_weights()])
    assert not np.allclose(before, predictor.predict(rows))
    assert_same(predictor.predict(rows), mlp.predict(rows, verbose=0))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((5, 9), np.float32), r"Input 'x' has shape \(rows, 9\).*\(rows, 10\)"),
        (np.zeros((5, 10), np.complex64), "complex64"),
        ({"x": np.zeros((5, 10)), "y": np.zeros((4, 1))}, "disagree on the number of rows"),
        ([np.zeros((5, 10)), np.zeros((5, 10))], "has 2 inputs"),
        ([[1.0] * 10], "not an array"),
        (np.float32(3), "single number"),
        (None, "NoneType"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_anything_runs(
    mlp: Any, x: Any, words: str
) -> None:
    """The error names the input, what came and what was expected."""
    with pytest.raises(InvalidSample, match=words):
        predictor_of(mlp, Candidate(16)).predict(x)


def test_threads_get_their_own_answers(mlp: Any, rows: Any) -> None:
    """One predictor serves several threads, and no answer goes to another caller."""
    predictor = predictor_of(mlp, Candidate(4, "compiled", concurrency=2))
    expected = mlp.predict(rows, verbose=0)
    gate = threading.Barrier(4)

    def ask(start: int) -> bool:
        gate.wait()
        return all(
            np.allclose(predictor.predict(rows[start:end]), expected[start:end], RTOL, 1e-6)
            for end in range(start + 1, 50)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, [0, 7, 13, 22]))


def test_a_batch_is_parted_only_while_no_other_call_is_in_flight() -> None:
    """Two halves use both of two that may be in flight; beside others they would be in the way.

    It is the same before and after: what is remembered of rows like these does not change it.
    """
    curve = [timed(size, size / 100, concurrency=2) for size in (1, 8, 16)]
    model, way = doubler(), Candidate(16, concurrency=2)
    predictor = TunedPredictor(record_of(way, outcomes=curve), lambda: model, model.save)
    goes_on = threading.Event()

    def slowly() -> Iterator[Any]:
        yield numbered(0, 16)
        assert goes_on.wait(60)

    def batches() -> int:
        before = predictor.stats.batches
        np.testing.assert_array_equal(predictor.predict(numbered(0, 16)), 2 * numbered(0, 16))
        return predictor.stats.batches - before

    assert [batches(), batches()] == [2, 2]
    with ThreadPoolExecutor(1) as pool:
        ran = predictor.stats.batches
        other = pool.submit(predictor.predict, slowly())
        while predictor.stats.batches == ran:
            time.sleep(0.001)
        assert [batches(), batches()] == [1, 1]
        goes_on.set()
        other.result(60)
    assert [batches(), batches()] == [2, 2]


def test_what_was_saved_is_loaded(mlp: Any, rows: Any, tmp_path: Path) -> None:
    """A tuned directory gives the same predictor again, with its record."""
    predictor = predictor_of(mlp, Candidate(16, "compiled"))
    predictor.save(tmp_path / "tuned")
    again = autotune.load(tmp_path / "tuned")
    assert again.record == predictor.record
    np.testing.assert_array_equal(again.predict(rows), predictor.predict(rows))


def test_a_changed_model_file_is_refused_at_load(mlp: Any, tmp_path: Path) -> None:
    """A model that is not the one that was tuned is not opened."""
    predictor_of(mlp, Candidate(16)).save(tmp_path / "tuned")
    model = tmp_path / "tuned" / "model.keras"
    model.write_bytes(model.read_bytes() + b"x")
    with pytest.raises(InvalidRecord, match="changed after tuning"):
        autotune.load(tmp_path / "tuned")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 50), size=st.integers(1, 60), flights=st.integers(1, 3))
def test_no_row_is_lost_doubled_or_out_of_order(
    mlp: Any, rows: Any, count: int, size: int, flights: int
) -> None:
    """For any number of rows and batch size the answers stand in the order of the rows."""
    predictor = predictor_of(mlp, Candidate(size, "keras", concurrency=flights))
    expected = mlp.predict_on_batch(rows)[:count]
    np.testing.assert_allclose(predictor.predict(rows[:count]), expected, rtol=RTOL, atol=1e-6)
