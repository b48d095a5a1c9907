"""Scoring: files into files, row for row, in memory that does not grow with them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from autotune import Candidate, InvalidInput, TunedPredictor, cli
from autotune.records import Input
from autotune.rowfiles import read_rows
from autotune.scoring import PIECE_BYTES, PIECE_ROWS, rows_at_once, score
from tests.batchers import numbered, record_of
from tests.doubling import doubling
from tests.test_mapped import linux
from tests.tunings import MODEL, replaced

ROWS = 100


@pytest.fixture(scope="module")
def predictors() -> dict[int, TunedPredictor]:
    """One for each number of batches in flight."""
    return {n: doubling(n) for n in (1, 2)}


@pytest.fixture(scope="module")
def place(predictors: dict[int, TunedPredictor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space and an umlaut, that holds a tuned predictor and rows of each kind."""
    folder = tmp_path_factory.mktemp("ein Ordner, größer")
    predictors[1].save(folder / "getunt für alle")
    x = numbered(0, ROWS)
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", x)
    lines = [f"user {n},{n},{n},{n}" for n in range(ROWS)]
    (folder / "ids.csv").write_text("\n".join(["id,a,b,c", *lines]))
    (folder / "x.csv").write_text("\n".join(line.partition(",")[2] for line in ["_,a,b,c", *lines]))
    columns: dict[str, Any] = {"id": [f"user {n}" for n in range(ROWS)], "x": list(x)}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "ids.parquet", row_group_size=30)
    return folder


def values_of(path: Path) -> Any:
    """The outputs in a file, as one array."""
    if path.suffix == ".csv":
        with path.open() as file:
            rows = list(csv.DictReader(file))
        return np.array([[float(row[f"output_{n}"]) for n in range(3)] for row in rows])
    if path.suffix == ".parquet":
        return np.array(pyarrow.parquet.read_table(path)["output"].to_pylist())
    read = read_rows(path)
    return read["output"] if path.suffix == ".npz" else read


INTO = {  # an array keeps no columns beside it
    **dict.fromkeys(("x.npy", "x.npz", "x.csv"), (".npy", ".npz", ".csv", ".parquet")),
    "ids.parquet": (".csv", ".parquet"),
}


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize(("rows", "out"), [(rows, out) for rows in INTO for out in INTO[rows]])
def test_every_row_has_its_answer(
    predictors: dict[int, TunedPredictor],
    place: Path,
    tmp_path: Path,
    rows: str,
    out: str,
    concurrency: int,
) -> None:
    """From each kind of file into each, in batches of 16, no row is lost or out of order."""
    path, keep = tmp_path / f"y{out}", ["id"] if rows == "ids.parquet" else []
    assert score(predictors[concurrency], place / rows, path, keep=keep) == ROWS
    np.testing.assert_array_equal(values_of(path), 2 * numbered(0, ROWS))


@pytest.mark.parametrize("out", ["y.csv", "y.parquet"])
@pytest.mark.parametrize("rows", ["ids.csv", "ids.parquet"])
@pytest.mark.parametrize("concurrency", [1, 2])
def test_kept_columns_stay_beside_their_rows(
    predictors: dict[int, TunedPredictor],
    place: Path,
    tmp_path: Path,
    rows: str,
    out: str,
    concurrency: int,
) -> None:
    """The id of each row stands beside its answer, also with several batches in flight."""
    score(predictors[concurrency], place / rows, tmp_path / out, keep=["id"])
    if out == "y.csv":
        with (tmp_path / out).open() as file:
            found = [(row["id"], float(row["output_0"])) for row in csv.DictReader(file)]
    else:
        table = pyarrow.parquet.read_table(tmp_path / out).to_pydict()
        found = [(i, o[0]) for i, o in zip(table["id"], table["output"], strict=True)]
    assert found == [(f"user {n}", 2.0 * n) for n in range(ROWS)]


def test_no_rows_give_no_answers(predictors: dict[int, TunedPredictor], tmp_path: Path) -> None:
    """An empty input has an output of the right shape."""
    np.save(tmp_path / "x.npy", numbered(0, 0))
    assert score(predictors[1], tmp_path / "x.npy", tmp_path / "y.npy") == 0
    assert read_rows(tmp_path / "y.npy").shape == (0, 3)


