"""Bad input: exit code 2, one or two clear lines, and nothing left behind."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotune import cli, family
from tests.bad_files import QUICK, autotune, everything_in, make_place

Refused = Callable[..., None]

# Words that help nobody at a terminal.
NOISE = ("Traceback", 'File "', "should not happen", "allow_pickle", "sqlalche.me", "usecols")

# What is wrong, and the words that must be told of it.
MODELS = {
    "nope.keras": ("not found", "nope.keras"),
    "note.txt": ("not a .keras file", "model.save"),
    "empty.keras": ("empty (0 bytes)",),
    "cut.keras": ("damaged", "model.save"),
    "old.h5": ("HDF5", "model.save"),
    "saved": ("SavedModel folder", "model.save"),
    "plain": ("plain is a folder", "model.save"),
    "tuned": ("folder that holds a model", "tuned/model.keras"),
    "text.h5": ("HDF5", "model.save"),
    "net.pt": ("a PyTorch file, not a Keras model", "model.save"),
    "net.onnx": ("an ONNX model, not a Keras model", "model.save"),
    "cat.png": ("not a .keras file", "model.save"),
    "x.npy": ("not a .keras file", "model.save"),
    "lamda.keras": ("not found", "Did you mean lambda.keras?"),
    "saved/m.keras": ("not found: saved/m.keras", "The working folder is"),
    "noconfig.keras": ("no readable config.json",),
    "badconfig.keras": ("config.json is not valid JSON",),
    "noweights.keras": ("holds no weights",),
    "escape.keras": ("refused", "../evil.txt"),
    "lambda.keras": ("Python code", "'lambda'", "--unsafe-load"),
    "mine.keras": ("'Mine'", "not part of Keras", "--import factories"),
    "factories:": ("'factories:'", "package.module:function"),
}
SAMPLES = {
    "--sample nope.npy": ("not found", "nope.npy"),
    "--sample note.txt": ("note.txt", ".npy, .npz, .csv, .parquet", "np.save"),
    "--sample cat.png": ("cat.png", ".npy, .npz, .csv, .parquet", "np.save"),
    "--sample m.keras": ("m.keras", "not a file of rows"),
    "--sample plain": ("plain is a folder", ".npy"),
    "--sample none.npy": ("no rows",),
    "--sample unequal.npz": ("disagree on the number of rows", "a=5, b=4"),
    "--sample complex.npy": ("complex64", "real numbers"),
    "--sample object.npy": ("object.npy", "Python objects", "save plain numbers"),
    "--sample object.npz": ("object.npz", "Python objects", "save plain numbers"),
    "--sample text.npy": ("text.npy", "cannot be read"),
    "--sample text.csv": ("text.csv", "'x'", "row"),
    "--sample head.csv": ("head.csv", "no rows"),
    "--sample ragged.csv": ("ragged.csv", "columns", "row 2"),
    "--sample blank.csv": ("blank.csv", "no rows"),
    "": ("--sample", "--synthetic"),
    "--sample x.npy --synthetic": ("--sample", "--synthetic"),
    "--synthetic --shape rubbish": ("--shape", "'rubbish'", "image=224,224,3"),
}
OPTIONS = {
    "--latency-budget -5ms": ("--latency-budget", "'-5ms'", "positive"),
    "--latency-budget 20_parsecs": ("--latency-budget", "'20_parsecs'", "ms"),
    "--latency-budget nan": ("--latency-budget", "'nan'", "20ms"),
    "--latency-budget 10": ("--latency-budget", "'10'", "20ms"),
    "--latency-budget 0ms": ("--latency-budget", "'0ms'", "positive"),
    "--latency-budget inf": ("--latency-budget", "'inf'", "20ms"),
    "--memory-budget 80%": ("--memory-budget", "'80%'", "6GiB"),
    "--memory-budget nan": ("--memory-budget", "'nan'", "6GiB"),
    "--min-batch-size 0": ("min_batch_size", "at least 1", "0"),
    "--min-batch-size -1": ("min_batch_size", "at least 1", "-1"),
    "--min-batch-size 3.5": ("--min-batch-size", "integer"),
    "--min-batch-size abc": ("--min-batch-size", "integer"),
    "--min-batch-size True": ("--min-batch-size", "integer"),
    "--max-batch-size 0": ("max_batch_size", "at least 1"),
    "--rows 0": ("rows", "at least 1"),
    "--seed -1": ("seed", "-1"),
    "--samples x.npy": ("No such option: --samples", "Did you mean --sample?", "tune --help"),
    "--min-batch-size 16 --max-batch-size 8": ("(8)", "(16)"),
    "--quantile 2": ("quantile", "between 0 and 1", "2"),
    "--tolerance -1": ("tolerance", "between 0 and 1", "-1"),
    "--memory-budget 0GiB": ("--memory-budget", "'0GiB'", "positive"),
    "--budget 0s": ("--budget", "'0s'", "positive"),
    "--objective speed": ("'speed'", "throughput, makespan, latency"),
    "--objective makespan": ("'makespan'", "rows"),
    "--strategy genetic": ("'genetic'", "ladder, sampler"),
    "--isolation docker": ("'docker'", "process, spawn, none"),
    "--engine warp": ("'warp'", "keras, compiled"),
    "--engine tensorrt": ("'tensorrt'", "keras, compiled"),
    "--concurrency 0": ("concurrency", "0"),
    "--out x.npy": ("x.npy", "not a folder"),
    "--out m.keras": ("m.keras", "not a folder"),
    "--out .": ("something else", "new folder"),
    "--out saved": ("saved", "something else", "new folder"),
    "--storage rubbish": ("'rubbish'", "sqlite:///tune.db"),
    "--storage sqlite:///": ("'sqlite:///'", "sqlite:///tune.db"),
    "--storage sqlite:///missing/x.db": ("missing/x.db", "sqlite:///tune.db"),
    "--storage sqlite:///x.npy": ("x.npy", "not a database"),
    "--storage oracle9://x": ("'oracle9://x'", "sqlite:///tune.db"),
    "--storage redis://x": ("'redis://x'", "sqlite:///tune.db"),
    "--storage sqlite:///new.db --engine warp": ("'warp'",),
}
READING = {
    "show nope.json": ("nope.json", "No such file"),
    "show random.json": ("random.json", "not a tuning record"),
    "show newer.json": ("format version 99", "pip install --upgrade"),
    "show saved": ("saved", "not a tuned folder"),
    "predict missing x.npy --out y.npy": ("not found", "missing"),
    "predict changed x.npy --out y.npy": ("model.keras", "changed after tuning", "Restore"),
    "predict m.keras x.npy --out y.npy": ("m.keras is not a tuned folder, but a file", "--out"),
    "predict tuned nope.npy --out y.npy": ("not found", "nope.npy"),
    "predict tuned note.txt --out y.npy": ("note.txt", "not a file of rows"),
    "predict tuned x.npy --out x.npy": ("x.npy holds the rows",),
    "predict tuned x.npy --out y.txt": ("y.txt", ".npy, .npz, .csv, .parquet"),
    "predict tuned x.npy --out saved": ("saved", ".npy"),
    "predict tuned x.npy --out y.npy --keep id": ("kept", ".csv and .parquet"),
    "predict tuned x.npy": ("Missing option '--out'", "predict --help"),
    "show m.keras": ("m.keras", "not a tuning record"),
    "show tuned --config nope.toml": ("Cannot read nope.toml",),
    "show tuned --config note.txt": ("note.txt", ".toml, .yaml"),
    "predict tuned x.npy --out missing/y.npy": ("missing", "folder"),
}
LOADING = {  # a model must be loaded to see it
    "tune m.keras --sample nine.npy": ("'x'", "(rows, 9)", "(rows, 10)"),
    "tune m.keras --sample nine.npy --storage sqlite:///fresh.db": ("(rows, 9)", "(rows, 10)"),
    "tune m.keras --sample one.npy": ("'x'", "(rows, 10)", "rows[None]"),
    "tune m.keras --sample words.npy --json": ("'x'", "dtype", "float32"),
    "tune two.keras --sample names.npz": ("'b' is missing", "have: a, c"),
    "tune ids.keras --sample nan.npy": ("'ids'", "NaN", "int32"),
    "tune ids.keras --sample outside.npy": ("sample", "embedding"),
    "tune m.keras --synthetic --shape nosuch=10": ("'nosuch'", "x"),
    "tune free.keras --synthetic --json": ("'free'", "--shape free="),
    "tune state.keras --synthetic": ("'lstm'", "stateful=False"),
    "tune fixed.keras --synthetic": ("'fixed'", "fixed batch size of 8"),
    "tune misfit.keras --sample x.npy": ("weights", "'dense", "(10, 1)", "(10, 2)", "model.save"),
    "tune factories:subclassed --synthetic": ("inputs", "Give sample rows"),
    "tune nosuchmodule:f --synthetic": ("nosuchmodule:f", "No module named"),
    "tune factories:fails --synthetic --json": ("factories:fails", "RuntimeError: first second"),
    "tune factories:nothing --synthetic": ("NoneType", "keras.Model"),
    "tune factories:leaves --synthetic": ("factories:leaves", "SystemExit"),
    "predict tuned nine.npy --out y.npy": ("(rows, 9)", "(rows, 10)"),
    f"tune other.keras --sample x.npy {QUICK} --storage sqlite:///study.db": ("another model",),
    f"tune m.keras --sample x.npy {QUICK} --tolerance 3% --storage sqlite:///study.db": (
        "another goal",
    ),
}


@pytest.fixture(scope="module")
def place(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one thing of each kind, good and bad."""
    return make_place(keras, tmp_path_factory.mktemp("bad_input"))


