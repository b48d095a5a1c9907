"""What every engine promises, over models of every kind, on the backend that Keras is on."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from autotune import engines
from autotune.errors import EngineUnavailable, is_out_of_memory
from autotune.nesting import flatten, leaves_of
from autotune.workload import Workload
from tests.zoo import CASES, FLAT, WORDS, Case, free_length, one_input

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
SIZES = (1, 3, 8, 64, 33)

# The engines of each backend. A new one is a name here.
ENGINES = {
    "tensorflow": ("keras", "compiled", "xla"),
    "jax": ("keras", "compiled"),
    "torch": ("keras", "compiled"),
}[BACKEND]

# Models that an engine does not run, with words of the reason; "": on every backend.
REFUSED = {
    ("xla", "text", "tensorflow"): "it takes text",
    ("compiled", "free_recurrent", "torch"): "one length of them, only",
}

# Models that Keras itself does not run on a backend.
IMPOSSIBLE = {("text", "jax"), ("text", "torch")}

every_engine = pytest.mark.parametrize("name", ENGINES)
every_model = pytest.mark.parametrize(
    "case",
    [case for case in CASES if (case.__name__, BACKEND) not in IMPOSSIBLE],
    ids=lambda case: case.__name__,
)


def make(name: str, model: Any, sample: Any) -> engines.Engine:
    """Build an engine as the probe does."""
    return engines.build(name, model, Workload(sample).take(1))


@pytest.fixture
def plain(keras: Any) -> Any:
    """A model of one input and one output."""
    return one_input(keras)[0]


@every_engine
@every_model
def test_outputs_are_those_of_predict_on_batch(
    keras: Any, name: str, case: Callable[[Any], Case]
) -> None:
    """At every size the nesting, the dtypes and the values are those of `predict_on_batch`.

    They are in arrays of their own: writable, not the rows', and no later call writes over them.
    A model that an engine does not run is refused in one sentence.
    """
    model, sample = case(keras)
    if why := REFUSED.get((name, case.__name__, BACKEND)):
        with pytest.raises(EngineUnavailable, match=why) as caught:
            make(name, model, sample)
        assert "\n" not in str(caught.value)
        return
    engine, workload = make(name, model, sample), Workload(sample)
    batches = [workload.take(size) for size in SIZES]
    expected = [model.predict_on_batch(batch) for batch in batches]
    got = [engine(batch) for batch in batches]
    for size, batch, outputs, wanted in zip(SIZES, batches, got, expected, strict=True):
        assert engines.difference(outputs, wanted) is None
        for leaf in flatten(outputs)[0]:
            assert (type(leaf), len(leaf), leaf.flags.writeable) == (np.ndarray, size, True)
            assert not any(np.shares_memory(leaf, rows) for rows in leaves_of(batch))


@every_engine
def test_no_rows_give_no_rows(plain: Any, name: str) -> None:
    """A batch of no rows gives outputs of no rows."""
    assert make(name, plain, FLAT)(FLAT[:0]).shape == (0, 3)


@every_engine
@pytest.mark.parametrize("layout", ["fortran", "strided", "backwards", "read-only"])
def test_rows_may_lie_in_memory_in_any_way(plain: Any, name: str, layout: str) -> None:
    """Rows of any memory layout give what the same rows in C order give, and are left alone."""
    rows = {
        "fortran": np.asfortranarray(FLAT[:5]),
        "strided": np.hstack([FLAT, FLAT])[:10:2, 5:15],
        "backwards": FLAT[4::-1],
        "read-only": FLAT[:5].copy(),
    }[layout]
    rows.flags.writeable = layout != "read-only"
    kept, engine = rows.copy(), make(name, plain, FLAT)
    np.testing.assert_allclose(engine(rows), engine(np.ascontiguousarray(rows)), rtol=1e-5)
    np.testing.assert_array_equal(rows, kept)


@every_engine
def test_rows_of_another_dtype_are_cast_as_keras_does_or_refused(plain: Any, name: str) -> None:
    """Rows of a dtype that the engine was not made for never give a wrong answer.

    A predictor makes an engine for each dtype that comes, so that they do not arrive.
    """
    engine, rows = make(name, plain, FLAT), FLAT[:5].astype(np.float64)
    try:
        outputs = engine(rows)
    except Exception as error:
        assert "float" in str(error) or "double" in str(error)  # noqa: PT017
    else:
        assert engines.difference(outputs, plain.predict_on_batch(rows)) is None


@every_engine
def test_a_thread_safe_engine_gives_each_thread_its_own_answer(plain: Any, name: str) -> None:
    """Under four threads every batch, of whatever size, gets the outputs of its own rows."""
    engine = make(name, plain, FLAT)
    if not engine.thread_safe:
        assert (name, BACKEND) == ("keras", "jax")
        return
    batches = [FLAT[start : start + 1 + start % 4] for start in range(50)]
    with ThreadPoolExecutor(4) as pool:  # cold: the sizes are compiled by several at once
        got = list(pool.map(engine, batches * 4))
    expected = [plain.predict_on_batch(batch) for batch in batches]
    for outputs, wanted in zip(got, expected * 4, strict=True):
        assert engines.difference(outputs, wanted) is None


@every_engine
def test_changed_weights_are_seen(plain: Any, name: str) -> None:
    """An engine runs the model as it is now, not as it was when the engine was built."""
    engine = make(name, plain, FLAT)
    for value in (0.0, 1.0):
        plain.set_weights([np.full_like(weight, value) for weight in plain.get_weights()])
        wanted = plain.predict_on_batch(FLAT[:2])  # on JAX this renews them once more
        assert engines.difference(engine(FLAT[:2]), wanted) is None
        assert engines.difference(engine(FLAT[:2]), wanted) is None


@every_engine
def test_another_length_runs_where_the_model_leaves_it_free(keras: Any, name: str) -> None:
    """An engine built on rows of one length runs rows of another."""
    model, sample = free_length(keras)
    engine, longer = make(name, model, sample), np.hstack([WORDS, WORDS])
    assert engines.difference(engine(longer), model.predict_on_batch(longer)) is None


@pytest.mark.parametrize("name", ENGINES[1:])
def test_an_engine_that_survives_a_shortage_runs_on_after_it(keras: Any, name: str) -> None:
    """A batch that finds no memory is an error known as that, and changes nothing.

    Not for `keras`: its shortages are tested with the predictor, and TensorFlow waits 10 s in each.
    """

    class EachWithEach(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            flat = keras.ops.reshape(x, (-1, 1))
            pairs = keras.ops.sort(flat + keras.ops.reshape(x, (1, -1)), axis=-1)
            return x + keras.ops.sum(pairs)

    x = keras.Input((2,))
    engine = make(name, keras.Model(x, EachWithEach()(x)), FLAT[:, :2])
    if not engine.survives_shortage:
        return
    before = engine(FLAT[:4, :2])
    with pytest.raises(Exception) as caught:  # noqa: PT011
        engine(np.ones((4_000_000, 2), np.float32))  # 256 TB
    assert is_out_of_memory(caught.value)
    np.testing.assert_array_equal(engine(FLAT[:4, :2]), before)


def test_engines_of_other_backends_are_refused_at_once(plain: Any) -> None:
    """What there is not on this backend is refused in a sentence that names the engine."""
    for name in set(engines.NAMES) - {*ENGINES, *engines.FORMATS}:
        with pytest.raises(EngineUnavailable, match=f"The '{name}' engine needs"):
            make(name, plain, FLAT)
