"""Whatever the bounds and whatever comes of probes: what always holds for a search."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autotune import (
    Candidate,
    Failure,
    Goal,
    Measurement,
    NoFeasibleBatchSize,
    Outcome,
    OutOfMemory,
    TuningRecord,
    search,
)
from autotune.judging import is_allowed, pooled
from autotune.outcomes import FailureKind
from autotune.studies import study_in_memory
from tests.families import make
from tests.simulated import SimulatedDevice

MIB = 2**20
LATER = 10**6  # more probes than any search makes

PRIMES = st.sampled_from([2, 3, 7, 13, 53, 97, 211])
LOWEST = st.just(1) | PRIMES | st.integers(1, 100)
WIDTHS = st.just(0) | st.just(1) | st.integers(0, 600)
OBJECTIVES = st.sampled_from(["throughput", "latency", "makespan"])


@dataclass
class Trouble:
    """A device to which anything can happen.

    Attributes:
        device: What it is in good hours.
        fits: Rows that fit in memory.
        fails_from: Number of the probe from which every one fails.
        fails_every: Every so many-th probe fails as well.
        kind: How they fail.
        disturbed: Whether all calls are told to be disturbed.
        spell: Every so many-th probe takes twice as long.
    """

    device: SimulatedDevice
    fits: int = LATER
    fails_from: int = LATER
    fails_every: int = LATER
    kind: FailureKind = "timeout"
    disturbed: bool = False
    spell: int = LATER
    outcomes: list[Outcome] = field(default_factory=list)

    def __call__(self, candidate: Candidate, seconds: float) -> Outcome:
        """Try a candidate, as a probe does."""
        self.outcomes.append(self._outcome(candidate, seconds))
        return self.outcomes[-1]

    def _outcome(self, candidate: Candidate, seconds: float) -> Outcome:
        number = len(self.outcomes) + 1
        if candidate.batch_size > self.fits:
            return OutOfMemory(candidate, elapsed_s=0.5)
        if number >= self.fails_from or number % self.fails_every == 0:
            return Failure(candidate, kind=self.kind, elapsed_s=0.5)
        outcome = self.device(candidate, seconds)
        assert isinstance(outcome, Measurement)
        slower = 2 if number % self.spell == 0 else 1
        return Measurement(
            candidate,
            tuple(slower * time_s for time_s in outcome.times_s),
            elapsed_s=slower * outcome.elapsed_s,
            device_peak_bytes=outcome.device_peak_bytes,
            disturbed=len(outcome.times_s) * self.disturbed,
        )


TROUBLES = st.builds(
    Trouble,
    st.builds(
        SimulatedDevice,
        call_s=st.sampled_from([1e-6, 1e-4, 1e-2]),
        row_s=st.sampled_from([1e-6, 1e-4]),
        noise=st.sampled_from([0.0, 0.05, 0.5]),
        slow_from=st.none() | st.integers(2, 300),
    ),
    fits=st.just(LATER) | st.just(1) | st.integers(1, 400),
    fails_from=st.just(LATER) | st.just(1) | st.integers(1, 60),
    fails_every=st.just(LATER) | st.integers(2, 40),
    kind=st.sampled_from(["timeout", "crash", "model_error", "mismatch"]),
    disturbed=st.booleans(),
    spell=st.just(LATER) | st.integers(2, 5),
)


def check(record: TuningRecord, goal: Goal, engines: tuple[str, ...], flights: set[int]) -> None:
    """See that the answer was measured, is allowed, and is what was asked for."""
    found = record.recommendation
    assert found is not None
    measured = pooled(record.outcomes)
    assert found.candidate in measured
    peaks_only = Goal()
    assert is_allowed(measured[found.candidate], peaks_only, record.memory_limit_bytes)
    assert goal.min_batch_size <= found.batch_size
    assert found.batch_size <= (goal.max_batch_size or found.batch_size)
    assert found.engine in engines
    assert found.concurrency in flights
    low, high = found.rows_per_s_low, found.rows_per_s_high
    assert (low is None) == (high is None)
    assert (low or 0) <= found.rows_per_s <= (high or float("inf"))
    assert found.more_s is None or found.more_s > 0
    assert found.confidence == "low" or found.more_s is None
    assert found.candidate not in found.tied
    assert sum(a_round.outcomes for a_round in record.rounds) == len(record.outcomes)


@settings(max_examples=150)
@given(
    trouble=TROUBLES,
    lowest=LOWEST,
    width=WIDTHS,
    objective=OBJECTIVES,
    budget_s=st.sampled_from([0.3, 5.0, 60.0]),
    lanes=st.sampled_from([(("keras",), (1,)), (("keras", "b"), (1, 2)), (("b",), (3,))]),
    latency_budget_s=st.none() | st.sampled_from([1e-4, 1e-2, 1.0]),
    limit_rows=st.none() | st.integers(1, 500),
    baseline=st.booleans(),
)
@example(  # the edge of memory above a size that has no other well below it
    trouble=Trouble(SimulatedDevice(call_s=0.1, row_s=1e-4), fits=117),
    lowest=90,
    width=600,
    objective="throughput",
    budget_s=60.0,
    lanes=(("keras",), (1,)),
    latency_budget_s=None,
    limit_rows=None,
    baseline=False,
)
def test_the_recommendation_was_measured_and_is_allowed(
    trouble: Trouble,
    lowest: int,
    width: int,
    objective: Any,
    budget_s: float,
    lanes: tuple[tuple[str, ...], tuple[int, ...]],
    latency_budget_s: float | None,
    limit_rows: int | None,
    baseline: bool,
) -> None:
    """For any bounds and outcomes: an allowed candidate, or the error where there is none.

    The budget is exceeded by no more than the last probe, and each outcome stands in the record.
    """
    trouble.outcomes.clear()  # hypothesis may try an example again
    engines, concurrency = lanes
    goal = Goal(
        objective,
        rows=97,
        min_batch_size=lowest,
        max_batch_size=lowest + width,
        latency_budget_s=latency_budget_s,
    )
    limit = limit_rows and (10 + limit_rows) * MIB
    record: TuningRecord | None
    try:
        record = search(
            trouble,
            goal,
            engines=engines,
            concurrency=concurrency,
            budget_s=budget_s,
            memory_limit_bytes=limit,
            baselines=[Candidate(64), Candidate(128, "predict")] if baseline else [],
        )
    except NoFeasibleBatchSize as error:
        record = error.record
    assert record is not None
    if record.recommendation is not None:
        check(record, goal, engines, set(concurrency))
    else:
        allowed = [
            candidate
            for candidate, measurement in pooled(record.outcomes).items()
            if max(measurement.times_s) <= (latency_budget_s or float("inf"))
            and is_allowed(measurement, Goal(), limit)
            and candidate.engine in engines
            and lowest <= candidate.batch_size <= lowest + width
        ]
        assert allowed == []
    assert list(record.outcomes) == trouble.outcomes
    assert sum(outcome.elapsed_s for outcome in record.outcomes[:-1]) < budget_s


@pytest.mark.parametrize("kind", ["timeout", "crash", "model_error", "mismatch"])
@pytest.mark.parametrize("elapsed_s", [0.0, 1.0, 1000.0])
def test_a_probe_that_always_fails_ends_the_search(kind: Any, elapsed_s: float) -> None:
    """Whatever a failure takes: each lane's smallest size is tried, and the reason is told."""
    tried: list[Candidate] = []

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        tried.append(candidate)
        return Failure(candidate, kind=kind, elapsed_s=elapsed_s)

    with pytest.raises(NoFeasibleBatchSize, match=kind):
        search(probe, engines=("keras", "compiled"), budget_s=60)
    assert set(tried) <= {Candidate(1), Candidate(1, "compiled")}
    assert len(tried) <= 2


