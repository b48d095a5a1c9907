"""The documents say what the code does, and what they show runs."""

from __future__ import annotations

import ast
import functools
import inspect
import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import autotune
from autotune import cli
from autotune.judging import quantile_verdict
from autotune.records import json_schema
from tests.pages import DOCS, HOME, PAGES, anchors, blocks, commands, name_of, prose

ROOMS = sorted((HOME / "autotune").rglob("*.py"))
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")

RUN_ELSEWHERE = {"ray.md"}  # pages whose Python needs a cluster: tests/test_on_ray.py has one
NEEDS = {"report.md": ("altair", "vl_convert")}  # packages that a page asks its reader to install
RUN_HERE = [
    pytest.param(page, marks=[pytest.mark.needs(name) for name in NEEDS.get(page.name, ())])
    for page in DOCS
    if page.name not in RUN_ELSEWHERE and any(not file for file, _ in blocks(page, "python"))
]
# So that neither a second in place of a minute nor a busy machine makes a page fail.
EASIER = {"0.020": "5.0", "2 * 2**30": "2**40"}


def test_the_schema_in_docs_is_that_of_the_record() -> None:
    """docs/record.schema.json is made from the structs; CONTRIBUTING.md tells the command."""
    assert json.loads((HOME / "docs/record.schema.json").read_text()) == json.loads(
        json.dumps(json_schema())
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a file of this project finds it, and the heading in it."""
    for target, anchor in LINK.findall(prose(page)):
        if ":" in target:
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{name_of(page)} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_extras_that_are_named_exist(page: Path) -> None:
    """Whatever stands in brackets after `pip install` is an extra of pyproject.toml."""
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    named = re.findall(r"pip install '[\w.-]*\[([\w,-]+)\]'", page.read_text())
    for extra in ",".join(named).split(","):
        assert extra in {"", *project["optional-dependencies"]}, f"{name_of(page)}: {extra}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_understood(page: Path) -> None:
    """Each `autotune ...` in a block for a shell names a command, and options that it has."""
    group: Any = typer.main.get_command(cli.app)
    for words in commands(page):
        if "autotune" not in words:
            continue
        name, *arguments = words[words.index("autotune") + 1 :]
        if name.startswith("-"):  # an option of the program itself, such as --version
            continue
        assert name in group.commands, f"{name_of(page)}: autotune {name}"
        if "--help" not in arguments:
            group.commands[name].make_context(name, arguments)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, keras: Any) -> Path:
    """A folder with the files that pages speak of: a model, rows, and a tuned folder."""
    place = tmp_path_factory.mktemp("docs")
    layers = keras.layers
    model = keras.Sequential([keras.Input((6,), name="x"), layers.Dense(4), layers.Dense(2)])
    model.save(place / "model.keras")
    rows = np.random.default_rng(0).random((60, 6), dtype=np.float32)
    np.save(place / "rows.npy", rows)
    goal = autotune.Goal(max_batch_size=8)
    predictor = autotune.tune(model, rows, goal, engines=["keras"], budget_s=0.5, isolation="none")
    predictor.save(place / "tuned")
    return place


@pytest.mark.parametrize("page", RUN_HERE, ids=name_of)
def test_python_in_a_page_runs(
    page: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page's blocks of Python run, one after the other, beside the files that it speaks of."""
    place = tmp_path / "place"
    shutil.copytree(tuned, place)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    hasty = functools.partial(
        autotune.tune, engines=["keras"], concurrency=[1], budget_s=0.5, isolation="none"
    )
    monkeypatch.setattr(autotune, "tune", hasty)
    programs = []
    for file, code in blocks(page, "python"):
        if file:
            (place / file).write_text(code)
        else:
            programs.append(code)
    # What pages take for granted: the package, rows, and what was tuned before.
    rows = np.load("rows.npy")
    names: dict[str, Any] = {"autotune": autotune, "rows": rows, "sample": rows}
    names["predictor"] = autotune.load("tuned/")
    names["record"] = names["predictor"].record
    for code in programs:
        for hard, easy in EASIER.items():
            code = code.replace(hard, easy)
        exec(compile(code, name_of(page), "exec"), names)  # noqa: S102


def shape_of(function: Any) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults of a function's parameters."""
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


def test_the_contract_has_the_signatures_of_the_code() -> None:
    """Parameters and defaults in docs/contract.md are those of the functions and values."""
    names: dict[str, Any] = {}
    for _, code in blocks(HOME / "docs/contract.md", "python"):
        exec(code, names)  # noqa: S102
    stubs = {name: stub for name, stub in names.items() if inspect.isfunction(stub)}
    assert {"tune", "search", "load", "Measurement"} <= set(stubs)
    for name, stub in stubs.items():
        assert shape_of(stub) == shape_of(getattr(autotune, name)), name


def test_the_counts_of_calls_are_those_of_the_verdict() -> None:
    """The table of calls that a quantile takes is true: one call fewer is not enough."""
    text = (HOME / "docs/how-it-decides.md").read_text()
    rows = re.findall(r"^\| (none|\d) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) == 4
    for over, *counts in rows:
        beyond = 0 if over == "none" else int(over)
        for calls, quantile in zip(map(int, counts), (0.90, 0.95, 0.99), strict=True):
            assert quantile_verdict(calls, beyond, quantile) == "pass"
            assert quantile_verdict(calls - 1, beyond, quantile) != "pass"


def test_the_api_pages_have_every_public_name() -> None:
    """Each name in `autotune.__all__` has its entry in docs/api/."""
    text = "\n".join(page.read_text() for page in (HOME / "docs/api").glob("*.md"))
    entries = re.findall(r"^::: autotune\.(\w+)$", text, re.MULTILINE)
    assert set(autotune.__all__) - set(entries) == set()


def undocumented(room: Path) -> list[str]:
    """Public classes, functions and methods of a file, and public names of types, without a word.

    Nested functions are nobody's business, and a property is documented where it is read.
    """
    tree = ast.parse(room.read_text())
    found = [] if ast.get_docstring(tree) else [room.stem]
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    public = [node.body for node in classes if not node.name.startswith("_")]
    for body in (tree.body, *public):
        for node in body:
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            is_setter = any(isinstance(d, ast.Attribute) for d in node.decorator_list)
            if not (node.name.startswith("_") or is_setter or ast.get_docstring(node)):
                found.append(f"{room.stem}.{node.name}")
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in autotune.__all__ and not isinstance(after, ast.Expr):
                found.append(f"{room.stem}.{name}")
    return found


def test_everything_public_is_documented() -> None:
    """No room, and no public class, function, method or type, is without a docstring."""
    assert [name for room in ROOMS for name in undocumented(room)] == []
