"""Verifying: what is unchanged is not called slower, and what lost its advantage is."""

from __future__ import annotations

import collections
import io
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from autotune import Candidate, Failure, Goal, InvalidSample, Outcome, OutOfMemory, TuningRecord
from autotune.claims import claim_of
from autotune.comparing import Gap
from autotune.entrants import _like, _within_memory
from autotune.findings import verified
from autotune.records import Input, Round
from autotune.trial import judge_advantage, judge_lead
from autotune.verifying import Verification, measure_again
from tests.noisy import NoisyMachine, calm, tuned
from tests.tunings import MODEL, tuned_on

TOLERANCE = 0.05
BUDGET_S = 20.0
SEEDS = 200

gaps = st.builds(Gap, st.floats(-3, 3), st.floats(0.0, 0.5))
tolerances = st.floats(0.001, 0.5)


@pytest.fixture(scope="module")
def records() -> list[TuningRecord]:
    """What four tunings of one machine recorded, each with its own luck."""
    return [tuned(seed, noise=0.05) for seed in range(4)]


def again(record: TuningRecord, machine: Any, **options: Any) -> Verification:
    """Hold a record against a machine."""
    terms = {"budget_s": BUDGET_S, "tolerance": TOLERANCE} | options
    return measure_again(record, machine, **terms)


def slower(record: TuningRecord, times: float) -> dict[Candidate, float]:
    """What was recommended takes so many times longer than it did."""
    return {claim_of(record).recommended: times}


def test_what_is_unchanged_is_hardly_ever_called_slower(records: list[TuningRecord]) -> None:
    """At 5 % noise no more than 5 % of 200 verdicts on an unchanged machine are wrong."""
    verdicts: collections.Counter[str] = collections.Counter()
    for seed in range(SEEDS):
        record = records[seed % len(records)]
        verdicts[again(record, NoisyMachine(1000 + seed), seed=seed).verdict] += 1
    wrong = verdicts["slower"] + verdicts["faster"] + verdicts["fails"]
    assert wrong <= 0.05 * SEEDS, verdicts
    assert verdicts["same"] >= 0.7 * SEEDS, verdicts


def test_a_fifth_slower_is_told(records: list[TuningRecord]) -> None:
    """A recommendation that takes a quarter longer is never called the same."""
    verdicts: collections.Counter[str] = collections.Counter()
    for seed in range(40):
        record = records[seed % len(records)]
        machine = NoisyMachine(seed, slower=slower(record, 1.25))
        found = again(record, machine, seed=seed)
        verdicts[found.verdict] += 1
        assert found.verdict != "slower" or "Tune again." in found.reason
    assert verdicts["slower"] >= 38, verdicts
    assert verdicts["same"] == verdicts["faster"] == 0, verdicts


def test_slower_is_said_only_where_the_intervals_say_so(records: list[TuningRecord]) -> None:
    """Whatever the change, its published interval lies beyond the tolerance all along."""
    seen = set()
    for seed in range(24):
        record = records[seed % len(records)]
        machine = NoisyMachine(seed, slower=slower(record, 1.0 + seed / 80))
        found = again(record, machine, seed=seed)
        now, then, lead = found.advantage, found.recorded_advantage, found.runner_up_lead
        assert now is not None
        assert then is not None
        assert lead is not None
        lost = now.high < (1 - TOLERANCE) * then.low or lead.low > 1 / (1 - TOLERANCE)
        assert lost == (found.verdict == "slower")
        seen.add(found.verdict)
    assert seen >= {"same", "slower"}


def test_a_new_best_is_told(records: list[TuningRecord]) -> None:
    """Where the advantage over the baseline holds, but another engine overtook, it is slower."""
    record = records[0]
    claim = claim_of(record)
    assert claim.runner_up is not None
    found = again(record, NoisyMachine(slower={claim.runner_up: 0.5}))
    assert found.verdict == "slower"
    assert f"no longer the best: {claim.runner_up}" in found.reason


def test_a_machine_that_gains_is_told(records: list[TuningRecord]) -> None:
    """A recommendation that takes half the time holds, and more."""
    found = again(records[0], NoisyMachine(slower=slower(records[0], 0.5)))
    assert (found.verdict, found.warnings) == ("faster", ())


def test_a_slower_machine_is_none_that_makes_a_recommendation_slower() -> None:
    """At half speed in everything the ratios are as they were, and so is the verdict."""
    machine = NoisyMachine(noise=0.02, tide=lambda _: math.log(2))
    record = tuned(noise=0.02)
    found = again(record, machine)
    assert found.verdict == "same"
    assert found.speed is not None
    assert found.speed.rows_per_s == pytest.approx(found.recorded_rows_per_s / 2, rel=0.2)


def test_too_much_noise_is_undecided_when_the_budget_ends(records: list[TuningRecord]) -> None:
    """It says so, and takes no longer than it may."""
    found = again(records[0], NoisyMachine(noise=1.0), budget_s=5.0)
    assert found.verdict == "undecided"
    assert "larger budget" in found.reason
    assert 5.0 <= found.spent_s <= 5.1


def test_too_little_time_is_undecided(records: list[TuningRecord]) -> None:
    """With fewer than eight rounds nothing is said, however clear it looks."""
    found = again(records[0], NoisyMachine(noise=0.0), budget_s=0.3)
    assert found.verdict == "undecided"
    assert "after 5 rounds, of the 8 that it takes" in found.reason


def test_what_does_not_run_fails(records: list[TuningRecord]) -> None:
    """The reason carries the message, and no time is spent on the others."""
    chosen = claim_of(records[0]).recommended

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        if candidate == chosen:
            return Failure(candidate, kind="mismatch", message="It is not installed.")
        return NoisyMachine()(candidate, seconds)

    found = again(records[0], probe)
    assert (found.verdict, found.rounds) == ("fails", 1)
    assert found.reason.endswith("does not run here: It is not installed.")
    assert found.speed is None
    assert found.advantage is None


