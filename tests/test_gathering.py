"""Gathering: outputs in order, in new arrays or in those that were given."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune import mapped
from autotune.errors import InvalidSample
from autotune.gathering import Done, Places, check_rows, collect, collect_all
from autotune.nesting import leaves_of

counts = st.lists(st.integers(1, 5), min_size=1, max_size=6)


def outputs(count: int, first: int, nested: bool = False) -> Any:
    """Outputs of so many rows that carry their numbers."""
    turn = np.arange(first, first + count, dtype=np.float32)
    return {"a": turn, "b": [turn[:, None] * 2]} if nested else turn


def done_of(sizes: list[int], of: int | None = None, nested: bool = False) -> list[Done]:
    """Batches of these sizes, of one input."""
    starts = itertools.accumulate([0, *sizes])
    total = sum(sizes) if of is None else of
    return [
        Done(outputs(n, start, nested), n, total) for n, start in zip(sizes, starts, strict=False)
    ]


def room_for(rows: int, nested: bool, dtype: str = "float32") -> Any:
    """Arrays for the outputs of so many rows."""
    a, b = np.full(rows, -1, dtype), np.full((rows, 1), -1, dtype)
    return {"a": a, "b": [b]} if nested else a


def assert_numbered(got: Any, rows: int, nested: bool) -> None:
    """Every row stands in its place, once."""
    expected = outputs(rows, 0, nested)
    for array, wanted in zip(leaves_of(got), leaves_of(expected), strict=True):
        np.testing.assert_array_equal(array, wanted)


@given(sizes=counts, nested=st.booleans(), given_out=st.booleans(), rows_known=st.booleans())
def test_rows_stand_in_order(
    sizes: list[int], nested: bool, given_out: bool, rows_known: bool
) -> None:
    """However many batches they come in, nested or not, in new arrays or given ones."""
    rows, done = sum(sizes), done_of(sizes, nested=nested)
    out = room_for(rows, nested) if given_out else None
    if rows_known:
        got = collect(done, rows, out)
    else:
        got, found = collect_all(iter(done), out)
        assert found == rows
    assert_numbered(got, rows, nested)
    assert out is None or got is out


def test_a_single_batch_is_handed_on_as_it_is() -> None:
    """What one batch gave is the answer, not a copy."""
    (one,) = done_of([4])
    assert collect([one], 4) is one.outputs


@pytest.mark.parametrize("nested", [False, True])
def test_no_rows_are_an_answer_of_no_rows(nested: bool) -> None:
    """Of an input without rows the shape and dtype of the answer is told, or `out` comes back."""
    empty = done_of([0], nested=nested)
    for got in (collect(empty, 0), collect_all(iter(empty), None)[0]):
        assert [leaf.shape for leaf in leaves_of(got)] == [(0,), (0, 1)][: 1 + nested]
    out = room_for(0, nested)
    assert collect(empty, 0, out) is out
    assert collect_all(iter(empty), out) == (out, 0)


def test_no_more_is_taken_than_the_rows_of_one_input() -> None:
    """Batches of the next input stay where they are; an input without rows has one as well."""
    batches = iter([*done_of([2, 3]), *done_of([0]), *done_of([1])])
    assert_numbered(collect(batches, 5), 5, nested=False)
    assert collect(batches, 0).shape == (0,)
    assert collect(batches, 1).tolist() == [0]
    assert next(batches, None) is None


def test_a_source_of_nothing_has_no_answer() -> None:
    """Where no batch came, not even the shape of the answer is known."""
    for out in (None, np.zeros(0)):
        with pytest.raises(InvalidSample, match="gave nothing"):
            collect_all(iter(()), out)


@pytest.mark.parametrize(
    ("rows", "words"), [(6, "5 rows, fewer than the 6"), (4, "more rows than the 4")]
)
def test_a_source_must_fill_out(rows: int, words: str) -> None:
    """Too few or too many rows are an error, and nothing is written beyond the end."""
    with pytest.raises(InvalidSample, match=words):
        collect_all(iter(done_of([2, 1, 2])), room_for(rows, nested=False))


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (np.zeros((5, 1), np.float32), r"The output is float32\(5,\), but out is float32\(5, 1\)"),
        (np.zeros(5, np.int64), r"The output is float32\(5,\), but out is int64\(5,\)"),
        ([np.zeros(5)], "nested as"),
        ({}, "nested as"),
        (3, "but out is <class 'int'>"),
        (np.broadcast_to(np.float32(0), (5,)), "read-only"),
    ],
)
def test_arrays_that_cannot_hold_the_outputs_are_refused(out: Any, words: str) -> None:
    """Another shape, kind of dtype or nesting, or no array that can be written to."""
    for ask in (lambda: collect(done_of([3, 2]), 5, out), lambda: collect_all(five(), out)):
        with pytest.raises(InvalidSample, match=words):
            ask()


def five() -> Iterator[Done]:
    """Two batches of five rows."""
    return iter(done_of([3, 2]))


def test_outputs_are_cast_to_another_dtype_of_their_kind() -> None:
    """Half precision in `out` takes outputs of single precision."""
    out = room_for(5, nested=True, dtype="float16")
    assert_numbered(collect(done_of([3, 2], nested=True), 5, out), 5, nested=True)


@pytest.mark.parametrize("out", [np.zeros((4, 2)), {"a": np.zeros(5), "b": np.zeros(4)}, 3])
def test_the_rows_of_out_are_looked_at_before_anything_runs(out: Any) -> None:
    """The message has both numbers."""
    with pytest.raises(InvalidSample, match=r"The input has 5 rows, but out has shape \("):
        check_rows(out, 5)
    check_rows(None, 5)
    check_rows([np.zeros((5, 1)), {"a": np.zeros(5)}], 5)


def test_what_is_written_to_a_file_leaves_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch is given back after it was written, the last one as well."""
    released: list[float] = []
    monkeypatch.setattr(mapped, "release", lambda array: released.extend(array.tolist()))
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.float32, (6,))
    collect(done_of([3, 1, 2]), 6, out)
    assert released == [0, 1, 2, 3, 4, 5]


def test_batches_of_different_lengths_are_refused() -> None:
    """Outputs whose rows have another shape are not broadcast into `out`."""
    longer = Done(np.zeros((2, 3), np.float32), 2, 4)
    shorter = Done(np.zeros((2, 1), np.float32), 2, 4)
    with pytest.raises(InvalidSample, match="different shapes"):
        collect([longer, shorter], 4, np.zeros((4, 3), np.float32))


def test_outputs_find_their_places_in_any_order() -> None:
    """Whoever comes first makes the arrays; each batch goes to where its rows begin."""
    places = Places(5)
    for start, stop in ((3, 5), (0, 1), (1, 3)):
        numbers = np.arange(start, stop)
        places.put(start, {"a": numbers, "b": [numbers[:, None] * 10]})
    whole = places.whole()
    np.testing.assert_array_equal(whole["a"], range(5))
    np.testing.assert_array_equal(whole["b"][0][:, 0], range(0, 50, 10))


def test_rows_of_another_shape_have_no_place() -> None:
    """NumPy would broadcast them."""
    places = Places(4)
    places.put(2, np.zeros((2, 3)))
    with pytest.raises(InvalidSample, match="rows of different shapes"):
        places.put(0, np.zeros((2, 1)))