def test_where_only_one_row_fits_it_is_the_answer() -> None:
    """The size above runs out of memory once; then one row is timed, and recommended."""
    device = SimulatedDevice(memory_bytes=11 * MIB)
    record = search(device)
    assert record.recommendation is not None
    assert record.recommendation.batch_size == 1
    assert record.recommendation.limited_by == "memory"
    assert device.tried.count(Candidate(2)) == 1


@pytest.mark.parametrize("size", [1, 7, 97])
def test_where_only_one_size_may_be_tried_it_is_the_answer(size: int) -> None:
    """Minimum and maximum are the same: it is measured, and nothing else."""
    device = SimulatedDevice()
    found = search(device, Goal(min_batch_size=size, max_batch_size=size)).recommendation
    assert found is not None
    assert found.confidence == "high"
    assert set(device.tried) == {Candidate(size)}


def test_where_all_is_disturbed_an_answer_is_found_all_the_same() -> None:
    """That is how the machine is: nothing is better than the rest, so the rest is believed."""
    trouble = Trouble(SimulatedDevice(), disturbed=True)
    record = search(trouble, Goal(max_batch_size=512))
    assert record.recommendation is not None
    assert record.recommendation.batch_size > 400
    assert all(a_round.disturbed == a_round.outcomes for a_round in record.rounds)


