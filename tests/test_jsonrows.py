"""JSON at the door of a service: values are kept, or refused with the input's name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from autotune.errors import InvalidSample
from autotune.jsonrows import arrays_of, decode, encode
from autotune.records import Input
from tests.tunings import MODEL, XEON, replaced, tuned_on

X = Input("x", (2,), "float32")
PAIR = (Input("a", (), "int8"), Input("b", (None,), "string"))


def record(*inputs: Input) -> Any:
    """A record of a model with these inputs."""
    return tuned_on(XEON, replaced(MODEL, inputs=inputs))


@pytest.mark.parametrize("rows", [[[1, 2]], [[1.5, -2], [0, 3]], [[True, 0.5]]])
def test_numbers_become_the_inputs_dtype(rows: list[Any]) -> None:
    """Whole numbers and fractions are rows of a model of floats."""
    got = decode(json.dumps({"rows": rows}).encode(), record(X))
    np.testing.assert_array_equal(got, np.asarray(rows, np.float32))
    assert got.dtype == np.float32


def test_several_inputs_go_by_name() -> None:
    """A dict of lists becomes a dict of arrays; text stays text."""
    body = {"rows": {"b": [["red"], ["blue"]], "a": [1, -2]}}
    got = decode(json.dumps(body).encode(), record(*PAIR))
    assert {name: array.tolist() for name, array in got.items()} == body["rows"]
    assert got["a"].dtype == np.int8


def test_inputs_by_place_become_a_list() -> None:
    """A model that was tuned with a list of arrays gets one."""
    places = (Input("0", (1,), "float32"), Input("1", (), "float64"))
    first, second = arrays_of({"0": [[1]], "1": [2]}, places)
    assert (first.shape, second.dtype) == ((1, 1), np.float64)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", 'no "rows"'),
        (b'{"row": []}', 'no "rows"'),
        (b'{"rows": []}', "at least one row"),
        (b'{"rows": 3}', "at least one row"),
        (b'{"rows": {"x": [[1, 2]]}}', "at least one row"),
        (b'{"rows": [[1], [2, 3]]}', "different shapes"),
        (b'{"rows": [[1, 2, 3]]}', "shape"),
        (b'{"rows": [["1", "2"]]}', "other things than numbers"),
        (b'{"rows": [[1, null]]}', "other things than numbers"),
    ],
)
def test_what_is_no_rows_is_refused(body: bytes, complaint: str) -> None:
    """Each mistake is named in one sentence."""
    with pytest.raises(InvalidSample, match=complaint):
        decode(body, record(X))


@pytest.mark.parametrize("value", [1.5, 200, -129, 2**70, True, "1"])
def test_a_number_that_would_change_is_refused(value: Any) -> None:
    """No fraction is cut, no integer wraps around, and truth is no number."""
    with pytest.raises(InvalidSample, match="'a' wants int8"):
        arrays_of({"a": [value], "b": [["red"]]}, PAIR)


@pytest.mark.parametrize("rows", [{"a": [1]}, {"a": [1], "c": [["red"]]}, [1]])
def test_inputs_that_lack_or_are_unknown_are_refused(rows: Any) -> None:
    """The message names those that the model has."""
    with pytest.raises(InvalidSample, match="a, b"):
        arrays_of(rows, PAIR)


def test_inputs_must_have_the_same_number_of_rows() -> None:
    """Two rows of one input and one of the other are no rows."""
    with pytest.raises(InvalidSample, match="a=2, b=1"):
        arrays_of({"a": [1, 2], "b": [["red"]]}, PAIR)


def test_outputs_keep_their_nesting_and_nan_is_null() -> None:
    """What JSON cannot say becomes null, and every dtype a plain number."""
    import ml_dtypes

    half = np.asarray([[0.5]], ml_dtypes.bfloat16)
    outputs = {"b": [half, np.asarray([np.inf])], "a": np.asarray([7], np.int64)}
    assert json.loads(encode(outputs)) == {"outputs": {"a": [7], "b": [[[0.5]], [None]]}}
