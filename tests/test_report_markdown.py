"""Markdown for a pull request: all of the answer, and no name that is more than text."""

from __future__ import annotations

import re
import shlex

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from autotune import Candidate, Failure, Goal, Measurement, OutOfMemory, TuningRecord, cli
from autotune.records import Baseline
from autotune.report.markdown import MARK, code, markdown, prose
from autotune.report.repeating import command
from autotune.units import parse_bytes, parse_seconds, parse_share
from tests.reports import HOSTILE, hostile_record
from tests.test_records import RECORDS
from tests.tunings import MODEL, XEON, replaced, tuned_on

OURS = {"<details>", "</details>"}


def tokens_of(text: str) -> list[Token]:
    """All tokens of a Markdown text, those of its lines included."""
    found = MarkdownIt("commonmark").enable("table").parse(text)
    return [inner for token in found for inner in (token, *(token.children or ()))]


def shape_of(text: str) -> list[str]:
    """What a Markdown text is made of, without its words."""
    return [token.type for token in tokens_of(text) if token.type != "text"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_name_is_text(text: str) -> None:
    """With any text in all places the Markdown has the structure that a plain word gives it."""
    found = markdown(hostile_record(text))
    assert shape_of(found) == shape_of(markdown(hostile_record("x")))
    seen = " ".join(token.content for token in tokens_of(found) if token.type == "text")
    assert not re.search(r"@octocat|#1\b", seen)
    assert all(char.isprintable() or char in "\n\u200b" for char in found)


@pytest.mark.parametrize("text", [*HOSTILE.values(), "- x", "1. x", "# x", "> x", "---", "    x"])
def test_names_read_as_they_are(text: str) -> None:
    """What a reader sees of a name is the name, with its control characters as spaces."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    seen = [token.content for token in tokens_of(f"a {prose(text)}") if token.type == "text"]
    assert " ".join("".join(seen).replace("\u200b", "").split()) == " ".join(
        f"a {shown if len(shown) <= 300 else shown[:297] + '...'}".split()
    )


@given(st.text(st.characters()))
def test_code_is_one_piece_of_code(text: str) -> None:
    """Any text becomes exactly one code span, with no bar that a table could be cut at."""
    span = code(text)
    (paragraph,) = [token for token in tokens_of(f"a {span} b") if token.type == "inline"]
    assert [child.type for child in paragraph.children or ()] == ["text", "code_inline", "text"]
    assert "|" not in span


def test_the_answer_its_gain_and_the_curve_are_told() -> None:
    """A pull request gets the answer, before and after, the curve and the machine."""
    outcomes = (
        Measurement(Candidate(4), (0.1, 0.1)),
        Measurement(Candidate(8), (0.1, 0.1)),
        OutOfMemory(Candidate(16)),
        Failure(Candidate(4, "xla"), kind="crash"),
    )
    baseline = Baseline(
        candidate=Candidate(32, "predict"),
        rows_per_s=20.0,
        rows_per_s_low=19.0,
        rows_per_s_high=21.0,
        latency_s=1.6,
    )
    text = markdown(replaced(tuned_on(XEON), outcomes=outcomes, baselines=(baseline,)))
    lines = text.splitlines()
    assert lines[0] == MARK
    assert (
        lines[1]
        == r"### autotune: Batches of 8 rows with keras: 80.0 rows/s, 4.0 times model.predict."
    )
    interval = "19.0 rows/s to 21.0 rows/s"
    assert f"| `model.predict, 32 rows` | 20.0 rows/s | {interval} | 1.60 s | 4.0 times |" in lines
    assert "| **tuned**: `8 rows, keras` | 80.0 rows/s |  | 100 ms |  |" in lines
    assert "| 4 | 40.0 rows/s | crash |" in lines
    assert "| 8 | **80.0 rows/s** |  |" in lines
    assert "| 16 | out of memory |  |" in lines
    assert "* Machine: `Intel Xeon`, 2 processors, 8.00 GiB" in lines


@given(RECORDS)
def test_any_record_has_markdown(record: TuningRecord) -> None:
    """Whatever a record holds, there is Markdown of it, which begins with its mark."""
    assert markdown(record).startswith(MARK)


GOALS = (
    Goal(),
    Goal("makespan", rows=1797, tolerance=0.05),
    Goal("latency", latency_budget_s=0.0123, quantile=0.999, min_batch_size=2, max_batch_size=64),
    Goal(memory_budget_bytes=6 * 2**30 + 1),
)


@pytest.mark.parametrize("goal", GOALS)
def test_the_command_repeats_the_tuning(goal: Goal) -> None:
    """The command line reads the command that a report names, and gets the same goal from it."""
    model = replaced(MODEL, source="my models/mlp.keras")
    record = replaced(tuned_on(XEON, model), goal=goal, budget_s=0.1 + 0.2, seed=7)
    words = shlex.split(command(record))
    assert words[:3] == ["autotune", "tune", "my models/mlp.keras"]
    commands = typer.main.get_command(cli.app)
    context = commands.commands["tune"].make_context("tune", words[2:])  # type: ignore[attr-defined]
    given_ = context.params
    read = Goal(
        objective=given_["objective"],
        rows=given_["rows"],
        latency_budget_s=given_["latency_budget"] and parse_seconds(given_["latency_budget"]),
        quantile=parse_share(given_["quantile"]),
        memory_budget_bytes=given_["memory_budget"] and parse_bytes(given_["memory_budget"]),
        min_batch_size=given_["min_batch_size"],
        max_batch_size=given_["max_batch_size"],
        tolerance=parse_share(given_["tolerance"]),
    )
    assert read == goal
    assert (parse_seconds(given_["budget"]), given_["seed"]) == (0.1 + 0.2, 7)
    assert (given_["engine"], given_["concurrency"]) == (["keras"], [1])


def test_the_command_leaves_the_engines_open_where_all_were_tried() -> None:
    """Where each engine was tried or could not be, the command does not name them."""
    others = dict.fromkeys(("compiled", "xla", "onnxruntime", "openvino"), "No.")
    assert "--engine" not in command(replaced(tuned_on(XEON), unavailable=others))
