"""Rows that come piece by piece: which rows are taken, and how they become batches."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections import UserDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import InvalidSample
from autotune.intake import is_source, pieces, rebatch
from autotune.nesting import flatten, head
from autotune.workload import Spec
from tests.inputs import A_AND_B, ROWS, read

WIDE = Spec("x", (10,), "float32")


def test_what_gives_its_rows_piece_by_piece_is_a_source(keras: Any, tf: Any) -> None:
    """Iterators and datasets are sources; what holds its rows is none."""
    dataset = tf.data.Dataset.from_tensor_slices(ROWS).batch(2)
    batches = pa.RecordBatchReader.from_batches(pa.schema([]), [])
    sources = [iter([ROWS]), (row for row in ROWS), map(len, []), dataset, Halves(), batches]
    assert all(map(is_source, sources))
    holders = [ROWS, [ROWS], (ROWS,), {"a": ROWS}, tf.constant(ROWS), pd.DataFrame(ROWS)]
    holders += [pa.table({"a": [1]}), pd.Series([1]), range(3), UserDict(), "text", None, 3, {1}]
    assert not any(map(is_source, holders))


def Halves(endless: bool = False) -> Any:  # noqa: N802  a class, which has to wait for Keras
    """A PyDataset of two pieces, lists of rows and targets."""
    import keras

    class TwoHalves(keras.utils.PyDataset):  # type: ignore[misc]
        @property
        def num_batches(self) -> int | None:
            return None if endless else 2

        def __getitem__(self, index: int) -> Any:
            return [ROWS[index * 2 :][:2], np.zeros(2)]

    return TwoHalves()


def assert_pieces(source: Any) -> None:
    """The pieces are the rows, in order."""
    got = [read(piece) for piece in pieces(source)]
    assert [len(piece) for piece in got] == [2, 1]
    assert np.concatenate(got).tolist() == ROWS.tolist()


def test_the_targets_of_pieces_are_left(tf: Any) -> None:
    """As in `model.predict`, of a tuple only the first is taken, whatever the source."""
    weights = np.ones(3, np.float32)
    assert_pieces([ROWS[:2], ROWS[2:]])
    assert_pieces((x,) for x in (ROWS[:2], ROWS[2:]))
    assert_pieces((x, None) for x in (ROWS[:2], ROWS[2:]))
    assert_pieces(tf.data.Dataset.from_tensor_slices((ROWS, weights, weights)).batch(2))
    assert_pieces(tf.data.Dataset.from_tensor_slices({"x": ROWS}).batch(2).map(lambda x: x["x"]))
    assert_pieces(Halves())


def test_the_same_pieces_give_the_same_answers_as_model_predict(
    mlp: Any, rows: Any, tf: Any
) -> None:
    """What is taken of a dataset is what Keras takes."""
    dataset = tf.data.Dataset.from_tensor_slices((rows, rows[:, 0])).batch(16)
    answers = [mlp.predict_on_batch(read(piece, WIDE)) for piece in pieces(dataset)]
    expected = mlp.predict(dataset, verbose=0)
    np.testing.assert_allclose(np.concatenate(answers), expected, rtol=1e-5)


@pytest.mark.needs("torch")
def test_the_targets_of_a_data_loader_are_left() -> None:
    """PyTorch's loader gives lists where others give tuples."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    tensor = torch.from_numpy(ROWS.copy())
    loader = DataLoader(TensorDataset(tensor, torch.zeros(3)), batch_size=2)
    assert is_source(loader)
    assert_pieces(loader)
    rows: Any = tensor  # a tensor has what the loader needs of a dataset, but is none to its types
    assert_pieces(DataLoader(rows, batch_size=2))


def test_a_list_from_a_generator_holds_inputs() -> None:
    """Keras takes no lists from generators, so that they can mean what they mean elsewhere."""
    (piece,) = pieces(iter([[ROWS, ROWS[:, :1]]]))
    assert read(piece, *A_AND_B)[0] is ROWS
    (piece,) = pieces(iter([((ROWS, ROWS[:, :1]), None)]))
    assert read(piece, *A_AND_B)[0] is ROWS


def test_a_source_without_an_end_is_refused_before_it_runs(tf: Any) -> None:
    """Answers to an endless dataset cannot be joined; a stream of them is another matter."""
    dataset = tf.data.Dataset.from_tensor_slices(ROWS).batch(3).repeat()
    for source in (dataset, Halves(endless=True)):
        with pytest.raises(InvalidSample, match=r"has no end.*dataset.take\(n\)"):
            pieces(source)
        first = next(pieces(source, endless=True))
        assert read(first)[0].tolist() == [0, 1]