@pytest.fixture
def refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    """Run a command in this process, plainly and with --json; no child may be started."""

    def no_child(**_: Any) -> None:
        raise AssertionError("A child was started")

    def run(line: str, *words: str, code: int = 2) -> None:
        for arguments in (line.split(), [*line.split(), "--json"]):
            before = everything_in(place)
            assert cli.run(arguments) == code
            out, err = capsys.readouterr()
            check(out, err, words)
            assert everything_in(place) == before

    monkeypatch.chdir(place)
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
    monkeypatch.setattr(family, "Nursery", no_child)
    return run


def check(out: str, err: str, words: tuple[str, ...]) -> None:
    """Hold what a refused command printed against the rule for errors."""
    assert out == ""
    assert err.startswith("Error: ")
    assert 1 <= len(err.splitlines()) <= 2
    assert [word for word in words if word not in err] == [], err
    assert [noise for noise in NOISE if noise in err] == [], err
    assert len(err) < 400, err


@pytest.mark.parametrize(("model", "words"), MODELS.items(), ids=list(MODELS))
def test_a_model_that_is_none_is_refused_at_once(
    refused: Refused, model: str, words: tuple[str, ...]
) -> None:
    """A wrong, damaged or untrusted model file is told before any process is started."""
    refused(f"tune {model} --sample x.npy --out tuned2", *words)


