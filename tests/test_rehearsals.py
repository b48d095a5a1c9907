"""After a search its answer serves requests for a while: at a few rates, in turn."""

from __future__ import annotations

import pytest

from autotune.errors import InvalidModel
from autotune.outcomes import Candidate, Failure, Measurement, Outcome, Rehearsal
from autotune.records import TuningRecord
from autotune.rehearsals import (
    CALLS,
    LEAST_S,
    LOADS,
    REQUEST_S,
    ROUNDS,
    SHARE,
    WARM_SHARE,
    rehearsals_of,
)
from autotune.schedule import Schedule
from autotune.scheduling import schedule_for
from tests.batchers import record_of


class Probe:
    """Notes what is asked, and answers with two calls, or not at all from some time on."""

    def __init__(self, answers: int = 100, measures: int = 100, *, raises: bool = False) -> None:
        self.measured = 0
        self.asked: list[tuple[float, float]] = []
        self.schedules: list[Schedule] = []
        self._answers, self._measures, self._raises = answers, measures, raises

    def __call__(self, candidate: Candidate, seconds: float, /) -> Outcome:
        """Calls of a second each at first, then of two, and so on."""
        self.measured += 1
        if self.measured > self._measures:
            if self._raises:
                raise InvalidModel("It cannot be loaded again.")
            return Failure(candidate, kind="model_error", elapsed_s=seconds)
        return Measurement(candidate, (float(self.measured),) * 3)

    def rehearse(
        self, candidate: Candidate, schedule: Schedule, rows_per_s: float, seconds: float
    ) -> Rehearsal | None:
        """Note it."""
        self.asked.append((rows_per_s, seconds))
        self.schedules.append(schedule)
        if len(self.asked) > self._answers:
            if self._raises:
                raise InvalidModel("It cannot be loaded again.")
            return None
        return Rehearsal(
            candidate=candidate,
            rows_per_s=rows_per_s,
            rows=(1, candidate.batch_size),
            flights=(1, 1),
            times_s=(1.0, 2.0),
        )


def recommended(call_s: float = 0.001, flights: int = 2) -> TuningRecord:
    """A record whose answer is 48 rows, whose calls take so long."""
    return record_of(Candidate(48, concurrency=flights), call_s=call_s)


def test_rates_take_turns_and_share_the_time() -> None:
    """Each comes once a round, and is served as a batcher of the record would serve it."""
    probe, record = Probe(), recommended()
    found = rehearsals_of(probe, record, budget_s=60.0)
    assert record.recommendation is not None
    most = 1 / (1 / record.recommendation.rows_per_s + REQUEST_S)
    rates = [pytest.approx(load * most) for load in LOADS] * ROUNDS
    assert [rate for rate, _ in probe.asked] == rates
    assert [each.rows_per_s for each in found] == rates
    spent_s = sum(seconds for _, seconds in probe.asked) / (1 - WARM_SHARE)
    assert spent_s == pytest.approx(SHARE * 60.0)
    assert set(probe.schedules) == {schedule_for(record.recommendation, record)}


def test_calls_as_in_the_search_stand_beside_it() -> None:
    """Timed just before each, and after: 1 s and 2 s, 2 s and 3 s, and so on."""
    probe = Probe()
    found = rehearsals_of(probe, recommended(), budget_s=60.0)
    assert probe.measured == len(LOADS) * ROUNDS + 1
    assert [each.warm_s for each in found] == [1.5 + n for n in range(len(LOADS) * ROUNDS)]


def test_with_little_time_there_are_fewer_rounds_or_none() -> None:
    """Each part has its least time, and each rate room for calls of full size."""
    least_s = len(LOADS) * LEAST_S / SHARE
    for budget_s, rounds in ((3.5 * least_s, 3), (2.5 * least_s, 2), (0.9 * least_s, 0)):
        found = rehearsals_of(Probe(), recommended(), budget_s)
        assert len(found) == rounds * len(LOADS)
    just_s = 2 * SHARE * 60.0 / len(LOADS) / CALLS  # two in flight
    assert rehearsals_of(Probe(), recommended(0.99 * just_s), 60.0) != ()
    assert rehearsals_of(Probe(), recommended(1.01 * just_s), 60.0) == ()


@pytest.mark.parametrize("raises", [False, True])
def test_what_was_served_before_something_broke_stands(*, raises: bool) -> None:
    """Nobody is asked again; a part of which the machine's speed is not known tells nothing."""
    probe = Probe(answers=3, raises=raises)
    assert len(rehearsals_of(probe, recommended(), 60.0)) == 3
    assert len(probe.asked) == 4
    assert len(rehearsals_of(Probe(measures=3, raises=raises), recommended(), 60.0)) == 2
    failing = Probe(measures=0, raises=raises)
    assert rehearsals_of(failing, recommended(), 60.0) == ()
