"""Settings from a file: where it is found, what may stand in it, and how its faults are told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from autotune import cli, settings
from autotune.commands.common import with_common_options
from autotune.errors import InvalidInput
from autotune.settings import Option, find, read

COMMANDS = {
    "tune": {
        "budget": Option("budget", str),
        "max-batch-size": Option("max_batch_size", int),
        "engine": Option("engine", list[str]),
        "concurrency": Option("concurrency", list[int]),
        "sample": Option("sample", Path),
        "import": Option("imports", list[str]),
        "unsafe-load": Option("unsafe_load", bool),
        "ray": Option("ray", str),
        "quiet": Option("quiet", bool),
    },
    "show": {"quiet": Option("quiet", bool)},
}
TOML = """
[tool.autotune]
quiet = true
[tool.autotune.tune]
budget = "2min"
max_batch_size = 64
engine = ["keras", "compiled"]
sample = "rows/x.npy"
"""
YAML = """
quiet: true
tune:
  budget: 2min
  max-batch-size: 64
  engine: [keras, compiled]
  sample: rows/x.npy
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Write a file into the working folder of this test."""
    monkeypatch.chdir(tmp_path)

    def write_text(name: str, text: str) -> Path:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
        return Path(name)

    return write_text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", TOML),
        ("x.toml", TOML.replace("tool.autotune.", "").replace("[tool.autotune]", "")),
        ("x.yaml", YAML),
        ("conf/x.YML", YAML),
    ],
)
def test_all_kinds_of_files_say_the_same(
    write: Callable[[str, str], Path], name: str, text: str
) -> None:
    """Keys take dashes or underscores, paths begin at the file; what is above is for all."""
    file = write(name, text)
    assert read(file, COMMANDS) == {
        "tune": {
            "quiet": True,
            "budget": "2min",
            "max_batch_size": 64,
            "engine": ["keras", "compiled"],
            "sample": file.parent / "rows/x.npy",
        },
        "show": {"quiet": True},
    }


def test_the_nearest_pyproject_with_a_table_is_found(
    write: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those on the way upward that say nothing of autotune are passed over."""
    write("pyproject.toml", TOML)
    write("a/pyproject.toml", "[tool.other]\nx = 1\n")
    write("a/b/c", "")
    assert find() == Path("pyproject.toml")
    monkeypatch.chdir("a/b")
    assert find() == Path("../../pyproject.toml")
    assert read(find() or Path(), COMMANDS)["tune"]["sample"] == Path("../../rows/x.npy")


