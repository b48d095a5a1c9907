"""Tensors and tables of other packages, on their way into a model."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from autotune.errors import InvalidSample
from autotune.intake import to_arrays
from autotune.workload import Spec, Table
from tests.inputs import A_AND_B, ROWS, X, read

IDS = Spec("ids", (), "int32")


def test_a_tensor_of_tensorflow_is_read_without_a_copy(tf: Any) -> None:
    """A tensor, a variable and a Keras variable are the rows they hold."""
    tensor = tf.constant(ROWS)
    arrays, rows = to_arrays(tensor, [X])
    assert (arrays.tolist(), arrays.dtype, rows) == (ROWS.tolist(), np.float32, 3)
    assert np.shares_memory(arrays, read(tensor))
    assert read(tf.Variable(ROWS)).tolist() == ROWS.tolist()


def test_a_variable_of_keras_is_read(keras: Any) -> None:
    """A Keras variable is the rows that it holds."""
    assert read(keras.Variable(ROWS)).tolist() == ROWS.tolist()


def test_text_and_bfloat16_of_tensorflow_are_read(tf: Any) -> None:
    """Strings become text of NumPy, also where there are none; bfloat16 stays what it is."""
    text = Spec("t", (), "string")
    assert read(tf.constant(["a", "longer"]), text).tolist() == [b"a", b"longer"]
    assert read(tf.constant([], tf.string), text).shape == (0,)
    assert read(tf.cast(ROWS, tf.bfloat16)).dtype == ml_dtypes.bfloat16


def test_tensors_that_are_not_dense_are_refused(tf: Any) -> None:
    """The message has the input, what came, and the call that makes it dense."""
    with pytest.raises(InvalidSample, match=r"Input 'x' is a RaggedTensor .* Give x.to_tensor\(\)"):
        read(tf.ragged.constant([[1.0], [1.0, 2.0]]))
    with pytest.raises(InvalidSample, match=r"SparseTensor .* Give tf.sparse.to_dense\(x\)"):
        read({"a": tf.sparse.from_dense(ROWS), "b": ROWS}, *A_AND_B)


def test_a_tensor_without_values_is_refused(keras: Any) -> None:
    """A symbolic tensor has no rows, and the framework's own reason is told."""
    with pytest.raises(InvalidSample, match=r"'x' cannot be read as an array: .*symbolic"):
        read(keras.Input((2,)))


@pytest.mark.needs("jax")
def test_tensors_of_jax_are_read_without_a_copy() -> None:
    """An array of JAX is the rows it holds, bfloat16 too; a sparse one is refused."""
    import jax.numpy as jnp
    from jax.experimental import sparse

    tensor = jnp.asarray(ROWS)
    assert read(tensor).tolist() == ROWS.tolist()
    assert np.shares_memory(read(tensor), np.asarray(tensor))
    assert read(tensor.astype(jnp.bfloat16)).dtype == ml_dtypes.bfloat16
    with pytest.raises(InvalidSample, match=r"BCOO .* Give x.todense\(\)"):
        read(sparse.BCOO.fromdense(tensor))


@pytest.mark.needs("torch")
def test_tensors_of_torch_are_read_without_a_copy() -> None:
    """A tensor of PyTorch is read where NumPy itself would fail: gradients, bfloat16."""
    import torch

    tensor = torch.from_numpy(ROWS.copy())
    assert np.shares_memory(read(tensor), tensor.numpy())
    assert read(tensor.requires_grad_()).tolist() == ROWS.tolist()
    assert read(torch.nn.Parameter(tensor.T.contiguous()).T).tolist() == ROWS.tolist()
    half = read(tensor.to(torch.bfloat16))
    assert (half.dtype, half.tolist()) == (ml_dtypes.bfloat16, ROWS.tolist())


@pytest.mark.needs("torch")
def test_tensors_of_torch_that_are_not_dense_are_refused() -> None:
    """Sparse and nested tensors, and those without values, are refused with the reason."""
    import torch

    with pytest.raises(InvalidSample, match=r"Tensor that is not dense.*Give x.to_dense\(\)"):
        read(torch.ones(3, 2).to_sparse())
    with pytest.raises(InvalidSample, match="to_padded_tensor"):
        read(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged))
    with pytest.raises(InvalidSample, match=r"cannot be read as an array: .*meta"):
        read(torch.ones(3, 2, device="meta"))


