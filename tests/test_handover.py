"""Handing over: folders that are whole, replace only their own kind, and hold harmless text."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import Candidate, Failure, artifact, cli
from autotune.errors import InvalidInput, InvalidModel, InvalidRecord
from autotune.handover import MANIFEST, TARGETS, hand_over
from autotune.handover.writing import comment, literal, quoted, shown, slug
from autotune.outcomes import OutOfMemory
from autotune.records import Input, TuningRecord
from tests.batchers import timed
from tests.handed import PAIR
from tests.tunings import MODEL, XEON, replaced, tuned_on

HOME = Path(__file__).parents[1]
PYTHON = ("fastapi", "rayserve", "bentoml", "spark")
HOSTILE = [
    *('"""\nimport os\nos.abort()\n"""', "'; drop", "{{7*7}}", "${x}$y", "%s%n", "a/b\\c"),
    *("<script>", "`whoami`", "../../etc/passwd", "=cmd|calc", "\x1b[31m", "\u202egnp", "网", "🦆"),
    *("\\", '"', "x" * 5000, "CON", ".", "\ud800", "\x00"),
]
IN_JSON = [name for name in HOSTILE if name != "\ud800"]  # half of a character is no text


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    every = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in every}


@pytest.fixture
def service(tuned_folder: Path, tmp_path: Path) -> Path:
    """A FastAPI service that was handed over."""
    hand_over(tuned_folder, "fastapi", tmp_path / "service")
    return tmp_path / "service"


def test_a_hand_over_lists_what_it_wrote(tuned_folder: Path, tmp_path: Path) -> None:
    """The result names every file but the list itself, and nothing else is left behind."""
    written = hand_over(tuned_folder, "fastapi", tmp_path / "a" / "service")
    assert {*written.files, MANIFEST} == contents(tmp_path / "a" / "service").keys()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["service"]
    assert contents(tmp_path / "a" / "service" / "tuned") == contents(tuned_folder)


def test_an_earlier_one_is_replaced(tuned_folder: Path, service: Path) -> None:
    """Writing again, for another target even, leaves nothing of the first."""
    (service / "__pycache__").mkdir()
    (service / "__pycache__" / "app.cpython-311.pyc").touch()
    hand_over(tuned_folder, "csv", service)
    assert contents(service).keys() == {"curve.csv", MANIFEST}


def test_what_was_changed_since_is_kept_unless_forced(tuned_folder: Path, service: Path) -> None:
    """Whoever edited the service does not lose his work by a second export."""
    (service / "app.py").write_text("# mine\n")
    before = contents(service)
    with pytest.raises(InvalidInput, match=r"'app\.py'.*--force"):
        hand_over(tuned_folder, "fastapi", service)
    assert contents(service) == before
    hand_over(tuned_folder, "fastapi", service, force=True)
    assert (service / "app.py").read_text() != "# mine\n"


@pytest.mark.parametrize("force", [False, True])
def test_what_others_wrote_is_never_replaced(
    tuned_folder: Path, service: Path, force: bool
) -> None:
    """A folder with a file that no hand-over wrote stays as it is, forced or not."""
    (service / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match=r"'notes\.txt', which autotune did not write"):
        hand_over(tuned_folder, "fastapi", service, force=force)
    with pytest.raises(InvalidInput, match="did not write"):
        hand_over(tuned_folder, "fastapi", tuned_folder, force=force)
    assert (service / "notes.txt").read_text() == "mine"


def test_a_hand_over_that_fails_leaves_nothing(
    tuned_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the folder nor those above it, nor anything beside them, are there then."""

    def fail(*_: object) -> None:
        raise InvalidModel("no")

    monkeypatch.setattr(artifact, "copy", fail)
    with pytest.raises(InvalidModel):
        hand_over(tuned_folder, "fastapi", tmp_path / "a" / "service")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("manifest", [b"{}", b"", b"\xff", b'{"files": {"app.py": "0"}}'])
def test_a_damaged_list_is_no_list(tuned_folder: Path, service: Path, manifest: bytes) -> None:
    """Where it cannot be told what was written, nothing is replaced."""
    (service / MANIFEST).write_bytes(manifest)
    with pytest.raises(InvalidInput, match="did not write"):
        hand_over(tuned_folder, "csv", service, force=True)


