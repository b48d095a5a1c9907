"""Reports as files: whole, where they were wanted, and nothing else lost."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import pytest

from autotune import InvalidInput, cli
from autotune.report.charts import TITLES
from autotune.report.writing import is_report, write
from tests.reports import hostile_record, real_record
from tests.tunings import XEON, tuned_on

pytestmark = [pytest.mark.needs(name) for name in ("altair", "jinja2", "vl_convert")]


@pytest.fixture
def record_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record's file, in the folder that the test runs in."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "record.json"
    tuned_on(XEON).save(path)
    return path


def test_the_command_writes_a_page_by_default(
    record_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`autotune report record.json` writes report.html here, and says so; again is no harm."""
    for _ in range(2):
        assert cli.run(["report", str(record_file)]) == 0
        assert capsys.readouterr().out == "report.html\n"
    assert Path("report.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in Path().iterdir()) == ["record.json", "report.html"]


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The command's help can be pasted from."""
    assert cli.run(["report", "--help"]) == 0
    assert "Example: autotune report" in capsys.readouterr().out


def test_without_the_extra_it_is_told_what_to_install(
    record_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where its packages are missing the page is refused in a line; Markdown needs none."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert cli.run(["report", str(record_file)]) == 2
    assert "pip install 'keras-autotune[report]'" in capsys.readouterr().err
    assert cli.run(["report", str(record_file), "--out", "r.md"]) == 0
    assert not Path("report.html").exists()


def test_json_tells_all_that_was_written(
    record_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json` lists the files, and the plots are a PNG and an SVG each."""
    line = ["report", str(record_file), "--out", "r.md", "--plots", "plots", "--json"]
    assert cli.run(line) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert written[0] == "r.md"
    assert sorted(written[1:]) == sorted(str(path) for path in Path("plots").iterdir())
    assert {Path(name).suffix for name in written[1:]} == {".png", ".svg"}
    assert Path("r.md").read_text().startswith("<!-- keras-autotune report -->")


@pytest.mark.parametrize("name", ["report.html", "r.md", "plots/throughput.png"])
def test_a_file_of_somebody_else_is_not_overwritten(
    record_file: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """What autotune did not write stays as it is, and nothing is written; --force overwrites."""
    theirs = Path(name)
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("<!doctype html><title>my own report of keras-autotune</title>")
    before = sorted(Path().rglob("*"))
    out = name if name != "plots/throughput.png" else "new.html"
    line = ["report", str(record_file), "--out", out, "--plots", "plots"]
    assert cli.run(line) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{name} exists and was not written by autotune report" in captured.err
    assert "--force" in captured.err
    assert sorted(Path().rglob("*")) == before
    assert "my own" in theirs.read_text()
    assert cli.run([*line, "--force"]) == 0
    assert is_report(theirs)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nope.json", ("nope.json", "No such file")),
        ("record.json --out r.pdf", (".html or .md", "r.pdf")),
        ("record.json --out missing/r.html", ("missing", "does not exist")),
        ("record.json --out folder.html", ("folder.html", "is a folder")),
        ("record.json --plots record.json", ("record.json", "is a file")),
        ("record.json --plots missing/plots", ("missing", "does not exist")),
        ("folder.html", ("folder.html", "not a tuned folder")),
    ],
)
def test_bad_input_is_told_in_a_line(
    record_file: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    words: tuple[str, ...],
) -> None:
    """A wrong file or place is exit code 2 and one line, and nothing is written."""
    Path("folder.html").mkdir()
    before = sorted(Path().rglob("*"))
    for more in ([], ["--json"]):
        assert cli.run(["report", *arguments.split(), *more]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert [word for word in words if word not in err] == [], err
    assert sorted(Path().rglob("*")) == before


def test_a_tuned_folder_is_kept_clean(tmp_path: Path) -> None:
    """A report in a tuned folder would keep a later tuning from replacing it, and is refused."""
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    for name in ("record.json", "model.keras"):
        (tuned / name).touch()
    files = {"record.json": "", "model.keras": ""}
    (tuned / "manifest.json").write_text(json.dumps({"format_version": 1, "files": files}))
    for place in (tuned / "report.html", tmp_path / "report.html"):
        with pytest.raises(InvalidInput, match="tuned folder"):
            write(tuned_on(XEON), place, plots=tuned / "plots")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tuned"]


def test_pictures_are_whole_and_say_who_made_them(tmp_path: Path) -> None:
    """Each PNG has chunks with right checksums, each SVG one root, and both are recognised."""
    written = write(real_record(), tmp_path / "r.html", tmp_path / "plots")
    names = {path.stem for path in written[1:]}
    assert names <= set(TITLES)
    assert {"throughput", "latency", "search"} <= names
    for path in written:
        assert is_report(path)
        if path.suffix == ".png":
            assert chunks_of(path.read_bytes())[:2] == [b"IHDR", b"tEXt"]
        if path.suffix == ".svg":
            assert path.read_text().count("<svg") >= 1
            assert "NaN" not in path.read_text()
    assert not is_report(tmp_path / "none.html")


def chunks_of(png: bytes) -> list[bytes]:
    """The kinds of a PNG's chunks, each of which is as it was written."""
    kinds, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        body = png[at + 4 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length]) == (zlib.crc32(body),)
        kinds.append(body[:4])
        at += 12 + length
    return kinds


def test_hostile_names_are_in_no_picture_but_as_text(tmp_path: Path) -> None:
    """An SVG of hostile names has no element that runs or loads anything."""
    written = write(hostile_record("<script>hit()</script>"), tmp_path / "r.md", tmp_path / "plots")
    for path in written[1:]:
        if path.suffix == ".svg":
            assert "<script" not in path.read_text()


def test_a_link_or_a_pipe_is_not_taken_for_a_report(tmp_path: Path) -> None:
    """What is not a plain file is no report, and looking at it does not hang."""
    os.mkfifo(tmp_path / "pipe.html")
    with pytest.raises(InvalidInput, match="was not written by autotune"):
        write(tuned_on(XEON), tmp_path / "pipe.html")
