"""What all commands share: help, options, exit codes for slips of the hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperOption

from autotune import cli

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
PAGE = Path(__file__).parents[1] / "docs" / "command-line.md"

each_command = pytest.mark.parametrize("name", list(COMMANDS))


def options_of(name: str) -> list[str]:
    """All options of a command with their two dashes."""
    options = [param for param in COMMANDS[name].params if isinstance(param, TyperOption)]
    return [opt for option in options for opt in option.opts if opt.startswith("--")]


@each_command
def test_help_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command's help can be pasted from, and has a word on each of its options."""
    assert cli.run([name, "--help"]) == 0
    assert f"Example: autotune {name}" in capsys.readouterr().out
    assert [p.name for p in COMMANDS[name].params if not getattr(p, "help", "")] == []


@each_command
def test_each_command_has_the_common_options(name: str) -> None:
    """Whatever one does, it can be told less or more, and its result can be had as JSON."""
    common = {"--json", "--quiet", "--verbose", "--config", "--no-config", "--debug"}
    assert common <= set(options_of(name))


@each_command
def test_the_page_on_the_command_line_speaks_of_each_command(name: str) -> None:
    """docs/command-line.md is whole."""
    assert f"`autotune {name}" in PAGE.read_text()


@each_command
def test_a_misspelt_option_is_told_with_the_right_one(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of each option, without its last letter: exit code 2, one line, and what it should be."""
    for option in options_of(name):
        if option[:-1] in options_of(name):
            continue
        assert cli.run([name, option[:-1]]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"Error: No such option: {option[:-1]}. Did you mean ")
        assert f"{option} " in err.replace("?", " ")
        assert err.endswith(f" See: autotune {name} --help\n")
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", ["tun", "prediction", "sohw"])
def test_a_misspelt_command_is_told_with_the_right_one(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line, and the command that was meant."""
    assert cli.run([name]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"Error: No such command '{name}'. Did you mean ")
    assert err.endswith("? See: autotune --help\n")


@pytest.mark.parametrize(
    "name", [n for n, c in COMMANDS.items() if any(p.required for p in c.params)]
)
def test_what_is_missing_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that needs an argument says which."""
    assert cli.run([name]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Error: Missing ")
    assert err.endswith(f" See: autotune {name} --help\n")


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`autotune` alone lists the commands, and says nothing of an error."""
    assert cli.run([]) == 2
    out, err = capsys.readouterr()
    assert all(name in out for name in COMMANDS)
    assert "Error" not in err


def test_with_v_what_was_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-v` tells what is logged, the settings among it; the result stays alone on its stream."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.toml").write_text("[show]\njson = true\n")
    assert cli.run(["show", "nope.json", "-v", "--config", "x.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "Settings are read from x.toml."
    assert "Error: Cannot read nope.json" in err


def test_a_reader_that_goes_away_is_no_fault() -> None:
    """`autotune ... | head -1` shows no traceback."""
    command = [sys.executable, "-m", "autotune.cli", "tune", "--help"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
    assert told == ""


def test_json_of_the_demo_is_json_alone() -> None:
    """With `--json -v` the probes go to standard error, and standard output is one document."""
    command = [sys.executable, "-m", "autotune.cli", "demo", "--budget", "1s", "--json", "-v"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(done.stderr.splitlines()) >= len(found["record"]["outcomes"]) > 0
    assert "rows/s" in done.stderr
