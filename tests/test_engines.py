"""What every engine promises, over models of every kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from autotune import engines
from autotune.errors import EngineUnavailable
from autotune.nesting import flatten
from autotune.workload import Workload

SIZES = (1, 2, 7, 33)

Case = tuple[Any, Any]  # a model, and rows for it

_rng = np.random.default_rng(0)
FLAT = _rng.standard_normal((40, 10)).astype(np.float32)
PAIR = {"a": FLAT[:, :4], "b": FLAT[:, 4:7]}
WORDS = _rng.integers(0, 50, (40, 6)).astype(np.int32)


def one_input(keras: Any) -> Case:
    """Numbers in, numbers out."""
    layers = keras.layers
    dense = [layers.Dense(16, activation="relu"), layers.Dense(3)]
    return keras.Sequential([keras.Input((10,)), *dense]), FLAT


def dict_to_dict(keras: Any) -> Case:
    """Two named inputs, two named outputs."""
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    outputs = {"score": keras.layers.Dense(1)(joined), "label": keras.layers.Dense(5)(joined)}
    return keras.Model({"a": a, "b": b}, outputs), PAIR


def list_to_list(keras: Any) -> Case:
    """Two inputs and two outputs by position."""
    a, b = keras.Input((4,)), keras.Input((3,))
    outputs = [keras.layers.Dense(2)(a), keras.layers.Dense(2)(b)]
    return keras.Model([a, b], outputs), [PAIR["a"], PAIR["b"]]


def words(keras: Any) -> Case:
    """Whole numbers through an embedding."""
    layers = keras.layers
    stack = [layers.Embedding(50, 4), layers.GlobalAveragePooling1D(), layers.Dense(2)]
    return keras.Sequential([keras.Input((6,), dtype="int32"), *stack]), WORDS


def free_length(keras: Any) -> Case:
    """A sequence whose length the model leaves free."""
    layers = keras.layers
    stack = [layers.Embedding(50, 4), layers.LSTM(3)]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *stack]), WORDS


def subclassed(keras: Any) -> Case:
    """A model that is a class of its own, unbuilt, and that looks at `training`."""

    class Subclassed(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(4)
            self.dropout = keras.layers.Dropout(0.5)

        def call(self, x: Any, training: bool | None = None) -> Any:
            return self.dense(self.dropout(x, training=training))

    return Subclassed(), FLAT


def half_precision(keras: Any) -> Case:
    """Weights in float32, arithmetic and outputs in float16."""
    layers, policy = keras.layers, "mixed_float16"
    dense = [layers.Dense(16, dtype=policy), layers.Dense(2, dtype=policy)]
    return keras.Sequential([keras.Input((10,)), *dense]), FLAT


def double_rows(keras: Any) -> Case:
    """Rows in float64 for a model in float32."""
    return one_input(keras)[0], FLAT.astype(np.float64)


def convolution(keras: Any) -> Case:
    """Pictures, with batch normalisation."""
    layers = keras.layers
    stack = [layers.Conv2D(8, 3), layers.BatchNormalization(), layers.GlobalMaxPooling2D()]
    pictures = _rng.random((40, 8, 8, 3), np.float32)
    return keras.Sequential([keras.Input((8, 8, 3)), *stack]), pictures


def whole_numbers_out(keras: Any) -> Case:
    """Class numbers, not scores."""
    x = keras.Input((10,))
    return keras.Model(x, keras.ops.argmax(keras.layers.Dense(4)(x), axis=-1)), FLAT


def text(keras: Any) -> Case:
    """Text that a lookup turns into numbers."""
    lookup = keras.layers.StringLookup(vocabulary=["red", "blue"])
    x = keras.Input((1,), dtype="string")
    return keras.Model(x, lookup(x)), np.array([["red"], ["blue"], ["grey"]] * 12)


CASES: list[Callable[[Any], Case]] = [
    *(one_input, dict_to_dict, list_to_list, words, free_length, subclassed),
    *(half_precision, double_rows, convolution, whole_numbers_out, text),
]

# Those that run an exported model have a suite of their own: tests/test_engines_exported.py.
FOLLOW = [name for name in engines.NAMES if name not in engines.FORMATS]

every_engine = pytest.mark.parametrize("name", FOLLOW)
every_model = pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)


def make(name: str, model: Any, sample: Any) -> engines.Engine:
    """Build an engine as the probe does."""
    return engines.build(name, model, Workload(sample).take(1))


@every_engine
@every_model
def test_outputs_are_those_of_predict_on_batch(
    keras: Any, name: str, case: Callable[[Any], Case]
) -> None:
    """At every size an engine gives what `predict_on_batch` gives: nesting, dtype and values."""
    model, sample = case(keras)
    engine, workload = make(name, model, sample), Workload(sample)
    for size in SIZES:
        batch = workload.take(size)
        assert engines.difference(engine(batch), model.predict_on_batch(batch)) is None


@every_engine
@every_model
def test_outputs_are_numpy_arrays_with_the_rows_first(
    keras: Any, name: str, case: Callable[[Any], Case]
) -> None:
    """Outputs are NumPy arrays, each with one entry a row."""
    model, sample = case(keras)
    leaves, _ = flatten(make(name, model, sample)(Workload(sample).take(7)))
    assert [type(leaf) for leaf in leaves] == [np.ndarray] * len(leaves)
    assert {len(leaf) for leaf in leaves} == {7}


@every_engine
def test_the_batch_is_left_as_it_was(mlp: Any, name: str) -> None:
    """An engine does not write into the rows it is given, and keeps none of them as its output."""
    batch = FLAT[:5].copy()
    outputs = make(name, mlp, FLAT)(batch)
    np.testing.assert_array_equal(batch, FLAT[:5])
    assert not np.shares_memory(batch, outputs)


@every_engine
def test_earlier_outputs_stay_when_the_next_batch_comes(mlp: Any, name: str) -> None:
    """Outputs that were handed over are not overwritten by later calls."""
    engine = make(name, mlp, FLAT)
    first = engine(FLAT[:5])
    kept = first.copy()
    engine(FLAT[5:10])
    np.testing.assert_array_equal(first, kept)


@every_engine
def test_a_thread_safe_engine_gives_each_thread_its_own_answer(mlp: Any, name: str) -> None:
    """Under four threads every batch gets the outputs of its own rows."""
    engine = make(name, mlp, FLAT)
    if not engine.thread_safe:
        pytest.skip(f"the {name!r} engine says that it is not thread-safe on this backend")
    batches = [FLAT[start : start + 3] for start in range(30)]
    expected = [engine(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(engine, batches * 10))
    for outputs, wanted in zip(got, expected * 10, strict=True):
        np.testing.assert_allclose(outputs, wanted, rtol=1e-5, atol=1e-6)


@every_engine
def test_changed_weights_are_seen(mlp: Any, name: str) -> None:
    """An engine runs the model as it is now, not as it was when the engine was built."""
    engine = make(name, mlp, FLAT)
    engine(FLAT[:2])
    mlp.set_weights([np.zeros_like(weight) for weight in mlp.get_weights()])
    np.testing.assert_array_equal(engine(FLAT[:2]), np.zeros((2, 1), np.float32))


@every_engine
def test_another_length_runs_where_the_model_leaves_it_free(keras: Any, name: str) -> None:
    """An engine built on rows of one length runs rows of another."""
    model, sample = free_length(keras)
    engine, longer = make(name, model, sample), np.hstack([WORDS, WORDS])
    assert engines.difference(engine(longer), model.predict_on_batch(longer)) is None


def test_an_engine_that_does_not_exist_is_refused(mlp: Any) -> None:
    """A name that is no engine is refused with the names that are."""
    with pytest.raises(EngineUnavailable, match="no engine 'warp'; there are: keras, compiled"):
        make("warp", mlp, FLAT)


def test_outputs_that_agree_have_no_difference() -> None:
    """Equal outputs, NaN for NaN, and rounding in the last bits are no difference."""
    expected = {"a": np.array([1.0, np.nan], np.float32), "b": np.array([1, 2])}
    rounded = {"a": np.array([1.0 + 1e-6, np.nan], np.float32), "b": np.array([1, 2])}
    assert engines.difference(expected, expected) is None
    assert engines.difference(rounded, expected) is None


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ([np.ones(3, np.float32)], "nested as"),
        ({"a": np.ones(3, np.float64)}, r"output 'a' is float64\(3,\), not float32\(3,\)"),
        ({"a": np.ones((3, 1), np.float32)}, r"output 'a' is float32\(3, 1\)"),
        ({"a": np.full(3, 1.1, np.float32)}, "output 'a' differs from that of keras by 5000.0"),
        ({"a": np.array([1, 1, np.nan], np.float32)}, "differs from that of keras by inf"),
        ({"a": np.array([1, 1, np.inf], np.float32)}, "differs from that of keras by inf"),
    ],
)
def test_a_difference_is_told_in_words(got: Any, words: str) -> None:
    """Another nesting, dtype, shape or value is a difference, told in half a sentence."""
    assert re.search(words, engines.difference(got, {"a": np.ones(3, np.float32)}) or "")


def test_half_precision_may_differ_by_more() -> None:
    """What float16 cannot tell apart is tolerated in float16, and not in float32."""
    expected, got = np.array([1.0, 2.0]), np.array([1.005, 2.0])
    assert engines.difference(got.astype("float16"), expected.astype("float16")) is None
    assert engines.difference(got.astype("float32"), expected.astype("float32")) is not None


def test_whole_numbers_must_be_equal() -> None:
    """For whole numbers there is no tolerance."""
    found = engines.difference(np.array([10**9 + 1]), np.array([10**9]))
    assert found is not None
    assert found.startswith("the output differs")
