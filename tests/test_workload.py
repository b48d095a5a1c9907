"""Rows of nested arrays: taken in turn, joined again, written and read."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import InvalidSample
from autotune.nesting import Nested, describe, flatten, head, join, leaf_names, revive
from autotune.workload import Spec, Table, Workload, as_array

NESTED = st.recursive(
    st.integers(),
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=12,
)


def nested(rows: int) -> Nested:
    """Arrays in a dict, a list and a tuple, each telling its rows apart."""
    turn = np.arange(rows)
    return {"a": turn, "b": [turn[:, None] * 1.5, (turn.astype("U"),)]}


@given(rows=st.integers(1, 40), count=st.integers(0, 120), start=st.integers(-100, 100))
def test_no_row_comes_again_while_there_are_others(rows: int, count: int, start: int) -> None:
    """Every row has come as often as any other, give or take one, whatever is taken."""
    taken = Workload(np.arange(rows)).take(count, start)
    times = np.bincount(taken, minlength=rows)
    assert len(taken) == count
    assert times.max() - times.min() <= 1


@given(rows=st.integers(1, 9), count=st.integers(1, 20), start=st.integers(0, 20))
def test_rows_of_all_arrays_stay_together(rows: int, count: int, start: int) -> None:
    """Each array gives the same rows, in turn from the start, nested as the sample is."""
    taken = Workload(nested(rows)).take(count, start)
    turn = [row % rows for row in range(start, start + count)]
    assert taken["a"].tolist() == turn
    assert taken["b"][0].tolist() == [[row * 1.5] for row in turn]
    assert taken["b"][1][0].tolist() == [str(row) for row in turn]


def test_rows_that_lie_together_are_not_copied() -> None:
    """A batch within the sample is a view of it."""
    rows = np.arange(10)
    assert np.shares_memory(Workload(rows).take(4, start=6), rows)


def test_rows_are_picked_in_the_order_asked_for() -> None:
    """`pick` gives the rows at the indices, also twice."""
    assert Workload({"a": np.arange(5)}).pick([3, 0, 3])["a"].tolist() == [3, 0, 3]


def test_specs_name_each_array_by_its_place() -> None:
    """A spec has the path in the sample, the shape of one row, and the dtype."""
    specs = Workload({"a": np.zeros((2, 3), np.float32), "b": [np.zeros(2, np.int8)]}).specs
    assert specs == [Spec("a", (3,), "float32"), Spec("b/0", (), "int8")]
    assert str(Spec("a", (None, 3), "float32")) == "(rows, any, 3) float32"


@given(rows=st.integers(1, 50), limit_bytes=st.integers(0, 500))
def test_a_part_keeps_to_its_limit(rows: int, limit_bytes: int) -> None:
    """`at_most` takes the first rows within the limit, and one row in any case."""
    part = Workload(Table(x=np.arange(rows))).at_most(limit_bytes)
    assert part.rows == max(1, min(rows, limit_bytes // 8))
    assert part.is_table
    assert part.take(1)["x"].tolist() == [0]


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        ([], "holds no array"),
        ({"a": {}}, "holds no array"),
        (np.zeros((0, 3)), "has no rows"),
        ({"a": np.zeros(3), "b": np.zeros(4)}, "disagree on the number of rows: a=3, b=4"),
        (5, "The sample is a Python int, not an array"),
        (None, "The sample is a Python NoneType"),
        ([[1.0, 2.0]], "Input '0/0' is a Python float.*np.asarray"),
        ("rows.npy", "The sample is a Python str"),
        (np.float32(1), "single number; expected an array of shape"),
        ({"z": np.zeros(2, complex)}, "Input 'z' has dtype complex128, which no model takes"),
        (np.array([{}, []], object), "has dtype object.*Give real numbers"),
        (np.array(["a", 1], object), "has dtype object"),
        (np.zeros(2, "datetime64[s]"), r"dtype datetime64\[s\]"),
        (np.zeros(2, [("a", "f4")]), "no model takes"),
        (np.array([datetime.timedelta(1)]), "no model takes"),
    ],
)
def test_what_is_no_sample_is_refused(sample: Nested, words: str) -> None:
    """A sample that no model can take is refused with its place and what is wrong."""
    with pytest.raises(InvalidSample, match=words):
        Workload(sample)


def test_ragged_rows_are_refused() -> None:
    """Rows of unequal length are no array, and NumPy's reason is told."""
    with pytest.raises(InvalidSample, match=r"Input 'x' cannot be read as an array: .*inhomogen"):
        as_array([[1], [1, 2]], "x")


@pytest.mark.parametrize("text", [["a", "longer"], ["ä", ""]])
def test_text_in_objects_is_text(text: list[str]) -> None:
    """Strings that NumPy holds as Python objects become an array of text."""
    array = as_array(np.array(text, object), "")
    assert (array.dtype.kind, array.tolist()) == ("U", text)


def test_bytes_in_objects_need_not_be_ascii() -> None:
    """Bytes that NumPy holds as Python objects stay the bytes they are."""
    assert as_array(np.array([b"\xff", b"a"], object), "").tolist() == [b"\xff", b"a"]


@given(NESTED)
def test_a_nesting_goes_to_json_and_back(value: Nested) -> None:
    """`revive` makes again what `describe` wrote, tuples and all."""
    layout = json.loads(json.dumps(describe(value)))
    assert revive(layout, lambda leaf: leaf) == value


def test_names_are_paths() -> None:
    """An array alone has no name; others are named by keys and positions."""
    assert leaf_names(np.zeros(1)) == [""]
    assert leaf_names({"b": [1, {"c": 2}], "a": (3,)}) == ["a/0", "b/0", "b/1/c"]


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "u1", "?", "U3", "S3", ml_dtypes.bfloat16])
def test_saved_rows_are_the_same_when_opened(tmp_path: Path, dtype: Any) -> None:
    """Rows, nesting and dtype survive the way through a folder, for every kind of number."""
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    Workload({"a": (array.T,), "b": array.T[:, 0]}).save(tmp_path)
    opened = Workload.open_saved(tmp_path)
    assert opened.specs[0] == Spec("a/0", (2,), np.dtype(dtype).name)
    assert opened.take(3)["a"][0].tolist() == array.T.tolist()


def test_a_saved_table_is_a_table_again(tmp_path: Path) -> None:
    """Columns of a file stay columns, to be arranged as inputs later."""
    Workload(Table(x=np.arange(3))).save(tmp_path)
    assert Workload.open_saved(tmp_path).is_table


@given(cuts=st.lists(st.integers(0, 7), min_size=1, max_size=8))
def test_joined_batches_are_the_rows_in_order(cuts: list[int]) -> None:
    """However the rows were cut into batches, they are joined as they were."""
    whole = nested(sum(cuts))
    parts = [head(whole, count, sum(cuts[:index])) for index, count in enumerate(cuts)]
    arrays, structure = flatten(join(parts, sum(cuts)))
    expected, expected_structure = flatten(whole)
    assert structure == expected_structure
    for array, other in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, other)


def test_longer_text_of_a_later_batch_is_whole() -> None:
    """The first batch does not set the length of the text."""
    joined = join([np.array(["a"]), np.array(["longer"])], 2)
    assert joined.tolist() == ["a", "longer"]


def test_outputs_of_unequal_rows_are_refused() -> None:
    """Outputs whose rows differ in shape cannot be joined; the message has both shapes."""
    with pytest.raises(InvalidSample, match=r"different shapes: \(3,\) and \(4,\). Pad"):
        join([np.zeros((1, 3)), np.zeros((1, 4))], 2)