def test_without_its_runner_up_the_advantage_decides(records: list[TuningRecord]) -> None:
    """One that cannot be timed here is told, and the rest goes on."""
    runner_up = claim_of(records[0]).runner_up

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        if candidate == runner_up:
            return OutOfMemory(candidate, message="No memory.")
        return NoisyMachine(candidate.batch_size, noise=0.01)(candidate, seconds)

    found = again(records[0], probe)
    assert found.verdict in ("same", "undecided")
    assert f"Not timed: {runner_up}. No memory." in found.warnings


def test_a_record_of_one_candidate_has_nothing_to_compare_with() -> None:
    """That is undecided, with the remedy."""
    record = tuned_on(None, rounds=(Round("search", 1, 0),))
    found = again(record, NoisyMachine())
    assert found.verdict == "undecided"
    assert "nothing to compare with. Tune again." in found.reason
    assert len(found.warnings) == 2


@pytest.mark.parametrize(("late", "verdict"), [(1.0, {"same", "undecided"}), (1.2, {"slower"})])
def test_a_latency_budget_may_not_be_exceeded_by_more_than_the_tolerance(
    late: float, verdict: set[str]
) -> None:
    """On a machine that is slower in everything the ratios hold, but a latency budget does not."""
    goal = Goal(latency_budget_s=1.25e-3, max_batch_size=256)
    record = tuned(noise=0.003, goal=goal, tide=calm)
    machine = NoisyMachine(noise=0.003, tide=lambda _: math.log(late))
    found = again(record, machine)
    assert found.verdict in verdict
    assert ("takes longer than 1.25 ms at the 95% quantile" in found.reason) == (late > 1.1)


@pytest.mark.parametrize(
    "goal", [Goal("latency", max_batch_size=64), Goal("makespan", rows=1000, max_batch_size=256)]
)
def test_each_goal_is_held_against_its_own_objective(goal: Goal) -> None:
    """What is best for latency or for one job is not held against who serves more rows."""
    found = again(tuned(noise=0.01, goal=goal), NoisyMachine(noise=0.01))
    assert found.verdict == "same", found.reason


def test_the_runner_up_is_another_answer() -> None:
    """It is of another lane, or of a batch size half or twice as large."""
    claim = claim_of(tuned(noise=0.01))
    one, other = claim.recommended, claim.runner_up
    assert other is not None
    sizes = sorted((one.batch_size, other.batch_size))
    assert one.engine != other.engine or sizes[1] >= 2 * sizes[0]
    assert claim.baseline == Candidate(32)


@given(gaps, gaps, tolerances)
def test_an_advantage_is_lost_only_where_no_value_of_then_would_do(
    now: Gap, then: Gap, tolerance: float
) -> None:
    """A value of now's interval that is within the tolerance of one of then's speaks against it."""
    finding = judge_advantage(now, then, tolerance)
    best_now, least_then = math.exp(now.high), math.exp(then.low)
    if finding == "lost":
        assert best_now < (1 - tolerance) * least_then * (1 + 1e-9)
    elif best_now < (1 - tolerance) * least_then * (1 - 1e-9):
        raise AssertionError(finding)
    if finding in ("holds", "gained"):
        assert now.low > then.log_ratio + math.log1p(-tolerance) - 1e-9


@given(gaps, tolerances)
def test_a_lead_is_lost_only_where_all_of_it_is(lead: Gap, tolerance: float) -> None:
    """Where the interval holds the edge of the tolerance, nothing is known."""
    edge = -math.log1p(-tolerance)
    found = judge_lead(lead, tolerance)
    assert (found == "unknown") == (lead.low <= edge <= lead.high)


def test_what_took_more_memory_than_there_is_is_not_tried() -> None:
    """The peak of the record is held against what may be used here."""
    record = tuned_on(None)
    peak = msgspec.structs.replace(record.outcomes[0], device_peak_bytes=2**30)
    record = msgspec.structs.replace(record, outcomes=(peak,))
    machine = NoisyMachine()
    refused = _within_memory(machine, record, 2**29)(Candidate(8), 0.1)
    assert isinstance(refused, OutOfMemory)
    assert "1.00 GiB" in refused.message
    assert machine.tried == []
    for limit in (2**30, None):
        _within_memory(machine, record, limit)(Candidate(8), 0.1)
    assert machine.tried == [Candidate(8)] * 2


def test_rows_are_drawn_like_the_records_inputs() -> None:
    """An axis whose length the record does not tell asks for rows."""
    assert _like(tuned_on(None)).shapes == {"x": (10,)}
    free = msgspec.structs.replace(MODEL, inputs=(Input("text", (None,), "int32"),))
    with pytest.raises(InvalidSample, match=r"'text' has free axes, \(None, None\).*--sample"):
        _like(tuned_on(None, free))


def test_the_text_begins_with_the_verdict(records: list[TuningRecord]) -> None:
    """Then come the ratios with their intervals, then the notes."""
    found = again(records[0], NoisyMachine(slower=slower(records[0], 1.3)))
    found = msgspec.structs.replace(found, differences=("keras 3.15 -> 3.16",))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(verified(found))
    lines = console.export_text().splitlines()
    assert lines[0] == found.reason
    assert [line.split()[0] for line in lines[1:6]] == [
        "advantage",
        "runner-up",
        "speed",
        "latency",
        "effort",
    ]
    assert "predict_on_batch of 32 rows; recorded" in lines[1]
    assert lines[6] == "Note: Tuned under other conditions: keras 3.15 -> 3.16."
