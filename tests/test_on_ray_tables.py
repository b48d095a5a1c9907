"""Arrow tables to a model's inputs, and outputs to columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autotune.errors import InvalidInput, InvalidSample
from autotune.workload import Spec
from tests.rays import ON_RAY

pytestmark = ON_RAY

X = Spec("x", (2,), "float32")
ID = Spec("ids", (), "int32")


@pytest.fixture
def table() -> Any:
    """Three rows: a number, text with an empty cell, two features, a list and a tensor."""
    import pyarrow as pa
    from ray.data.extensions import ArrowTensorArray

    return pa.table(
        {
            "id": [1, 2, 3],
            "note": ["a", None, "c"],
            "f": [0.5, 1.5, 2.5],
            "g": [1.0, 2.0, 3.0],
            "pair": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
            "image": ArrowTensorArray.from_numpy(np.arange(12, dtype=np.float32).reshape(3, 2, 2)),
        }
    )


def arrange(inputs: list[Spec], **options: Any) -> Any:
    """An arrangement, of which most tests say one thing only."""
    from autotune.on_ray import tables

    known = {"columns": None, "output": "prediction", "keep": None} | options
    return tables.arrange(inputs, known["columns"], known["output"], known["keep"])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["f", "g"], [[0.5, 1.0], [1.5, 2.0], [2.5, 3.0]]),
        (["g", "f"], [[1.0, 0.5], [2.0, 1.5], [3.0, 2.5]]),
        ("pair", [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
    ],
)
def test_columns_become_the_values_of_an_input(table: Any, columns: Any, expected: Any) -> None:
    """Several columns stand side by side in the order given; a list's cells are values too."""
    found = arrange([X], columns={"x": columns}).to_inputs(table)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_one_of_several_columns_may_bear_the_inputs_name(table: Any) -> None:
    """A column with the input's own name does not stand for all that were named."""
    renamed = table.rename_columns({"f": "x"})
    found = arrange([X], columns={"x": ["x", "g"]}).to_inputs(renamed)
    np.testing.assert_array_equal(found[:, 0], [0.5, 1.5, 2.5])


def test_a_tensor_column_is_an_input_of_its_shape(table: Any) -> None:
    """A column of tensors becomes an input without its values being copied."""
    found = arrange([Spec("image", (2, 2), "float32")], columns={"image": "image"}).to_inputs(table)
    np.testing.assert_array_equal(found, np.arange(12, dtype=np.float32).reshape(3, 2, 2))
    assert not found.flags.owndata


def test_columns_of_the_inputs_names_are_taken_by_themselves(table: Any) -> None:
    """Without a mapping only the columns that bear the inputs' names are read."""
    inputs = [Spec("f", (), "float32"), Spec("pair", (2,), "float32")]
    assert list(arrange(inputs).to_inputs(table)) == ["f", "pair"]


