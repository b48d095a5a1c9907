"""Which models can be cut into batches, and what is said of those that cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autotune.batchable import check_rows_independent, refuse_unbatchable
from autotune.errors import InvalidModel, InvalidSample
from autotune.workload import Workload

Rows = np.ndarray[Any, Any]


def subclass(keras: Any, answer: Any, layer: Any = None) -> Any:
    """Make a model whose answer for a batch is what the function returns for it and the layer."""

    class Subclass(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="subclass")
            self.layer = layer

        def call(self, x: Any) -> Any:
            return answer(x, self.layer) if self.layer else answer(x)

    return Subclass()


def in_training(x: Any, layer: Any) -> Any:
    """Call a layer as in training."""
    return layer(x, training=True)


def test_an_ordinary_model_passes_without_a_word(mlp: Any, rows: Rows) -> None:
    """A model whose rows are independent passes, with no warning."""
    refuse_unbatchable(mlp)
    assert check_rows_independent(mlp, Workload(rows)) == []


def test_nested_inputs_and_outputs_pass(two_by_two: Any) -> None:
    """A model with two inputs and a dict of outputs passes."""
    rng = np.random.default_rng(0)
    sample = {"a": rng.random((9, 4), np.float32), "b": rng.random((9, 3), np.float32)}
    refuse_unbatchable(two_by_two)
    assert check_rows_independent(two_by_two, Workload(sample)) == []


def test_a_convolution_passes(keras: Any) -> None:
    """Other kernels for other batch sizes are no reason to refuse a model."""
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(16, 3), layers.Flatten(), layers.Dense(4)]
    )
    sample = np.random.default_rng(0).random((20, 8, 8, 3), np.float32)
    assert check_rows_independent(model, Workload(sample)) == []


def test_a_sample_of_two_rows_is_enough(mlp: Any, rows: Rows) -> None:
    """A sample with fewer rows than the check runs is used again from its first row on."""
    assert check_rows_independent(mlp, Workload(rows[:2])) == []


@pytest.mark.parametrize("count", [1, 50])
def test_equal_rows_are_warned_of(mlp: Any, rows: Rows, count: int) -> None:
    """When all rows are equal nothing can be seen of their influence on each other."""
    (warning,) = check_rows_independent(mlp, Workload(np.repeat(rows[:1], count, axis=0)))
    assert "all equal" in warning


def test_a_stateful_layer_is_refused_by_name(keras: Any) -> None:
    """A recurrent layer that carries state is refused, and the message names it."""
    x = keras.Input(batch_shape=(8, 5, 2))
    model = keras.Model(x, keras.layers.LSTM(3, stateful=True, name="memory")(x))
    with pytest.raises(InvalidModel, match=r"'memory' \(LSTM\) is stateful.*stateful=False"):
        refuse_unbatchable(model)


def test_a_stateful_layer_inside_a_model_inside_is_refused(keras: Any) -> None:
    """A stateful layer is found where it is hidden in an inner model."""
    x = keras.Input(batch_shape=(8, 5, 2))
    inner = keras.Model(x, keras.layers.GRU(3, stateful=True, name="deep_memory")(x))
    with pytest.raises(InvalidModel, match="'deep_memory'"):
        refuse_unbatchable(keras.Model(x, inner(x)))


def test_a_fixed_batch_size_is_refused_with_the_remedy(keras: Any) -> None:
    """An input of a fixed batch size is refused, and the message shows the free one."""
    x = keras.Input(batch_shape=(8, 2), name="pairs")
    model = keras.Model(x, keras.layers.Dense(3)(x))
    with pytest.raises(InvalidModel, match=r"'pairs' has a fixed batch size of 8.*shape=\(2,\)"):
        refuse_unbatchable(model)


def test_a_scalar_output_is_refused_by_name(keras: Any, rows: Rows) -> None:
    """An output that is one number for the whole batch is refused by its name."""
    x = keras.Input((10,))
    model = keras.Model(x, {"each": keras.layers.Dense(1)(x), "total": keras.ops.mean(x)})
    with pytest.raises(InvalidModel, match=r"'total' has shape \(\).*Leave that output out"):
        check_rows_independent(model, Workload(rows))


def test_an_output_without_rows_first_is_refused_by_its_shape(keras: Any, rows: Rows) -> None:
    """An output whose first axis is something else is refused with the shape it has."""
    model = subclass(keras, keras.ops.transpose)
    with pytest.raises(InvalidModel, match=r"'output' has shape \(10, 7\) for 7 rows"):
        check_rows_independent(model, Workload(rows))


def test_an_output_in_a_list_is_called_as_the_model_calls_it(keras: Any, rows: Rows) -> None:
    """Outputs in a list have the names of the layers that made them."""
    x = keras.Input((10,))
    good = keras.layers.Dense(1, name="good")(x)
    bad = keras.layers.Reshape((5, 2), name="bad")(x)
    bad = keras.ops.reshape(bad, (-1, 2))
    model = keras.Model(x, [good, bad])
    with pytest.raises(InvalidModel, match=r"shape \(35, 2\)") as caught:
        check_rows_independent(model, Workload(rows))
    assert repr(model.output_names[1]) in str(caught.value)


def test_batch_statistics_are_refused(keras: Any, rows: Rows) -> None:
    """A model that normalises by the batch is refused: its answers depend on the other rows."""
    model = subclass(keras, in_training, keras.layers.BatchNormalization())
    with pytest.raises(InvalidModel, match="depends on the other rows of its batch"):
        check_rows_independent(model, Workload(rows))


@pytest.mark.parametrize("mixing", ["softmax", "cumsum", "flip"])
def test_a_model_that_mixes_rows_is_refused(keras: Any, rows: Rows, mixing: str) -> None:
    """An operation along the axis of the rows is refused, whichever it is."""
    operation = getattr(keras.ops, mixing)
    model = subclass(keras, lambda x: operation(x, axis=0))
    with pytest.raises(InvalidModel, match="depends on the other rows of its batch"):
        check_rows_independent(model, Workload(rows))


def test_the_place_in_the_batch_must_not_matter(keras: Any, rows: Rows) -> None:
    """A model that treats the first row of a batch in a special way is refused."""

    def first_row_doubled(x: Any) -> Any:
        return keras.ops.concatenate([2 * x[:1], x[1:]])

    with pytest.raises(InvalidModel, match="depends on the other rows of its batch"):
        check_rows_independent(subclass(keras, first_row_doubled), Workload(rows))


def test_random_outputs_are_a_warning(keras: Any, rows: Rows) -> None:
    """A model that draws random numbers can be tuned, with a warning."""
    model = subclass(keras, in_training, keras.layers.GaussianNoise(1.0))
    (warning,) = check_rows_independent(model, Workload(rows))
    assert "outputs are random" in warning


def test_rows_that_give_nan_are_counted(keras: Any, rows: Rows) -> None:
    """Outputs that are not finite are a warning with their number and name, not an error."""
    rows[[1, 4]] = np.nan
    x = keras.Input((10,))
    model = keras.Model(x, keras.layers.Dense(2, name="head")(x))
    (warning,) = check_rows_independent(model, Workload(rows))
    assert warning.startswith("2 of 7 rows gave NaN or infinity in output 'head'")


def test_nan_in_half_precision_is_counted_too(keras: Any, rows: Rows) -> None:
    """Half-precision outputs that overflow are told of as well."""
    x = keras.Input((10,))
    model = keras.Model(x, keras.layers.Dense(1, name="head", dtype="float16")(x))
    (warning,) = check_rows_independent(model, Workload(rows * np.float32(1e6)))
    assert "NaN or infinity in output 'head'" in warning


def test_integer_outputs_must_agree_exactly(keras: Any, rows: Rows) -> None:
    """Whole numbers that change with the batch are refused however little they change."""

    def count(x: Any) -> Any:
        size = keras.ops.shape(x)[0]
        return keras.ops.zeros((size, 1), "int32") + 1_000_000 + size

    with pytest.raises(InvalidModel, match="depends on the other rows"):
        check_rows_independent(subclass(keras, count), Workload(rows))


def test_rows_on_which_the_model_fails_are_refused(keras: Any, rows: Rows) -> None:
    """A model that raises on the sample is no fault of the model: the sample is refused."""

    def fails(x: Any) -> Any:
        raise ValueError("expected\nsomething else")

    with pytest.raises(InvalidSample, match="The model fails on the sample: ValueError") as caught:
        check_rows_independent(subclass(keras, fails), Workload(rows))
    assert "\n" not in str(caught.value)
