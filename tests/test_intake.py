"""What callers hand in: arrays and nestings of them, and what does not fit a model."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from autotune.errors import InvalidSample
from autotune.intake import to_arrays
from autotune.models import input_specs
from autotune.workload import Spec

X = Spec("x", (2,), "float32")
IDS = Spec("ids", (), "int32")
A_AND_B = [Spec("a", (2,), "float32"), Spec("b", (1,), "float32")]
ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def read(x: Any, *specs: Spec) -> Any:
    """The arrays alone."""
    return to_arrays(x, specs or [X])[0]


def test_a_mapped_file_is_not_read(tmp_path: Path) -> None:
    """A memmap stays where it is: the array and its slices are views of the file."""
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (10**6, 2))
    mapped[-1] = 7
    array, rows = to_arrays(mapped, [X])
    assert rows == 10**6
    assert type(array) is np.ndarray, "slices of np.memmap itself are slow"
    assert np.shares_memory(array[-1:], mapped)
    assert array[-1].tolist() == [7, 7]


def test_arrays_are_not_copied() -> None:
    """The arrays of any nesting are handed on as they are."""
    x = {"a": ROWS, "b": ROWS[:, :1].astype(float)}
    arrays = read(x, *A_AND_B)
    assert arrays["a"] is ROWS
    assert arrays["b"] is x["b"], "float64 for float32 is the engine's to cast"


@pytest.mark.parametrize("mapping", [UserDict, OrderedDict])
def test_a_mapping_of_any_class_is_a_dict(mapping: Any) -> None:
    """What the model sees is a plain dict, whose order does not matter."""
    arrays = read(mapping(b=ROWS[:, :1], a=ROWS), *A_AND_B)
    assert type(arrays) is dict
    assert arrays["a"] is ROWS


def test_an_archive_of_arrays_is_a_dict(tmp_path: Path) -> None:
    """What `np.load` opens of an `.npz` file is given as it is."""
    np.savez(tmp_path / "x.npz", a=ROWS, b=ROWS[:, :1])
    with np.load(tmp_path / "x.npz") as archive:
        assert read(archive, *A_AND_B)["a"].tolist() == ROWS.tolist()


def test_series_of_a_dict_are_its_arrays() -> None:
    """A pandas Series and an Arrow array are arrays of one value a row."""
    x = {"a": pd.DataFrame(ROWS), "b": pd.Series([1.0, 2.0, 3.0])}
    assert read(x, *A_AND_B)["a"].tolist() == ROWS.tolist()
    assert read(pa.array([1, 2]), IDS).tolist() == [1, 2]
    assert read(pd.Series([1, 2], dtype="Int64"), IDS).tolist() == [1, 2]


def test_inputs_nested_deeper_are_taken_by_place(keras: Any) -> None:
    """Where a model's inputs are nested, their names say nothing, and Keras goes by place."""
    inputs = {"p": [keras.Input((2,), name="a"), keras.Input((1,), name="b")]}
    model = keras.Model(inputs, keras.layers.Concatenate()(inputs["p"]))
    arrays, rows = to_arrays({"p": [ROWS, ROWS[:, :1]]}, input_specs(model))
    assert (rows, model.predict_on_batch(arrays).shape) == (3, (3, 3))
    with pytest.raises(InvalidSample, match="Input 'b' has shape"):
        to_arrays({"p": [ROWS, ROWS]}, input_specs(model))


# What does not fit


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ({"a": ROWS}, r"'b' is missing \(have: a; the model wants: a, b\)"),
        ({"a": ROWS, "b": ROWS, "c": ROWS}, r"no input 'c' \(have: a, b, c; .* wants: a, b\)"),
        ({"a": ROWS, "b": ROWS[:2, :1]}, "disagree on the number of rows: a=3, b=2"),
        ([ROWS, ROWS[:2, :1]], "disagree on the number of rows: a=3, b=2"),
        ([ROWS, ROWS], r"Input 'b' has shape \(rows, 2\) float32; the model wants \(rows, 1\)"),
        ((ROWS,), r"has 1 inputs, the model wants a \(rows, 2\) float32, b \(rows, 1\) float32"),
        ({"a": {"b": ROWS}}, "has 1 inputs, the model wants a"),
        ({"a": ROWS, "b": None}, r"Input 'b' is a Python NoneType.*wants \(rows, 1\) float32"),
        ({"a": ROWS, "b": np.float32(1)}, r"Input 'b' is a single number.*wants \(rows, 1\)"),
        ([ROWS, [[1], [1, 2]]], "Input '1/0/0' is a Python int, not an array"),
        ([ROWS, ROWS[:, :1] * 1j], r"Input 'b' has dtype complex64.*wants \(rows, 1\) float32"),
        ({"a": ROWS, "b": np.array([{}] * 3)}, r"Input 'b' has dtype object.*wants \(rows, 1\)"),
        ({"a": ROWS, "b": object()}, r"Input 'b' is a object, not an array.*wants \(rows, 1\)"),
        ({"a": ROWS, "b": np.array(["p"] * 3)}, r"Input 'b' has dtype str.*wants \(rows, 1\)"),
    ],
)
def test_what_does_not_fit_two_inputs_is_refused(x: Any, words: str) -> None:
    """The message names the input, what came and what the model wants."""
    with pytest.raises(InvalidSample, match=words):
        read(x, *A_AND_B)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (3.0, r"Input 'x' is a Python float, not an array.*wants \(rows, 2\) float32"),
        ("rows.npy", "Input 'x' is a Python str"),
        ([[1.0, 2.0]], r"'0/0' is a Python float, not an array.*np.asarray\(rows\)"),
        ([*ROWS], r"has 3 inputs, the model wants x \(rows, 2\) float32.*np.stack\(rows\)"),
        (ROWS[0], r"'x' has shape \(rows\) float32; the model wants \(rows, 2\).*rows\[None\]"),
        (ROWS * 1j, r"Input 'x' has dtype complex64.*The model wants \(rows, 2\) float32"),
        ({}, "holds no array"),
    ],
)
def test_what_does_not_fit_one_input_is_refused(x: Any, words: str) -> None:
    """The only input has its name in the message, though the caller need not know it."""
    with pytest.raises(InvalidSample, match=words):
        read(x)


def test_a_name_too_many_would_be_taken_for_another_input(two_by_two: Any) -> None:
    """Keras only warns of a further name, and computes with the wrong input; so it is refused."""
    x = {"A": np.ones((2, 4)), "a": np.ones((2, 4)), "b": np.ones((2, 3))}
    with pytest.raises(InvalidSample, match=r"no input 'A' \(have: A, a, b; the model wants: a, b"):
        to_arrays(x, input_specs(two_by_two))
