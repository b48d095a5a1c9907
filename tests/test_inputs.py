"""Do these rows fit this model? The answer is the one that Keras gives, said before it runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import InvalidSample
from autotune.inputs import check_inputs, draw_rows, fit_sample
from autotune.nesting import flatten, leaf_names
from autotune.workload import Spec, Synthetic, Table, Workload

X = Spec("x", (10,), "float32")
IDS = Spec("ids", (None,), "int32")
TEXT = Spec("text", (), "string")


def check(specs: list[Spec], sample: Any) -> None:
    """Check a sample against specs."""
    check_inputs(specs, leaf_names(sample), flatten(sample)[0])


@pytest.mark.parametrize("shape", [(3, 10), (3, 10, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_what_is_taken_keras_predicts(mlp: Any, shape: tuple[int, ...], dtype: str) -> None:
    """Numbers of any dtype fit, also with a last axis of 1, and Keras takes them."""
    sample = Workload(np.ones(shape, dtype))
    assert fit_sample(mlp, sample) is sample
    assert mlp.predict_on_batch(sample.take(3)).shape == (3, 1)


def test_a_last_axis_of_1_may_be_left_out(keras: Any) -> None:
    """A model of one value a row takes a flat array, and so does Keras."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    sample = Workload(np.ones(3, np.float32))
    assert fit_sample(model, sample) is sample
    assert model.predict_on_batch(sample.take(3)).shape == (3, 2)


@pytest.mark.parametrize("shape", [(3, 9), (3, 2, 5), (3, 10, 2), (3,)])
def test_what_is_refused_keras_refuses(mlp: Any, shape: tuple[int, ...]) -> None:
    """A wrong shape is refused with both shapes; Keras would fail on it later."""
    rows = np.ones(shape, np.float32)
    with pytest.raises(
        InvalidSample, match=r"Input 'x' has shape .* the model wants \(rows, 10\) float32\."
    ):
        fit_sample(mlp, Workload(rows))
    with pytest.raises(Exception, match=r"shape|dimension"):
        mlp.predict_on_batch(rows)


def test_one_row_without_its_axis_gets_a_hint() -> None:
    """A single row that lacks the first axis is told how to give it one."""
    with pytest.raises(InvalidSample, match=r"One row needs a first axis too: rows\[None\]"):
        check([X], np.ones(10, np.float32))


def test_named_inputs_fit_in_any_order(two_by_two: Any) -> None:
    """A dict fits by names, and Keras predicts with it."""
    sample = Workload({"b": np.ones((2, 3)), "a": np.ones((2, 4))})
    assert fit_sample(two_by_two, sample) is sample
    assert two_by_two.predict_on_batch(sample.take(2))["score"].shape == (2, 1)


def test_a_missing_name_is_told_with_those_there_are(two_by_two: Any) -> None:
    """The message has the input that is missing, what came, and what the model wants."""
    sample = Workload({"a": np.ones((2, 4)), "c": np.ones((2, 3))})
    with pytest.raises(InvalidSample, match=r"'b' is missing \(have: a, c; the model wants: a, b"):
        fit_sample(two_by_two, sample)


def test_a_wrong_shape_is_told_for_its_own_input(two_by_two: Any) -> None:
    """With several inputs the message names the one that does not fit."""
    sample = Workload({"a": np.ones((2, 4)), "b": np.ones((2, 4))})
    with pytest.raises(InvalidSample, match=r"Input 'b' has shape \(rows, 4\)"):
        fit_sample(two_by_two, sample)


@pytest.mark.parametrize("count", [1, 3])
def test_inputs_without_names_are_counted(count: int) -> None:
    """A list must have as many arrays as the model has inputs."""
    sample = [np.ones((2, 10), np.float32)] * count
    with pytest.raises(InvalidSample, match=rf"{count} inputs, the model wants x \(rows, 10\)"):
        check([X, X], sample)
    check([X] * count, sample)


def test_the_name_of_a_single_input_is_decoration() -> None:
    """One array fits one input, whatever its name, as in Keras."""
    check([X], {"anything": np.ones((2, 10), np.float32)})


