"""How near an engine's answers must be to those of `keras`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autotune.parity import RELATIVE, RELATIVE_16_BITS, compare, tolerance_of


def scores(*rows: list[float]) -> np.ndarray[Any, Any]:
    """Rows of scores in float32."""
    return np.array(rows, np.float32)


def test_equal_outputs_have_no_error() -> None:
    """Equal outputs, NaN for NaN and infinity for infinity, agree exactly."""
    outputs = {"a": scores([1, np.nan], [np.inf, 2]), "b": np.array([1, 2])}
    parity = compare(outputs, outputs)
    assert (parity.largest_error, parity.complaint) == (0.0, None)


def test_the_largest_error_is_a_share_of_the_largest_value() -> None:
    """An error of 0.001 where the largest value is 4 is an error of 0.00025."""
    parity = compare(np.array([1.001, 4.0]), np.array([1.0, 4.0]))
    assert parity.largest_error == pytest.approx(0.00025)
    assert parity.complaint is not None


@pytest.mark.parametrize(("error", "depth", "agrees"), [(8e-5, 1, False), (8e-5, 50, True)])
def test_deep_models_may_differ_by_more(error: float, depth: int, agrees: bool) -> None:
    """The tolerance grows with the square root of the number of layers with weights."""
    parity = compare(scores([1 + error]), scores([1]), depth)
    assert (parity.complaint is None) == agrees


def test_half_precision_tolerates_a_hundredth_at_any_depth() -> None:
    """What float16 rounds is let pass; more is not, however deep the model."""
    expected = np.array([1.0], np.float16)
    assert compare(np.array([1.01], np.float16), expected).complaint is None
    assert compare(np.array([1.04], np.float16), expected, 100).complaint is not None


def test_rounding_beside_nan_is_rounding() -> None:
    """A NaN that both have is no error, and hides none of the others."""
    expected = scores([1.0, np.nan, np.inf])
    parity = compare(scores([1 + 1e-6, np.nan, np.inf]), expected)
    assert 0 < parity.largest_error < 2e-6
    assert parity.complaint is None


def test_no_depth_excuses_a_wrong_answer() -> None:
    """An error of a hundredth is no rounding, in a model of a thousand layers."""
    assert compare(scores([1.01]), scores([1.0]), 1000).complaint is not None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_must_be_in_their_places(bad: float) -> None:
    """NaN or infinity where keras has none fails, and so does the reverse."""
    for got, expected in ((bad, 1.0), (1.0, bad)):
        parity = compare(scores([got, 2.0]), scores([expected, 2.0]))
        assert parity.largest_error == np.inf
        assert parity.complaint is not None


def test_another_class_in_a_near_tie_is_counted_and_let_pass() -> None:
    """Where two scores are nearly equal, either may win; the record can tell how often."""
    expected = scores([0.5, 0.500001], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8])
    got = scores([0.500001, 0.5], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8])
    parity = compare(got, expected)
    assert (parity.changed_classes, parity.complaint) == (0.25, None)


def test_another_class_beyond_a_near_tie_fails() -> None:
    """Where the scores for two classes are not nearly equal, the class may not change."""
    parity = compare(scores([0.501, 0.5]), scores([0.5, 0.501]))
    assert parity.changed_classes == 1.0
    assert parity.complaint is not None


def test_outputs_without_scores_have_no_classes() -> None:
    """A single number a row, or whole numbers, are no scores to choose from."""
    assert compare(scores([1.0], [2.0]), scores([1.0], [2.0])).changed_classes is None
    assert compare(np.array([[1, 2]]), np.array([[1, 2]])).changed_classes is None


def test_whole_numbers_must_be_equal() -> None:
    """For whole numbers there is no tolerance, at any depth."""
    assert compare(np.array([10**9 + 1]), np.array([10**9]), 100).complaint is not None


def test_an_output_of_zeros_tolerates_nothing() -> None:
    """Where every value is zero there is no scale to be near to."""
    parity = compare(scores([0.0, 1e-9]), scores([0.0, 0.0]))
    assert parity.largest_error == np.inf
    assert parity.complaint is not None


def test_depth_counts_layers_with_weights(keras: Any) -> None:
    """Layers without weights, and layers that only hold others, do not count."""
    layers = keras.layers
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.ReLU(), layers.Dense(4)])
    x = keras.Input((4,))
    assert tolerance_of(keras.Model(x, layers.Dense(2)(inner(x)))) == (3, RELATIVE)
    assert tolerance_of(keras.Model(x, layers.ReLU()(x))) == (1, RELATIVE)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_what_is_computed_in_16_bits_is_no_more_exact_than_that(keras: Any, policy: str) -> None:
    """Also where the last layer gives 32, as mixed precision is meant to be used."""
    layers = keras.layers
    x = keras.Input((4,))
    hidden = layers.Dense(4, dtype=policy)(x)
    model = keras.Model(x, layers.Dense(2, dtype="float32")(hidden))
    depth, relative = tolerance_of(model)
    assert depth == 2
    assert relative * depth**0.5 == pytest.approx(RELATIVE_16_BITS)
