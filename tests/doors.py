"""Random command lines and damaged files, put in at the command line's doors in this process."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import typer
from hypothesis import strategies as st
from typer.core import TyperOption

from autotune import cli, family
from autotune.errors import ProbeFailed

CODES = {0, 1, 2, 3, 4, 130}
NO_CHILD = "No child is started at this door."
# They leave the process, write into the home folder, or show a traceback by design.
LEFT_OUT = {"--install-completion", "--show-completion", "--version", "--debug"}
SLOW_COMMANDS = {"doctor"}  # it starts a backend

COMMANDS = {
    name: [p for p in command.params if isinstance(p, TyperOption)]
    for name, command in typer.main.get_command(cli.app).commands.items()  # type: ignore[attr-defined]
    if name not in SLOW_COMMANDS
}
VALUES = [
    *("0", "-1", "1", "3.5", "1e9", "nan", "inf", "True", "None", "", " ", "20ms", "2min", "6GiB"),
    *("95%", "throughput", "makespan", "keras", "compiled", "a=1,2", "sqlite:///x.db", "a:b", ":"),
    *("sqlite://", "../..", "/", "/dev/null", "/proc/self/mem", "~", "x" * 5000, "tuned", "id"),
    *("é\u202e名", "a\0b", "\x1b[31m", "[bold]", "{x}", "%s", "--", "-", "\udcff", "'", "a\nb"),
]


@st.composite
def lines(draw: st.DrawFn, files: Sequence[str]) -> list[str]:
    """A command with arguments and options that may be right, wrong, or no such thing at all."""
    name = draw(st.sampled_from([*COMMANDS, "tun", ""]))
    value = st.sampled_from([*files, *files, *VALUES]) | st.text(max_size=20)
    line = [name, *draw(st.lists(value, max_size=3))]
    known = [opt for option in COMMANDS.get(name, []) for opt in option.opts]
    flags = {opt for option in COMMANDS.get(name, []) if option.is_flag for opt in option.opts}
    for _ in range(draw(st.integers(0, 4))):
        option = draw(st.sampled_from(known) if known else st.just("--help"))
        option = draw(st.sampled_from([option, option, option, option[:-1], f"{option}=x"]))
        line.append(option)
        if option not in flags:
            line.append(draw(value))
    return [word for word in line if word not in LEFT_OUT]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The content of a file, cut off, or with some of its bytes changed or others put in."""
    at = draw(st.integers(0, len(whole)))
    match draw(st.sampled_from(["cut", "change", "insert", "zeros", "nothing"])):
        case "cut":
            return whole[:at]
        case "change":
            new = draw(st.binary(min_size=1, max_size=8))
            return whole[:at] + new + whole[at + len(new) :]
        case "insert":
            return whole[:at] + draw(st.binary(min_size=1, max_size=8)) + whole[at:]
        case "zeros":
            return whole[:at] + bytes(64) + whole[at + 64 :]
    return whole


@contextlib.contextmanager
def standing_in(place: Path) -> Iterator[None]:
    """Work in a folder, where no child can be started and nobody's home is touched."""

    def no_child(**_: object) -> None:
        raise ProbeFailed(NO_CHILD)

    before = Path.cwd()
    os.chdir(place)
    try:
        with (
            mock.patch.object(family, "Nursery", no_child),
            mock.patch.object(tempfile, "tempdir", str(place / "tmp")),
            mock.patch.dict(os.environ, {"HOME": str(place)}),
        ):
            yield
    finally:
        os.chdir(before)


def try_door(line: list[str]) -> str:
    """Run a command line, and return what is wrong with how it ended; "" where nothing is."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.run(line)
        except SystemExit as error:  # Typer's own doors, such as completion
            return f"SystemExit({error.code})"
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
    told = err.getvalue()
    if code not in CODES:
        return f"exit code {code}"
    if "Traceback" in told or "should not happen" in told:
        return told
    if code == 2 and told and len(told.splitlines()) > 3:
        return f"{len(told.splitlines())} lines: {told}"
    unprintable = [c for c in told if not c.isprintable() and c not in "\n"]
    return f"unprintable {unprintable[:5]}" if unprintable else ""


def shown(line: Sequence[str]) -> str:
    """A command line as one could paste it."""
    return " ".join(["autotune", *map(shlex.quote, line)])[:500].encode("unicode_escape").decode()