@pytest.mark.parametrize(
    ("rows", "out", "words"),
    [
        ("x.npy", "x.npy", r"x\.npy holds the rows\. Give another file"),
        ("bad.npy", "y.npy", r"\(rows, 5\).*\(rows, 3\)"),
        ("bad.csv", "y.csv", "in the rows from 80 on: could not convert string 'x'"),
        ("nope.npy", "y.npy", "not found"),
    ],
)
def test_what_cannot_be_scored_leaves_nothing(
    predictors: dict[int, TunedPredictor], tmp_path: Path, rows: str, out: str, words: str
) -> None:
    """A fault before or in the middle is told, and no output file is there."""
    np.save(tmp_path / "x.npy", numbered(0, 10))
    np.save(tmp_path / "bad.npy", np.zeros((10, 5), np.float32))
    (tmp_path / "bad.csv").write_text("a,b,c\n" + "1,2,3\n" * 90 + "1,2,x\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InvalidInput, match=words):
        score(predictors[1], tmp_path / rows, tmp_path / out)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("shape", "batch", "expected"),
    [
        ((10,), 64, PIECE_ROWS),
        ((10,), 3000, 6000),
        ((10,), 10**6, 10**6),
        ((224, 224, 3), 4, PIECE_BYTES // (4 * 224 * 224 * 3) // 4 * 4),
        ((None, None, 3), 4, 4),
    ],
)
def test_pieces_are_whole_batches_of_few_bytes(
    shape: tuple[int | None, ...], batch: int, expected: int
) -> None:
    """As many rows are read at once as are a few MiB, and always whole batches."""
    model = replaced(MODEL, inputs=(Input("x", shape, "float32"),))
    record = replaced(record_of(Candidate(batch)), model=model)
    assert rows_at_once(TunedPredictor(record, lambda: None, lambda _: None)) == expected


# The command


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `autotune predict` in the folder, and return its code and what it printed."""
    monkeypatch.chdir(place)

    def run_predict(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.run(["predict", "getunt für alle", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run_predict


def test_the_command_takes_any_path_and_keeps_columns(run: Run, tmp_path: Path) -> None:
    """Spaces and umlauts are no matter, and the answer is one line."""
    out = tmp_path / "die Größen der Gäste.csv"
    assert run("ids.csv", "--out", out, "--keep", "id") == (
        0,
        f"{ROWS} rows written to {out}\n",
        "",
    )
    assert out.read_text().splitlines()[:2] == [
        "id,output_0,output_1,output_2",
        "user 0,0.0,0.0,0.0",
    ]
    code, text, _ = run("x.npy", "--out", tmp_path / "y.parquet", "--json")
    assert (code, json.loads(text)) == (0, {"rows": ROWS})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x.npy", "--out", "x.npy"), "x.npy holds the rows"),
        (("ids.csv", "--out", "y.npy", "--keep", "id"), ".csv and .parquet files"),
        (("ids.csv", "--out", "y.csv", "--keep", "idd"), "no column 'idd' to keep"),
        (("ids.csv", "--out", "y.csv"), "could not convert string 'user 0'"),
        (("x.npy",), "Missing option '--out'"),
        (("x.txt", "--out", "y.csv"), "not found"),
    ],
)
def test_the_command_says_what_it_cannot_do(
    run: Run, place: Path, arguments: tuple[str, ...], words: str
) -> None:
    """Exit code 2, one line, and nothing written."""
    before = sorted(place.iterdir())
    code, out, err = run(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert words in err
    assert sorted(place.iterdir()) == before


# Memory

WIDE, FEW = 1_000, 1_200  # numbers a row, rows
CHILD = """
import json, sys
from pathlib import Path
from autotune import Candidate, TunedPredictor, parquetfiles, scoring
from autotune.records import Input
from tests.batchers import doubler, record_of
from tests.benchmarks.streaming import forget_peak, memory_bytes
from tests.tunings import MODEL, replaced

width, paths = int(sys.argv[1]), [Path(path) for path in sys.argv[2:]]
scoring.PIECE_BYTES = parquetfiles.GROUP_BYTES = 2**20
model = doubler((width,))
info = replaced(MODEL, inputs=(Input("x", (width,), "float32"),))
record = replaced(record_of(Candidate(64, "compiled")), model=info)
predictor = TunedPredictor(record, lambda: model, model.save)
peaks = []
for path in paths:
    idle = memory_bytes("VmRSS")
    forget_peak()
    out = ".npy" if path.suffix == ".csv" else path.suffix
    scoring.score(predictor, path, path.with_name(f"y{out}"))
    peaks.append(memory_bytes("VmHWM") - idle)
print(json.dumps(peaks))
"""


def write_wide(path: Path, rows: int) -> Path:
    """Rows of many numbers in a file."""
    x = np.random.default_rng(0).standard_normal((rows, WIDE)).astype(np.float32)
    if path.suffix == ".npy":
        np.save(path, x)
    elif path.suffix == ".npz":
        np.savez(path, x)
    elif path.suffix == ".csv":
        line = ",".join(f"{value:.2f}" for value in x[0])
        path.write_text(f"{line}\n" * rows)
    else:
        flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(x.reshape(-1)), WIDE)
        pyarrow.parquet.write_table(pyarrow.table({"x": flat}), path, row_group_size=500)
    return path


@linux
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Four times the rows take no more memory than once the rows, but for what cannot be seen."""
    suffixes = (".npy", ".npz", ".csv", ".parquet")
    paths = []
    for suffix in suffixes:
        small = write_wide(tmp_path / f"small{suffix}", FEW)
        paths += [small, small, write_wide(tmp_path / f"large{suffix}", 4 * FEW)]
    command = [sys.executable, "-c", CHILD, str(WIDE), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    further = 3 * FEW * WIDE * 4  # bytes of the rows that the large file has more
    for place, suffix in enumerate(suffixes):
        _, once, four_times = peaks[3 * place : 3 * place + 3]  # the first is there to warm up
        assert four_times - once < further / 2, (suffix, once, four_times, further)