@pytest.mark.parametrize("x", [{"a": ROWS}, "text", 3, pd.DataFrame(ROWS), None])
def test_what_has_no_pieces_is_refused(x: Any) -> None:
    """A dict or a table would give its names as pieces; it is refused at once."""
    with pytest.raises(InvalidSample, match=f"but got one {type(x).__name__}"):
        pieces(x)


@pytest.mark.parametrize("piece", [(), (ROWS,) * 4])
def test_a_tuple_that_keras_does_not_know_is_refused(piece: Any) -> None:
    """One, two or three: anything else has no meaning."""
    with pytest.raises(InvalidSample, match=rf"tuple of {len(piece)}; expected .*\(x, y\)"):
        list(pieces([piece]))


def test_elements_that_are_single_rows_get_a_hint(tf: Any) -> None:
    """A dataset that was not batched is told how."""
    dataset = tf.data.Dataset.from_tensor_slices(ROWS)
    with pytest.raises(InvalidSample, match=r"first axis too: rows\[None\], or dataset.batch\(n\)"):
        read(next(pieces(dataset)))


# Batches


@given(
    counts=st.lists(st.integers(0, 9), max_size=9),
    batch_size=st.integers(1, 12),
    nested=st.booleans(),
)
def test_batches_are_the_rows_in_order(counts: list[int], batch_size: int, nested: bool) -> None:
    """However the rows came, they are in batches of one size, none lost, doubled or swapped."""
    turn = np.arange(sum(counts))
    whole: Any = {"a": turn, "b": [turn[:, None] * 1.5, (turn.astype("U"),)]} if nested else turn
    ends = [*itertools.accumulate(counts)]
    parts = [head(whole, n, end - n) for n, end in zip(counts, ends, strict=True)]
    batches = [*rebatch(parts, batch_size)]
    sizes = [len(flatten(batch)[0][0]) for batch in batches]
    full, rest = divmod(len(turn), batch_size)
    assert sizes == [batch_size] * full + [rest] * bool(rest) or (not len(turn) and sizes == [0])
    if batches:
        for place, leaf in enumerate(flatten(whole)[0]):
            got = np.concatenate([flatten(batch)[0][place] for batch in batches])
            np.testing.assert_array_equal(got, leaf)
        assert {flatten(batch)[1] for batch in batches} == {flatten(whole)[1]}


def test_batches_inside_a_piece_are_views() -> None:
    """Only what has to be joined is copied."""
    rows = np.arange(10)
    batches = [*rebatch([rows[:6], rows[6:]], 4)]
    assert [np.shares_memory(batch, rows) for batch in batches] == [True, False, False]


def test_longer_text_of_a_later_piece_is_whole() -> None:
    """The first rows of a batch do not set the length of its text."""
    (batch,) = rebatch([np.array(["a"]), np.array(["longer"])], 2)
    assert batch.tolist() == ["a", "longer"]


def test_rows_of_another_kind_begin_a_batch() -> None:
    """Rows of another length or dtype are never joined, cast or cut: the batch ends there."""
    parts = [np.zeros((3, 4)), np.zeros((1, 5)), np.zeros((1, 5), int), {"a": np.zeros((1, 5))}]
    shapes = [flatten(batch)[0][0].shape for batch in rebatch(parts, 2)]
    assert shapes == [(2, 4), (1, 4), (1, 5), (1, 5), (1, 5)]


def test_pieces_without_rows_show_what_rows_would_be() -> None:
    """Where no row comes, one empty batch tells the shape; where no piece comes, nothing does."""
    assert [batch.shape for batch in rebatch([np.zeros((0, 3))] * 2, 4)] == [(0, 3)]
    assert [*rebatch([], 4)] == []


def test_no_more_than_one_piece_is_held() -> None:
    """When a piece is made, the one before is gone, though some of its rows wait for a batch."""
    made: list[weakref.ref[Any]] = []

    def source() -> Iterator[Any]:
        for _ in range(5):
            gc.collect()
            assert [ref() for ref in made if ref() is not None] == []
            piece = np.zeros((5, 2), np.float32)
            made.append(weakref.ref(piece))
            yield piece
            del piece

    total = 0
    for batch in rebatch(map(read, pieces(source())), 3):
        total += len(batch)
        del batch
    assert (total, len(made)) == (25, 5)
