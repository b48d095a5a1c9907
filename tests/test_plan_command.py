"""`autotune plan`, as a user runs it, on records that were made without tuning."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from autotune import cli
from tests.test_plan import record_with


@pytest.fixture
def record(tmp_path: Path) -> str:
    """A record's file."""
    path = tmp_path / "record.json"
    record_with().save(path)
    return str(path)


def test_a_plan_is_a_sentence_a_setting_and_a_table(
    record: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first line answers; the table has a line for each rate, with the price."""
    asked = ["plan", record, "--rate", "20k/s", "--p99", "100ms", "--price", "0.5"]
    assert cli.run(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    answer = re.match(
        r"(\d+) replicas answer 20,000 requests/s with 99 % of them within 100 ms for (.*) an hour",
        lines[0],
    )
    assert answer
    assert float(answer[2]) == 0.5 * int(answer[1])
    assert "MicroBatcher(predictor, " in lines[1]
    rates = [line.split()[0] for line in lines[lines.index("") + 2 :]]
    assert rates == ["10.0", "100", "1,000", "10,000", "20,000", "100,000", "1,000,000"]


def test_json_is_the_plan(record: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints all of it, for the rate that rows make of requests."""
    asked = ["plan", record, "--rate", "60k rows/min", "--p99", "0.1s", "--json"]
    assert cli.run([*asked, "--rows-per-request", "4", "--headroom", "0%"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["load"]["rate_per_s"] == 250
    assert plan["load"]["replicas"] == 1
    assert plan["headroom"] == 0
    assert len(plan["loads"]) == 7


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--rate 0/s --p99 50ms", 2, ("--rate", "positive and finite", "'0/s'")),
        ("--rate -5/s --p99 50ms", 2, ("--rate", "'-5/s'")),
        ("--rate 100 --p99 50ms", 2, ("--rate", "'100'", "1000/s")),
        ("--rate 1/parsec --p99 50ms", 2, ("--rate", "'1/parsec'")),
        ("--rate 5/s --p99 50", 2, ("--p99", "'50'", "20ms")),
        ("--rate 5/s", 2, ("--p99",)),
        ("--rate 5/s --p99 50ms --quantile 2", 2, ("quantile", "0.999", "2")),
        ("--rate 5/s --p99 50ms --price -1", 2, ("price_per_hour", "-1")),
        ("--rate 5/s --p99 50ms --price nan", 2, ("price_per_hour", "nan")),
        ("--rate 5/s --p99 50ms --headroom -20%", 2, ("headroom", "-0.2")),
        (
            "--rate 5/s --p99 50ms --rows-per-request 0",
            2,
            ("rows-per-request", "greater than or equal to 1"),
        ),
        ("--rate 5/s --p99 50ms --request-overhead 5", 2, ("--request-overhead", "'5'")),
        ("--rate 5/s --p99 1us", 1, ("99 % of the requests within 1.00 us", "ms for one of 1 row")),
    ],
)
def test_what_cannot_be_planned_is_said_on_one_line(
    options: str, code: int, words: tuple[str, ...], record: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the option and what came; nothing goes to standard output."""
    assert cli.run(["plan", record, *options.split()]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    for word in words:
        assert word in printed.err


def test_a_folder_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is neither a record nor a tuned folder is bad input."""
    for path in (tmp_path, tmp_path / "nope"):
        assert cli.run(["plan", str(path), "--rate", "5/s", "--p99", "1s"]) == 2
        assert str(path) in capsys.readouterr().err


def test_its_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The help can be pasted from."""
    assert cli.run(["plan", "--help"]) == 0
    assert "Example: autotune plan tuned/ --rate 1000000/s" in capsys.readouterr().out