def test_without_a_file_nothing_is_found(
    write: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty YAML file says nothing; a folder without a pyproject.toml has none."""
    assert read(write("x.yaml", ""), COMMANDS) == {"tune": {}, "show": {}}
    monkeypatch.setattr(settings, "PYPROJECT", "nobody-has-this.toml")
    assert find() is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("buget = 1", r"x\.toml has an unknown setting 'buget'\. Did you mean 'budget'\?"),
        ("[tume]", r"unknown setting 'tume'\. Did you mean 'tune'\?"),
        ("[tune]\nbuget = 1", r"unknown setting 'tune\.buget'\. Did you mean 'budget'\?"),
        ("[show]\nxyz = 1", r"'show\.xyz'\. There are: quiet"),
        ("[tune]\nbudget = 60", r"x\.toml: 'budget' must be text in quotes, but got 60"),
        ("[tune]\nquiet = 'yes'", r"'quiet' must be true or false, but got 'yes'"),
        ("[tune]\nmax_batch_size = 2.5", r"'max_batch_size' must be a whole number, but got 2\.5"),
        ("[tune]\nmax_batch_size = true", r"must be a whole number, but got True"),
        ("[tune]\nengine = 'keras'", r"'engine' must be a list of texts.*but got 'keras'"),
        ("[tune]\nconcurrency = ['1']", r"must be a list of whole numbers.*but got a list"),
        ("[tune.budget]", r"'budget' must be text in quotes, but got a dict"),
        ("[tune", r"x\.toml cannot be read as settings: TOMLDecodeError"),
    ],
)
def test_a_fault_is_told_with_file_and_key(
    write: Callable[[str, str], Path], text: str, words: str
) -> None:
    """The message names the file, the key, what was expected and what came."""
    with pytest.raises(InvalidInput, match=words):
        read(write("x.toml", text), COMMANDS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- b", "holds no table of settings, but a list"),
        ("just words", "no table of settings, but a str"),
        ("tune: {budget: !!python/object:os.system x}", "ConstructorError"),
        ("a: b: c", "ScannerError"),
        ("\x00", "cannot be read as settings"),
        ("1: 2", "unknown setting '1'"),
        ("tune: {budget: null}", "'budget' must be text in quotes, but got a NoneType"),
        ("tune: {budget: 2020-01-01}", "but got a date"),
    ],
)
def test_hostile_yaml_is_refused(write: Callable[[str, str], Path], text: str, words: str) -> None:
    """Nothing but plain values is read from YAML, and each fault is one line."""
    with pytest.raises(InvalidInput, match=words) as caught:
        read(write("x.yaml", text), COMMANDS)
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_are_none_are_refused(write: Callable[[str, str], Path]) -> None:
    """A missing file, another kind of file, and a pyproject.toml that says nothing of autotune."""
    with pytest.raises(InvalidInput, match=r"Cannot read nope\.toml: No such file"):
        read(Path("nope.toml"), COMMANDS)
    with pytest.raises(InvalidInput, match=r"expected \.toml, \.yaml or \.yml"):
        read(write("x.json", "{}"), COMMANDS)
    with pytest.raises(InvalidInput, match=r"has no table \[tool\.autotune\]"):
        read(write("pyproject.toml", "[tool.x]"), COMMANDS)


@pytest.mark.parametrize("text", ["import = ['evil']", "unsafe-load = true", "ray = 'evil:1'"])
def test_what_runs_code_counts_only_in_a_file_that_is_named(
    write: Callable[[str, str], Path], text: str
) -> None:
    """A project that was only just cloned cannot have code run."""
    file = write("pyproject.toml", f"[tool.autotune.tune]\n{text}\n")
    with pytest.raises(InvalidInput, match=r"lets code run.*--config pyproject\.toml"):
        read(file, COMMANDS, named=False)
    assert len(read(file, COMMANDS)["tune"]) == 1


# Through the command line


Run = Callable[[str], dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line of one command, and return what the command was given."""
    given: dict[str, Any] = {}

    def score(
        name: str,
        budget: Annotated[str, typer.Option()] = "60s",
        engine: Annotated[list[str] | None, typer.Option()] = None,
        json: Annotated[bool, typer.Option("--json")] = False,
    ) -> None:
        """A command."""
        level = logging.getLogger("autotune").level
        given.update(name=name, budget=budget, engine=engine, json=json, level=level)

    def other() -> None:
        """A second one, for Typer makes no group of one."""

    app = typer.Typer()
    app.callback()(lambda: None)
    for command in (score, other):
        app.command()(with_common_options(command))
    monkeypatch.setattr(cli, "app", app)

    def run_line(line: str) -> dict[str, Any]:
        given.clear()
        given["code"] = cli.run(line.split())
        return dict(given)

    return run_line


def test_settings_are_defaults_and_the_command_line_wins(
    write: Callable[[str, str], Path], run: Run
) -> None:
    """What the line gives goes before the file, and the file before the command's own default."""
    write("pyproject.toml", '[tool.autotune.score]\nbudget = "2min"\nengine = ["a", "b"]\n')
    assert run("score x") | {"level": 0} == {
        "code": 0,
        "name": "x",
        "budget": "2min",
        "engine": ["a", "b"],
        "json": False,
        "level": 0,
    }
    assert run("score x --budget 1s --engine c")["budget"] == "1s"
    assert run("score x --budget 1s --engine c")["engine"] == ["c"]
    assert run("score x --no-config")["budget"] == "60s"
    write("x.yaml", "score: {budget: 3s, json: true}")
    named = run("score x --config x.yaml")
    assert (named["budget"], named["engine"], named["json"]) == ("3s", None, True)


def test_a_bad_file_ends_the_command_and_not_its_help(
    write: Callable[[str, str], Path], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line; the help is there all the same, and so is --no-config."""
    write("pyproject.toml", "[tool.autotune.score]\nbuget = 1\n")
    assert run("score x") == {"code": 2}
    assert capsys.readouterr().err == (
        "Error: pyproject.toml has an unknown setting 'score.buget'. Did you mean 'budget'?\n"
    )
    assert run("score --help")["code"] == 0
    assert run("score x --no-config")["code"] == 0


def test_an_error_says_which_file_was_read(
    write: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Who has long forgotten the file is told that it was read."""
    write("pyproject.toml", '[tool.autotune.tune]\nbudget = "2 parsecs"\n')
    assert cli.run(["tune", "m.keras", "--synthetic"]) == 2
    err = capsys.readouterr().err
    assert "Error: --budget: '2 parsecs' is not a time" in err
    assert err.endswith("\nSettings were read from pyproject.toml.\n")


@pytest.mark.parametrize(
    ("options", "level"),
    [("", logging.WARNING), ("-v", logging.INFO), ("-q", logging.ERROR), ("-q -v", logging.ERROR)],
)
def test_options_say_how_much_is_logged(
    write: Callable[[str, str], Path], run: Run, options: str, level: int
) -> None:
    """Warnings by default; each probe with -v; errors alone with -q; afterwards as before."""
    before = logging.getLogger("autotune").level
    assert run(f"score x {options}")["level"] == level
    assert logging.getLogger("autotune").level == before
    assert logging.getLogger("autotune").handlers == []
