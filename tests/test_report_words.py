"""What a record is said to say: the heading, gains, ties, failures."""

from __future__ import annotations

from typing import Any

import pytest

from autotune.goal import Goal
from autotune.outcomes import Candidate, Failure, Measurement, Outcome, OutOfMemory
from autotune.recommend import recommend
from autotune.records import Baseline, Forecast, TuningRecord
from autotune.report.facts import facts
from autotune.report.markdown import markdown, prose
from autotune.report.text import precision
from autotune.report.words import answer, gains, notes, printable
from autotune.shortfall import why_nothing
from tests.blocks import standing_of
from tests.test_report import HOSTILE
from tests.tunings import replaced, tuned_on


def baseline(rows_per_s: float) -> Baseline:
    """What the answer is compared with."""
    return Baseline(
        candidate=Candidate(32),
        rows_per_s=rows_per_s,
        rows_per_s_low=None,
        rows_per_s_high=None,
        latency_s=0.1,
    )


def asked(goal: Goal, *outcomes: Measurement, **fields: Any) -> TuningRecord:
    """A record of these measurements under a goal."""
    chosen = recommend(standing_of([outcomes], goal))
    record: TuningRecord = tuned_on(None, goal=goal, outcomes=outcomes, recommendation=chosen)
    return replaced(record, **fields)


def test_the_smallest_latency_is_not_praised_for_speed() -> None:
    """Fewer rows at once run fewer rows a second: that is what was asked for."""
    outcomes = (Measurement(Candidate(1), (0.01,) * 9), Measurement(Candidate(64), (0.1,) * 9))
    record = asked(Goal("latency"), *outcomes, baselines=(baseline(640),))
    assert gains(record) == {}
    assert answer(record) == "Batches of 1 row with keras: 10.0 ms a batch."
    assert [tile.label for tile in facts(record)["tiles"]][:2] == ["Batch size", "Speed"]
    assert "times" not in markdown(record)
    fast = asked(Goal(), *outcomes, baselines=(baseline(10),))
    assert answer(fast).endswith("640 rows/s, 64.0 times predict_on_batch.")
    slow = asked(Goal(), *outcomes, baselines=(baseline(64_000),))
    assert gains(slow) == {Candidate(32): "0.01"}


def test_a_job_is_told_by_its_time() -> None:
    """Where the least seconds for a job were asked for, the heading has them."""
    record = asked(Goal("makespan", rows=640), Measurement(Candidate(64), (0.1,) * 9))
    heading = answer(record)
    assert heading == "Batches of 64 rows with keras: all 640 rows in 1.00 s, 640 rows/s."


def test_no_tie_is_told_with_its_reason() -> None:
    """Others that were worse, or no others within the limits: faster ones may be outside."""

    def apart(record: TuningRecord) -> str:
        return str(dict(facts(record)["trust"])["Not told apart from"])

    small, large = Measurement(Candidate(1), (0.01,) * 99), Measurement(Candidate(64), (0.1,) * 99)
    assert apart(asked(Goal(), small, large)) == (
        "none: every other within the limits was worse by more than 2%"
    )
    limited = asked(Goal(latency_budget_s=0.05), small, large)
    assert apart(limited) == "none: no other is within the limits"


@pytest.mark.parametrize(("changed", "ending"), [(None, "keras"), (0.0, "0.0% of classes changed")])
def test_classes_are_told_where_there_are_classes(changed: float | None, ending: str) -> None:
    """An output without scores to choose from has no share of changed classes."""
    way = Candidate(8, "openvino")
    outcome = Measurement(way, (0.1,) * 9, largest_error=0.002, changed_classes=changed)
    assert precision(asked(Goal(), outcome, precision="bfloat16")).endswith(ending)