def test_mistakes_are_told_before_any_work(tuned_folder: Path, tmp_path: Path) -> None:
    """An unknown target, a file in the way, a link, and a folder that was never tuned."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="no target 'k8s'; there are: tfserving, triton"):
        hand_over(tuned_folder, "k8s", tmp_path / "out")
    for name in ("file", "link"):
        with pytest.raises(InvalidInput, match="is not a folder"):
            hand_over(tuned_folder, "csv", tmp_path / name)
    with pytest.raises(InvalidInput, match="Cannot write"):
        hand_over(tuned_folder, "csv", tmp_path / "file" / "out")
    with pytest.raises(InvalidRecord, match="not found"):
        hand_over(tmp_path / "nothing", "csv", tmp_path / "out")
    with pytest.raises(InvalidInput, match="lies in the tuned folder"):
        hand_over(tuned_folder, "fastapi", tuned_folder / "service")
    assert not (tmp_path / "out").exists()


def hostile(tmp_path: Path, name: str) -> Path:
    """A tuned folder whose record has one name everywhere, and a model that is never opened."""
    record = tuned_on(
        replaced(XEON, device=name),
        replaced(MODEL, name=name, inputs=(Input(name, (10,), "float32"),)),
        created=name,
    )
    artifact.write(tmp_path / "tuned", record, lambda path: path.write_bytes(b"model"))
    return tmp_path / "tuned"


@pytest.mark.parametrize("name", IN_JSON, ids=lambda name: ascii(name)[:20])
def test_no_name_can_become_code(tmp_path: Path, name: str) -> None:
    """Whatever a model, an input or a machine is called, only comments differ."""
    import ast

    trees = set()
    for place, each in (("plain", "net"), ("hostile", name)):
        tuned = hostile(tmp_path / place, each)
        for target in ("fastapi", "rayserve"):
            out = tmp_path / place / target
            hand_over(tuned, target, out)
            trees.add((target, ast.dump(ast.parse((out / "app.py").read_text()))))
        dockerfile = (tmp_path / place / "fastapi" / "Dockerfile").read_text()
        assert dockerfile.count("\nRUN ") == 2
    assert len(trees) == 2


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:20])
def test_a_literal_is_the_text_again(name: str) -> None:
    """Python reads back what was written, and the source is plain ASCII on one line."""
    source = literal(name)
    assert eval(source) == name  # noqa: S307  that it is harmless is what is shown
    assert source.isascii()
    assert source.isprintable()
    assert eval(literal([(name, 1, None)])) == [(name, 1, None)]  # noqa: S307


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:20])
def test_a_name_is_one_plain_line_elsewhere(name: str) -> None:
    """A comment, a folder's name and code in Markdown stay what they are."""
    assert all(line.startswith("# ") or line == "" for line in comment(name).split("\n"))
    assert all(len(line) <= 100 for line in comment(f"{name} {name}"[:200]).split("\n"))
    assert Path(slug(name)).name == slug(name)
    assert slug(name) not in ("", ".", "..", "CON")
    assert len(slug(name)) <= 90
    assert quoted(name).isascii()
    assert "\n" not in shown(name)
    assert "`" not in shown(name)[1:-1]


def test_a_curve_is_a_table_of_all_that_was_tried(tmp_path: Path) -> None:
    """One line a probe, numbers as numbers, and no cell that a spreadsheet would run."""
    outcomes = (
        timed(8, 0.125),
        OutOfMemory(Candidate(16, "=evil()"), message="+1"),
        Failure(Candidate(32), kind="crash", message="\t@x"),
    )
    record = tuned_on(XEON, outcomes=outcomes)
    artifact.write(tmp_path / "tuned", record, lambda path: path.write_bytes(b"model"))
    hand_over(tmp_path / "tuned", "csv", tmp_path / "out")
    with (tmp_path / "out" / "curve.csv").open(newline="") as file:
        first, second, third = csv.DictReader(file)
    assert (first["rows_per_s"], first["outcome"], first["recommended"]) == (
        *("64.0", "measured"),
        "True",
    )
    assert (second["engine"], second["outcome"], second["message"]) == (
        *("'=evil()", "out_of_memory"),
        "'+1",
    )
    assert (third["outcome"], third["message"]) == ("crash", "' @x")
    assert (second["rows_per_s"], second["peak_bytes"]) == ("", "")


@pytest.mark.needs("ruff")
@pytest.mark.parametrize("target", PYTHON)
def test_what_was_written_is_clean(tuned_folder: Path, tmp_path: Path, target: str) -> None:
    """Code that is handed over is as ruff wants this project's own to be."""
    hand_over(tuned_folder, target, tmp_path / "out")
    (tmp_path / "ruff.toml").write_text(
        f"extend = {str(HOME / 'pyproject.toml')!r}\nsrc = ['out']\n"
        "[lint.isort]\nknown-third-party = ['autotune']\n"
    )
    for command in ("check", "format"):
        words = ["-m", "ruff", command, "--no-cache", "--config", tmp_path / "ruff.toml"]
        words += ["--check"] * (command == "format")
        line = [sys.executable, *map(str, words), str(tmp_path / "out")]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.needs("ruff")
