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


def in_hive(folder: Path, features: Any) -> None:
    """The same rows in folders that tell a column's values, one file in each."""
    import pyarrow as pa
    import pyarrow.parquet

    for part in range(5):
        (folder / f"day={part}").mkdir(parents=True)
        rows = slice(part * 200, (part + 1) * 200)
        columns = {"id": np.arange(ROWS)[rows], "x": pa.array(features[rows].tolist())}
        path = folder / f"day={part}" / "rows.parquet"
        pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=30)


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
@pytest.mark.parametrize("progress", [True, False])
def test_rays_progress_can_be_left_out(
    exported: tuple[Path, Any],
    features: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    progress: bool,
) -> None:
    """It is asked for or not for this dataset alone."""
    import ray.data

    from autotune.on_ray import score_files

    seen: list[bool] = []
    write = ray.data.Dataset.write_parquet

    def watch(dataset: ray.data.Dataset, *args: Any, **kwargs: Any) -> None:
        seen.append(dataset.context.enable_progress_bars)
        write(dataset, *args, **kwargs)

    monkeypatch.setattr(ray.data.Dataset, "write_parquet", watch)
    monkeypatch.setattr(ray.data.DataContext.get_current(), "enable_progress_bars", True)
    np.save(tmp_path / "rows.npy", features)
    score_files(exported[0], tmp_path / "rows.npy", tmp_path / "out", progress=progress)
    assert seen == [progress]
    assert ray.data.DataContext.get_current().enable_progress_bars


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("rows_of_a_block", [25, 70, 2**14])
def test_row_groups_of_many_files_stay_in_order(
    exported: tuple[Path, Any],
    features: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows_of_a_block: int,
) -> None:
    """However many row groups a task reads, and with what the folders' names tell."""
    from autotune.on_ray import reading, score_files

    monkeypatch.setattr(reading, "ROWS_OF_A_BLOCK", rows_of_a_block)
    in_hive(tmp_path / "rows", features)
    source = reading.read(tmp_path / "rows")
    assert isinstance(source, reading.RowGroups)
    assert len(source.get_read_tasks(1)) == {25: 35, 70: 15, 2**14: 5}[rows_of_a_block]
    assert score_files(exported[0], tmp_path / "rows", tmp_path / "out") == ROWS
    table = read(tmp_path / "out")
    expected = exported[1].predict(features, verbose=0)
    predictions = np.array(table["prediction"].to_pylist(), np.float32)
    np.testing.assert_allclose(predictions, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(table["id"].to_numpy(), np.arange(ROWS))
    np.testing.assert_array_equal(table["day"].to_numpy(), np.repeat(np.arange(5), 200))


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
    exported: tuple[Path, Any], features: Any, tmp_path: Path
) -> None:
    """Neither a folder that is there already, nor rows that are not, start a cluster."""
    from autotune.on_ray import score_files

    with pytest.raises(InvalidInput, match="exists"):
        score_files(exported[0], tmp_path / "rows.parquet", tmp_path)
    with pytest.raises(InvalidInput, match="does not exist"):
        score_files(exported[0], tmp_path / "rows.parquet", tmp_path / "a" / "b")
    with pytest.raises(InvalidSample, match=r"not found"):
        score_files(exported[0], tmp_path / "rows.parquet", tmp_path / "out")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidSample, match=r"cannot be read as rows"):
        score_files(exported[0], tmp_path / "rows.parquet", tmp_path / "out")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidSample, match=r"no \.parquet files"):
        score_files(exported[0], tmp_path / "folder", tmp_path / "out")
    write_parquet(tmp_path / "folder" / "rows.parquet", features[:0])
    np.save(tmp_path / "rows.npy", features[:0])
    for rows in ("folder", "rows.npy"):
        with pytest.raises(InvalidSample, match="has no rows"):
            score_files(exported[0], tmp_path / rows, tmp_path / "out")