def test_several_inputs_become_a_dict_by_name(table: Any) -> None:
    """With a mapping each input has the dtype and shape of the model's."""
    found = arrange([X, ID], columns={"x": "pair", "ids": "id"}).to_inputs(table)
    assert {name: array.dtype.name for name, array in found.items()} == {
        "x": "float32",
        "ids": "int32",
    }
    assert found["ids"].shape == (3,)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": "h"}, r"no column 'h' \(columns: 'id', 'note'"),
        ({"x": ["note", "f"]}, "has text"),
        ({"x": ["f", "g", "id"]}, r"gives 3 values a row, but the model's input 'x' is"),
    ],
)
def test_columns_that_do_not_fit_are_refused(table: Any, columns: Any, message: str) -> None:
    """A column that is missing, or that is not what the input wants, is told by its name."""
    with pytest.raises(InvalidSample, match=message):
        arrange([X], columns=columns).to_inputs(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"y": "f"}}, r"for each input of the model \(x\), but got \{'y': 'f'\}"),
        ({"columns": {}}, "for each input of the model"),
        ({"columns": {"x": []}}, "for each input of the model"),
        ({"output": ""}, "output must be the name of a column"),
        ({"keep": "id"}, "keep must be a sequence of column names, but got 'id'"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(options: Any, message: str) -> None:
    """Arguments are checked against the record before a row is read."""
    with pytest.raises(InvalidInput, match=message):
        arrange([X], **options)


def test_outputs_are_appended_and_all_else_is_as_it_was(table: Any) -> None:
    """Every column stays as it was, empty cells included, and the output follows."""
    found = arrange([X]).with_outputs(table, np.array([0.1, 0.2, 0.3], np.float32))
    assert found.drop_columns(["prediction"]).equals(table)
    assert found["prediction"].type == "float"


def test_only_what_is_kept_stands_beside_the_outputs(table: Any) -> None:
    """`keep` leaves out the other columns; a tensor of outputs has its shape."""
    found = arrange([X], keep=["id"]).with_outputs(table, np.ones((3, 2, 2), np.float32))
    assert found.column_names == ["id", "prediction"]
    assert found["prediction"].type.shape == (2, 2)


def test_what_is_kept_is_no_input_unless_it_has_its_name() -> None:
    """Where no column has an input's name, all others are the values of the only input."""
    import pyarrow as pa

    table = pa.table({"id": [7, 8], "a": [1.0, 2.0], "b": [3.0, 4.0]})
    found = arrange([X], keep=["id"]).to_inputs(table)
    assert {name: list(values) for name, values in found.items()} == {"a": [1, 2], "b": [3, 4]}
    named = pa.table({"id": [7, 8], "x": [1.0, 2.0]})
    assert list(arrange([X], keep=["x"]).to_inputs(named)) == ["x"]


def test_several_outputs_are_columns_by_name(table: Any) -> None:
    """A dict of outputs becomes `output.name` each, text among them."""
    outputs = {"label": np.array(["a", "b", "c"]), "score": np.ones((3, 1), np.float32)}
    found = arrange([X], output="y", keep=["id"]).with_outputs(table, outputs)
    assert found.column_names == ["id", "y.label", "y.score"]
    assert found["y.label"].to_pylist() == ["a", "b", "c"]


def test_several_texts_a_row_are_a_list(table: Any) -> None:
    """Arrow has no tensors of text; what is written so can be read again."""
    texts = np.array([["a", "b"], ["c", ""], ["e", "f"]], object)
    found = arrange([X], output="labels", keep=[]).with_outputs(table, texts)
    assert found["labels"].to_pylist() == texts.tolist()
    read = arrange([Spec("labels", (2,), "string")], columns={"labels": "labels"})
    np.testing.assert_array_equal(read.to_inputs(found), texts)


def test_a_column_of_the_outputs_name_is_refused(table: Any) -> None:
    """Predictions never take the place of a column, nor do they stand beside it."""
    with pytest.raises(InvalidSample, match="has a column 'id' already"):
        arrange([X], output="id").with_outputs(table, np.zeros(3, np.float32))


def test_no_rows_have_the_columns_too(table: Any) -> None:
    """Of an empty table the outputs are an empty column."""
    empty = table.slice(0, 0)
    found = arrange([X], columns={"x": ["f", "g"]})
    assert found.to_inputs(empty).shape == (0, 2)
    assert found.with_outputs(empty, np.zeros((0, 3), np.float32)).num_rows == 0


def test_blocks_that_stand_together_are_read_where_they_lie(table: Any) -> None:
    """Each is a piece; but where one has too few rows, none is cut, and all are joined."""
    import pyarrow as pa

    from autotune.on_ray.tables import in_pieces

    both = pa.concat_tables([table, table.slice(0, 2)])
    pieces = in_pieces(both, 2)
    assert [piece.num_rows for piece in pieces] == [3, 2]
    reading = arrange([Spec("image", (2, 2), "float32")], columns={"image": "image"})
    assert np.shares_memory(reading.to_inputs(pieces[1]), reading.to_inputs(pieces[0]))
    found = np.concatenate([reading.to_inputs(piece) for piece in pieces])
    np.testing.assert_array_equal(found, reading.to_inputs(both))
    assert [piece.num_rows for piece in in_pieces(both, 3)] == [5]
    assert [piece.num_rows for piece in in_pieces(both.slice(0, 0), 1)] == [0]