# Tables


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"b": [5.0, 6.0], "a": [[1, 2], [3, 4]], "id": ["p", "q"]}),
        pa.table({"b": [5.0, 6.0], "a": [[1, 2], [3, 4]], "id": ["p", "q"]}),
        pa.record_batch({"b": [5.0, 6.0], "a": [[1, 2], [3, 4]], "id": ["p", "q"]}),
        Table(b=np.array([5.0, 6.0]), a=np.array([[1, 2], [3, 4]]), id=np.array(["p", "q"])),
    ],
    ids=["pandas", "arrow", "batch", "file"],
)
def test_columns_become_the_inputs_of_their_names(table: Any) -> None:
    """Inputs take their columns, lists as a further axis; other columns are left."""
    arrays, rows = to_arrays(table, A_AND_B)
    assert rows == 2
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "a": [[1, 2], [3, 4]],
        "b": [[5], [6]],
    }
    assert {array.dtype.name for array in arrays.values()} == {"float32"}
    part = table.iloc[:0] if isinstance(table, pd.DataFrame) else table
    if not isinstance(part, Table):
        assert to_arrays(part[:0], A_AND_B)[0]["a"].shape == (0, 2)


@pytest.mark.parametrize("make", [pd.DataFrame, pa.table])
def test_one_input_takes_all_columns(make: Any) -> None:
    """A model with one input takes the columns in their order as the values of a row."""
    assert read(make({"q": [1, 2, 3], "p": [4.5, 5.5, 6.5]})).tolist() == [
        [1, 4.5],
        [2, 5.5],
        [3, 6.5],
    ]


@pytest.mark.parametrize(
    "cells",
    [
        pd.DataFrame({"x": pd.Series([1, None], dtype="Int64")}),
        pd.DataFrame({"x": pd.Series([True, None], dtype="boolean")}),
        pd.DataFrame({"x": [True, None]}),
        pa.table({"x": [1, None]}),
        pa.table({"x": [True, None]}),
    ],
)
def test_empty_cells_are_nan_and_no_integers(cells: Any) -> None:
    """A missing value is NaN to a model of floats, and refused where it wants integers."""
    assert np.isnan(read(cells, Spec("x", (), "float32"))).tolist() == [False, True]
    with pytest.raises(InvalidSample, match=r"empty or NaN cells, but input 'ids' is \(rows\) int"):
        read(cells, IDS)


def test_categories_and_text_are_read() -> None:
    """Columns of text become inputs of text; a cell without text is refused."""
    text = Spec("t", (), "string")
    assert read(pd.DataFrame({"t": ["a", "bc"]}), text).tolist() == ["a", "bc"]
    assert read(pd.DataFrame({"t": ["a", "bc"]}, dtype="category"), text).tolist() == ["a", "bc"]
    for table in (pd.DataFrame({"t": ["a", None]}), pa.table({"t": ["a", None]})):
        with pytest.raises(InvalidSample, match="cells without text, but input 't' is"):
            read(table, text)
        with pytest.raises(InvalidSample, match="The table has text, but input 'x' is"):
            read(table, Spec("x", (), "float32"))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pd.DataFrame([[1, 2]], columns=["p", "p"]), "column 'p' twice"),
        (pa.table([[1], [2]], names=["p", "p"]), "column 'p' twice"),
        (pd.DataFrame({"x": pd.to_datetime(["2026-01-01"])}), r"'x' has dtype datetime64"),
        (pd.DataFrame({"x": [[1, 2], [3]]}), "'x' holds lists of unequal length"),
        (pd.DataFrame({"p": [1.0]}), r"gives 1 values a row, but .* 'x' is \(rows, 2\) float32"),
    ],
)
def test_tables_that_do_not_fit_are_refused(table: Any, words: str) -> None:
    """The message names the column or the input, with what came and what was expected."""
    with pytest.raises(InvalidSample, match=words):
        read(table)


def test_a_table_needs_a_model_that_names_its_inputs() -> None:
    """Where the model does not tell, columns cannot be arranged; arrays are taken as they are."""
    with pytest.raises(InvalidSample, match=r"does not name its inputs\. Give arrays"):
        to_arrays(pd.DataFrame(ROWS), [])
    assert to_arrays([ROWS, {"z": ROWS}], [])[1] == 3