@pytest.mark.parametrize(("sample", "words"), SAMPLES.items(), ids=list(SAMPLES))
def test_rows_that_are_none_are_refused_at_once(
    refused: Refused, sample: str, words: tuple[str, ...]
) -> None:
    """A sample that no model takes is told before any process is started."""
    refused(f"tune m.keras {sample} --out tuned2", *words)


@pytest.mark.parametrize(("options", "words"), OPTIONS.items(), ids=list(OPTIONS))
def test_an_option_out_of_range_is_refused_at_once(
    refused: Refused, options: str, words: tuple[str, ...]
) -> None:
    """An option that cannot be used is told with its value, before any process is started."""
    refused(f"tune m.keras --sample x.npy {options}", *words)


@pytest.mark.parametrize(("line", "words"), READING.items(), ids=list(READING))
def test_what_cannot_be_read_is_refused_without_keras(
    refused: Refused, line: str, words: tuple[str, ...]
) -> None:
    """`show` and `predict` tell a missing, damaged, changed or newer file at once."""
    refused(line, *words)


@pytest.mark.parametrize("out", ["x.npy/below", "/proc/x"])
def test_a_place_that_cannot_be_written_is_told_before_any_work(refused: Refused, out: str) -> None:
    """Where the system forbids the folder, another one is asked for."""
    refused(f"tune m.keras --sample x.npy --out {out}", "Cannot write", out, "another folder")


def test_a_password_is_not_printed(place: Path) -> None:
    """The message about a storage that cannot be used leaves out the password in its URL."""
    done = autotune(place, "tune m.keras --sample x.npy --storage nodb://me:hunter2@host/x")
    assert done.returncode == 2, done.stderr
    check(done.stdout, done.stderr, ("nodb", "sqlite:///tune.db"))
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(("line", "words"), LOADING.items(), ids=list(LOADING))
def test_what_only_the_loaded_model_shows_is_told_in_a_line(
    place: Path, line: str, words: tuple[str, ...]
) -> None:
    """What a child finds wrong with model and rows reaches the user as one clear line."""
    before = everything_in(place)
    done = autotune(place, line if line.startswith("predict") else f"{line} --out tuned2")
    assert done.returncode == 2, done.stderr
    check(done.stdout, done.stderr, words)
    assert everything_in(place) == before


def test_a_budget_that_nothing_meets_is_a_no(place: Path) -> None:
    """Exit code 1, and the fastest that was measured is told."""
    before = everything_in(place)
    line = f"tune m.keras --sample x.npy --out tuned2 --latency-budget 1us {QUICK} --json"
    done = autotune(place, line)
    assert done.returncode == 1
    check(done.stdout, done.stderr, ("No batch size meets 1.00 us", "the fastest, ", "takes "))
    assert everything_in(place) == before


def test_debug_shows_where_an_error_comes_from(place: Path) -> None:
    """`--debug` adds the traceback, and changes neither the code nor the last line."""
    done = autotune(place, "tune nope.keras --sample x.npy --debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"Error: Model file not found: nope.keras. The working folder is {place}."
    )
