"""Rows from files into files, on Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.errors import InvalidInput, InvalidSample
from tests.rays import ON_RAY

pytestmark = [*ON_RAY, pytest.mark.needs("onnxruntime")]

ROWS = 1_000


def write_parquet(path: Path, features: Any) -> None:
    """Rows with an id and ten features in one column."""
    import pyarrow as pa
    import pyarrow.parquet

    columns = {"id": np.arange(len(features)), "x": pa.array(features.tolist())}
    pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=100)


def read(folder: Path) -> Any:
    """All rows of a folder, in the order of its files' names."""
    import pyarrow as pa
    import pyarrow.parquet

    return pa.concat_tables(pyarrow.parquet.read_table(file) for file in sorted(folder.iterdir()))


@pytest.fixture
def features() -> Any:
    """Rows of ten numbers."""
    return np.random.default_rng(0).standard_normal((ROWS, 10)).astype(np.float32)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("name", ["rows.parquet", "rows.npy", "rows.csv"])
def test_rows_of_a_file_come_with_their_predictions_in_order(
    exported: tuple[Path, Any], features: Any, tmp_path: Path, name: str
) -> None:
    """The folder has all rows, in the order of the input, each with the model's answer."""
    from autotune.on_ray import score_files

    rows, out = tmp_path / name, tmp_path / "out"
    if name.endswith(".parquet"):
        write_parquet(rows, features)
    elif name.endswith(".npy"):
        np.save(rows, features)
    else:
        np.savetxt(rows, features, delimiter=",")
    assert score_files(exported[0], rows, out) == ROWS
    table = read(out)
    predictions = np.array(table["prediction"].to_pylist(), np.float32)
    expected = exported[1].predict(features, verbose=0)
    np.testing.assert_allclose(predictions, expected, rtol=1e-4, atol=1e-5)
    if name.endswith(".parquet"):
        np.testing.assert_array_equal(table["id"].to_numpy(), np.arange(ROWS))
    assert {path.name for path in tmp_path.iterdir()} == {name, "out"}


@pytest.mark.usefixtures("cluster")
def test_rows_that_do_not_fit_leave_nothing_behind(
    exported: tuple[Path, Any], features: Any, tmp_path: Path
) -> None:
    """What a worker refuses is told as if it had been refused here, and nothing is written."""
    from autotune.on_ray import score_files

    write_parquet(tmp_path / "rows.parquet", features[:, :9])
    with pytest.raises(InvalidSample, match="gives 9 values a row"):
        score_files(exported[0], tmp_path / "rows.parquet", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"rows.parquet"}


def test_what_cannot_be_read_or_written_is_refused_before_any_cluster(
    exported: tuple[Path, Any], tmp_path: Path
) -> None:
    """Neither a folder that is there already, nor rows that are not, start a cluster."""
    from autotune.on_ray import score_files

    with pytest.raises(InvalidInput, match="exists"):
        score_files(exported[0], tmp_path / "rows.parquet", tmp_path)
    with pytest.raises(InvalidInput, match="does not exist"):
        score_files(exported[0], tmp_path / "rows.parquet", tmp_path / "a" / "b")
    with pytest.raises(InvalidSample, match=r"not found"):
        score_files(exported[0], tmp_path / "rows.parquet", tmp_path / "out")