@pytest.mark.parametrize("target", PYTHON)
def test_a_service_opens_the_model_as_it_was_opened_here(
    tuned_folder: Path, tmp_path: Path, target: str
) -> None:
    """Modules of the model's own classes, and the leave to run its code, stand in the service."""
    hand_over(tuned_folder, target, tmp_path / "out", imports=["json"], unsafe=True)
    text = "".join(path.read_text() for path in (tmp_path / "out").glob("*.py"))
    assert ', imports=["json"], unsafe=True)' in text


def test_the_command_says_what_it_wrote(
    tuned_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files, without those of the tuned folder; as JSON with the numbers."""
    out = str(tmp_path / "out")
    assert cli.run(["export", str(tuned_folder), "--to", "fastapi", "--out", out]) == 0
    text = capsys.readouterr().out
    assert text == f"Written to {out}: Dockerfile, README.md, app.py, requirements.txt\n"
    assert cli.run(["export", str(tuned_folder), "--to", "csv", "--out", out, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    record = TuningRecord.load(tuned_folder / "record.json")
    assert record.recommendation is not None
    assert (told["target"], told["files"]) == ("csv", ["curve.csv"])
    assert told["limits"]["batch_size"] == record.recommendation.batch_size
    assert told["limits"]["reasons"]["batch_size"]


def test_the_command_refuses_in_one_line(
    tuned_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake is one line on standard error and exit code 2, with nothing written."""
    out = str(tmp_path / "out")
    for words in (["--to", "k8s", "--out", out], ["--to", "csv", "--out", "/dev/null"]):
        assert cli.run(["export", str(tuned_folder), *words]) == 2
        told = capsys.readouterr()
        assert (told.out, told.err.count("\n")) == ("", 1)
    assert not (tmp_path / "out").exists()


def test_the_help_names_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    """What the option says is what there is."""
    assert cli.run(["export", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(target in text for target in TARGETS)
    assert "Example: autotune export" in text


@pytest.mark.parametrize("target", ["bentoml", "spark"])
def test_a_model_that_a_server_cannot_take_is_refused(
    keras: Any, tmp_path: Path, save: Callable[..., Path], target: str, two_by_two: Any
) -> None:
    """Free axes in Spark, several inputs in BentoML: the message names what stands in the way."""
    model = two_by_two
    inputs: tuple[Input, ...] = PAIR
    if target == "spark":
        layers = keras.layers
        stack = [keras.Input((None, 2), name="x"), layers.GlobalMaxPooling1D(), layers.Dense(1)]
        model, inputs = keras.Sequential(stack), (Input("x", (None, 2), "float32"),)
    record = tuned_on(XEON, replaced(MODEL, inputs=inputs))
    artifact.write(tmp_path / "tuned", record, model.save)
    with pytest.raises(InvalidModel, match=r"2 inputs|free length"):
        hand_over(tmp_path / "tuned", target, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_to_try_a_model_fit_it(tmp_path: Path) -> None:
    """Text, whole numbers, truth and free axes are drawn as the record describes them."""
    from autotune.handover.order import FREE_LENGTH, Order

    inputs = (
        *(Input("t", (1,), "string"), Input("n", (None,), "int32")),
        *(Input("b", (), "bool"), Input("f", (2, 3), "float16")),
    )
    record = tuned_on(XEON, replaced(MODEL, inputs=inputs))
    artifact.write(tmp_path / "tuned", record, lambda path: path.write_bytes(b"model"))
    rows = Order(artifact.read(tmp_path / "tuned")).example(2)
    assert {name: array.shape for name, array in rows.items()} == {
        "t": (2, 1),
        "n": (2, FREE_LENGTH),
        "b": (2,),
        "f": (2, 2, 3),
    }
    assert [rows[name].dtype.kind for name in "tnbf"] == ["U", "i", "b", "f"]
    assert rows["n"].max() <= 1
    assert np.isfinite(rows["f"]).all()


@pytest.mark.parametrize("target", ["spark", "bentoml"])
def test_names_that_code_must_know_are_literals(tmp_path: Path, target: str) -> None:
    """Where a name stands in code it is read back as it was, whatever it holds."""
    import ast

    from tests.batchers import doubler

    name = "".join(IN_JSON[:-4])
    record = tuned_on(XEON, replaced(MODEL, name=name, inputs=(Input(name, (3,), "float32"),)))
    artifact.write(tmp_path / "tuned", record, doubler().save)
    hand_over(tmp_path / "tuned", target, tmp_path / "out")
    source = (
        tmp_path / "out" / {"spark": "scoring.py", "bentoml": "service.py"}[target]
    ).read_text()
    texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    assert name in texts
    assert source.isascii()