def test_the_heading_says_why_there_is_no_answer() -> None:
    """Where everything crashed, that is the heading, and no limit that had no part in it."""
    crashed = Failure(Candidate(1), kind="crash", message=f"killed by SIGSEGV {HOSTILE}")
    record = tuned_on(
        None, None, outcomes=(crashed,), recommendation=None, memory_limit_bytes=2**30
    )
    heading = answer(record)
    assert heading.startswith("No candidate ran: killed by SIGSEGV")
    assert heading == printable(heading)
    (note,) = notes(record)
    assert note.startswith("Failed: keras: 1 row: crash: killed by SIGSEGV")


def test_failures_alike_are_told_together() -> None:
    """The first few kinds of failures are notes where there is no answer, the rest is counted."""
    outcomes: list[Outcome] = [Failure(Candidate(n), kind="timeout") for n in (1, 2, 2)]
    engines = ("xla", "compiled", "openvino")
    outcomes += [Failure(Candidate(1, e), kind="mismatch", message=f"{e} differs") for e in engines]
    record = tuned_on(None, None, outcomes=tuple(outcomes), recommendation=None)
    assert notes(record) == [
        "Failed: keras: 1, 2 rows: timeout",
        "Failed: xla: 1 row: mismatch: xla differs",
        "Failed: compiled: 1 row: mismatch: compiled differs",
        "1 more failed.",
    ]


GIB = 2**30
ONE = Candidate(1)
GOOD = Measurement(ONE, (0.001,) * 9, device_peak_bytes=GIB // 10)
STOPPED = Failure(ONE, kind="stopped", message="others took the memory")
CRASHED = Failure(ONE, kind="crash", message="killed by SIGSEGV")


@pytest.mark.parametrize(
    ("outcomes", "refused", "why"),
    [
        (
            [GOOD, replaced(GOOD, device_peak_bytes=3 * GIB)],
            {},
            "No batch size fits: 1 row, keras needs 3.00 GiB, and 2.00 GiB may be used.",
        ),
        ([GOOD, STOPPED, CRASHED], {}, "No candidate ran: others took the memory (1 row, keras)"),
        ([GOOD, *[STOPPED] * 3], {}, "No candidate ran: others took the memory (1 row, keras)"),
        (
            [CRASHED],
            {Candidate(1, "xla"): 9 * GIB},
            "No batch size fits: 1 row, xla may need 9.00 GiB of 2.00 GiB. "
            "Others failed: killed by SIGSEGV (1 row, keras)",
        ),
        (
            [OutOfMemory(Candidate(8)), CRASHED],
            {},
            "Free some, or use less of it. Others failed: killed by SIGSEGV (1 row, keras)",
        ),
        (
            [Failure(Candidate(1, "xla"), kind="mismatch", message="differs"), CRASHED],
            {},
            "No candidate ran: differs (1 row, xla, and 1 more)",
        ),
    ],
)
def test_why_there_is_no_answer(
    outcomes: list[Outcome], refused: dict[Candidate, int], why: str
) -> None:
    """Nobody is told to raise a latency budget that was not given; each cause is named."""
    assert why in why_nothing(outcomes, Goal(), 2 * GIB, refused)


def test_a_forecast_that_refused_is_in_the_heading() -> None:
    """What was not tried is read off the record's forecasts."""
    forecast = Forecast(candidate=ONE, upper_bound_bytes=9 * GIB, peak_bytes=None, limit_bytes=GIB)
    record = tuned_on(
        None,
        None,
        outcomes=(),
        recommendation=None,
        forecasts=(forecast,),
        memory_limit_bytes=GIB,
    )
    assert answer(record) == "No batch size fits: 1 row, keras may need 9.00 GiB of 1.00 GiB."


@pytest.mark.parametrize("text", ["GH-26", "gh-1", "a.cc:100: no", "@me", "#7"])
def test_shorthand_is_parted(text: str) -> None:
    """What GitHub would make a link or a picture of is parted by a space that is not seen."""
    shown = prose(text).replace("\\", "")
    assert "\u200b" in shown
    assert shown.replace("\u200b", "") == text


def test_a_dollar_is_no_formula() -> None:
    """GitHub sets what stands between dollars as mathematics."""
    assert prose("$x$") == r"\$x\$"