@pytest.mark.parametrize("objective", ["throughput", "latency", "makespan"])
@pytest.mark.parametrize("seed", range(8))
def test_the_same_seed_and_outcomes_give_the_same_record(objective: Any, seed: int) -> None:
    """On devices of all families, with noise, neighbours and drift, a search is deterministic."""
    first, second = (
        search(
            make(seed, tells_disturbance=True),
            Goal(objective, rows=1000, max_batch_size=256),
            engines=("keras", "compiled"),
            budget_s=5,
            seed=seed,
        )
        for _ in range(2)
    )
    assert first.to_json() == second.to_json()


class Stopped(Exception):
    """Breaks a search off, as Ctrl-C does."""


@settings(max_examples=40)
@given(
    stop_at=st.integers(0, 60),
    seed=st.integers(0, 50),
    noise=st.sampled_from([0.0, 0.05]),
    tail=st.booleans(),
)
def test_a_stopped_search_goes_on_where_it_was(
    stop_at: int, seed: int, noise: float, tail: bool
) -> None:
    """What was finished stands, and is not begun again: blocks add up to one search."""
    goal = Goal(max_batch_size=128, latency_budget_s=0.1 if tail else None)
    device, study = SimulatedDevice(noise=noise, seed=seed), study_in_memory()
    finished: list[Outcome] = []

    def stopping(candidate: Candidate, seconds: float) -> Outcome:
        if len(finished) == stop_at:
            raise Stopped
        finished.append(device(candidate, seconds))
        return finished[-1]

    with contextlib.suppress(Stopped):  # a search may be shorter than that
        search(stopping, goal, study=study, budget_s=20)
    record = search(device, goal, study=study, budget_s=20)
    check(record, goal, ("keras",), {1})
    assert list(record.outcomes[: len(finished)]) == finished
    assert [outcome.candidate for outcome in record.outcomes] == device.tried
    assert sum(outcome.elapsed_s for outcome in record.outcomes[:-1]) < 20
    assert record.recommendation is not None
    truth = device.rows_per_s(Candidate(128))
    assert device.rows_per_s(record.recommendation.candidate) > 0.9 * truth
    if noise == 0.0:
        whole = search(SimulatedDevice(), goal, budget_s=20)
        once = [c for c, n in Counter(o.candidate for o in whole.outcomes).items() if n == 1]
        # A round that was broken off is not taken up again: who was in it may come twice.
        assert all(device.tried.count(candidate) <= 2 for candidate in once)
        assert whole.recommendation is not None
        assert record.recommendation.candidate == whole.recommendation.candidate