def test_a_model_that_does_not_tell_takes_all(keras: Any) -> None:
    """Where a model has no specs nothing is refused, but nothing can be drawn or arranged."""
    model = keras.Sequential([keras.layers.Dense(1)])
    sample = Workload(np.ones((2, 7)))
    assert fit_sample(model, sample) is sample
    with pytest.raises(InvalidSample, match=r"does not say what its inputs are\. Give sample rows"):
        fit_sample(model, Synthetic())
    with pytest.raises(InvalidSample, match=r"does not name its inputs. Give rows as \.npy"):
        fit_sample(model, Workload(Table(x=np.ones(2))))


@pytest.mark.parametrize(
    ("spec", "array"), [(X, np.full((2, 10), "a")), (TEXT, np.ones(2)), (TEXT, np.ones(2, int))]
)
def test_text_and_numbers_are_told_apart(spec: Spec, array: Any) -> None:
    """Text is no input of numbers, nor the other way round."""
    with pytest.raises(InvalidSample, match=f"Input '{spec.name}' has dtype .* the model wants"):
        check([spec], array)
    check([TEXT], np.array(["a"]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_cannot_be_an_integer(value: float) -> None:
    """NaN and infinity are refused where the model wants integers, and kept for floats."""
    with pytest.raises(InvalidSample, match="Input 'ids' holds NaN or infinity"):
        check([IDS], np.full((2, 3), value))
    check([X], np.full((2, 10), value))


def test_a_table_is_arranged(two_by_two: Any) -> None:
    """Columns that bear the inputs' names become the inputs, in the model's dtype."""
    table = Table(b=np.ones((2, 3)), a=np.ones((2, 4)))
    fitted = fit_sample(two_by_two, Workload(table))
    assert {spec.name: spec.dtype for spec in fitted.specs} == {"a": "float32", "b": "float32"}
    assert two_by_two.predict_on_batch(fitted.take(2))["label"].shape == (2, 5)


@given(
    shapes=st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=3),
    dtype=st.sampled_from(["float32", "float16", "bfloat16", "int32", "uint8", "bool"]),
    rows=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_drawn_rows_fit(shapes: list[list[int]], dtype: str, rows: int, seed: int) -> None:
    """Rows drawn from any inputs fit these, and the same seed draws the same."""
    specs = [Spec(f"i{index}", tuple(shape), dtype) for index, shape in enumerate(shapes)]
    drawn = draw_rows(specs, Synthetic(rows), 9, seed)
    check(specs, drawn)
    assert Workload(drawn).rows == rows
    again = draw_rows(specs, Synthetic(rows), 9, seed)
    assert [a.tolist() for a in flatten(drawn)[0]] == [a.tolist() for a in flatten(again)[0]]


def test_drawn_integers_are_inside_the_vocabulary(keras: Any) -> None:
    """Integers are drawn below the smallest vocabulary, so that every embedding knows them."""
    ids = keras.Input((4,), dtype="int32", name="ids")
    vectors = [keras.layers.Embedding(size, 2)(ids) for size in (7, 5)]
    model = keras.Model(ids, keras.layers.Concatenate()(vectors))
    drawn = fit_sample(model, Synthetic(rows=500)).take(500)
    assert set(drawn.flat) == set(range(5))


def test_free_axes_are_asked_for() -> None:
    """A free axis must be given, and the message shows how."""
    with pytest.raises(InvalidSample, match=r"free axes: \(rows, any\) int32.*--shape ids=128;"):
        draw_rows([IDS], Synthetic(), 9, 0)
    assert draw_rows([IDS], Synthetic(2, {"ids": (6,)}), 9, 0).shape == (2, 6)


@pytest.mark.parametrize(
    ("spec", "synthetic", "words"),
    [
        (X, Synthetic(2, {"x": (9,)}), r"Shape \(9,\) does not fit input 'x'"),
        (TEXT, Synthetic(2), "takes text, which cannot be drawn"),
        (X, Synthetic(0), "no rows"),
        (X, Synthetic(-1), "-1"),
        (IDS, Synthetic(2, {"ids": (-1,)}), "-1"),
        (X, Synthetic(2, {"y": (10,)}), "'y'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(spec: Spec, synthetic: Synthetic, words: str) -> None:
    """A shape that does not fit, an unknown name, text, and numbers below one are refused."""
    with pytest.raises(InvalidSample, match=words):
        Workload(draw_rows([spec], synthetic, 9, 0))
