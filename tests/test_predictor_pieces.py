"""Rows that come piece by piece, or as tensors: in order, and no more taken than needed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune import Candidate, InvalidSample, TunedPredictor
from autotune.nesting import Nested
from tests.batchers import numbered
from tests.doubling import cut_at, doubling
from tests.test_predictor import assert_same, predictor_of


@pytest.fixture(scope="module")
def predictors() -> dict[int, TunedPredictor]:
    """One for each number of batches in flight."""
    return {n: doubling(n) for n in (1, 2, 3)}


# Sources


@pytest.mark.parametrize("concurrency", [1, 2, 3])
@settings(max_examples=20)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=8), with_out=st.booleans())
def test_a_generator_gives_the_answers_of_its_rows(
    predictors: dict[int, TunedPredictor], concurrency: int, counts: list[int], with_out: bool
) -> None:
    """Whatever its pieces, they are run in tuned batches, and all answers come as one."""
    predictor, rows = predictors[concurrency], numbered(0, sum(counts))
    out = np.empty((len(rows), 3), np.float32) if with_out else None
    before = predictor.stats
    got = predictor.predict(cut_at(rows, counts), out=out)
    assert out is None or got is out
    assert_same(got, 2 * rows)
    after = predictor.stats
    assert (after.calls - before.calls, after.rows - before.rows) == (1, len(rows))
    assert after.batches - before.batches == max(1, -(-len(rows) // 16))


def test_a_dataset_gives_what_model_predict_gives(mlp: Any, rows: Any) -> None:
    """With or without targets, of a `tf.data.Dataset` the rows are taken."""
    import tensorflow as tf

    predictor = predictor_of(mlp, Candidate(16, "compiled", concurrency=2))
    expected, targets = mlp.predict(rows, verbose=0), np.zeros(50)
    for tensors in (rows, (rows, targets)):
        dataset = tf.data.Dataset.from_tensor_slices(tensors).batch(7)
        assert_same(predictor.predict(dataset), expected)
        out = np.empty((50, 1), np.float32)
        assert predictor.predict(dataset, out=out) is out
        assert_same(out, expected)


@pytest.mark.parametrize(("rows", "words"), [(60, "50 rows, fewer than"), (40, "more rows than")])
def test_a_source_must_have_as_many_rows_as_out(
    predictors: dict[int, TunedPredictor], rows: int, words: str
) -> None:
    """Too few and too many are told."""
    out = np.empty((rows, 3), np.float32)
    for predictor in predictors.values():
        with pytest.raises(InvalidSample, match=words):
            predictor.predict(cut_at(numbered(0, 50), [25, 25]), out=out)


def test_a_source_of_nothing_is_refused(predictors: dict[int, TunedPredictor]) -> None:
    """Where no piece came, the shape of the answer is not known; a piece without rows tells it."""
    for predictor in predictors.values():
        with pytest.raises(InvalidSample, match="gave nothing"):
            predictor.predict(iter(()))
        assert predictor.predict(iter([numbered(0, 0)])).shape == (0, 3)


# Streams


@pytest.mark.parametrize("concurrency", [1, 2, 3])
@settings(max_examples=20)
@given(counts=st.lists(st.integers(0, 40), max_size=8))
def test_pieces_are_streamed_in_order(
    predictors: dict[int, TunedPredictor], concurrency: int, counts: list[int]
) -> None:
    """Each piece has its answer in its turn, also one without rows, and is counted as a call."""
    predictor, rows = predictors[concurrency], numbered(0, sum(counts))
    before = predictor.stats
    answers = list(predictor.stream(cut_at(rows, counts)))
    assert [len(answer) for answer in answers] == counts
    for got, piece in zip(answers, cut_at(rows, counts), strict=True):
        assert_same(got, 2 * piece)
    after = predictor.stats
    assert (after.calls - before.calls, after.rows - before.rows) == (len(counts), len(rows))


@pytest.mark.parametrize(("concurrency", "ahead"), [(1, 1), (2, 3), (3, 4)])
def test_no_more_pieces_are_taken_than_are_in_flight(
    predictors: dict[int, TunedPredictor], concurrency: int, ahead: int
) -> None:
    """Alone, none is taken before it is asked for; else those in flight and one more."""
    taken: list[int] = []

    def source() -> Iterator[Nested]:
        for number in itertools.count():
            taken.append(number)
            yield numbered(number, 10)

    answers = predictors[concurrency].stream(source())
    assert taken == []
    for number in range(20):
        np.testing.assert_array_equal(next(answers), 2 * numbered(number, 10))
        assert len(taken) == number + ahead
    answers.close()  # type: ignore[attr-defined]
    assert len(taken) == 19 + ahead


@pytest.mark.parametrize("concurrency", [1, 2])
def test_what_is_no_source_is_refused_at_once(
    predictors: dict[int, TunedPredictor], concurrency: int
) -> None:
    """Not with the first answer; a piece that does not fit is refused when its turn comes."""
    with pytest.raises(InvalidSample, match="Expected pieces"):
        predictors[concurrency].stream({"x": numbered(0, 5)})
    answers = predictors[concurrency].stream([np.zeros((3, 9), np.float32)])
    with pytest.raises(InvalidSample, match=r"has shape \(rows, 9\)"):
        next(answers)


# Tensors and tables


def of_tensorflow(rows: Any) -> Any:
    """A tensor of TensorFlow."""
    import tensorflow as tf

    return tf.constant(rows)


def of_jax(rows: Any) -> Any:
    """An array of JAX."""
    import jax.numpy as jnp

    return jnp.asarray(rows)


def of_torch(rows: Any) -> Any:
    """A tensor of PyTorch that asks for its gradient."""
    import torch

    return torch.tensor(rows, requires_grad=True)


@pytest.mark.parametrize(
    "make",
    [
        of_tensorflow,
        pytest.param(of_jax, marks=pytest.mark.needs("jax")),
        pytest.param(of_torch, marks=pytest.mark.needs("torch")),
        pd.DataFrame,
    ],
)
def test_whatever_holds_rows_is_predicted(
    predictors: dict[int, TunedPredictor], make: Callable[[Any], Any]
) -> None:
    """Tensors and tables have the answers that their arrays have."""
    rows = numbered(0, 37)
    for predictor in predictors.values():
        assert_same(predictor.predict(make(rows)), 2 * rows)
        (answer,) = predictor.stream([make(rows)])
        assert_same(answer, 2 * rows)


def test_nan_for_whole_numbers_is_refused_at_every_call(keras: Any) -> None:
    """Floats without NaN that came before do not open the door to those with NaN."""
    inputs = keras.Input((2,), dtype="int32", name="x")
    model = keras.Model(inputs, keras.ops.cast(inputs, "float32") * 2)
    predictor, rows = predictor_of(model, Candidate(4)), np.ones((3, 2), np.float32)
    for _ in range(2):
        assert predictor.predict(rows).tolist() == (2 * rows).tolist()
        with pytest.raises(InvalidSample, match="NaN or infinity"):
            predictor.predict(np.full((3, 2), np.nan, np.float32))
