"""After a search its answer is rehearsed: by one thread, by two, in turns, in little time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from autotune.errors import InvalidModel
from autotune.outcomes import Candidate, Failure, Measurement, Outcome, Rehearsal
from autotune.records import Recommendation
from autotune.rehearsals import CALLS, LEAST_S, ROUNDS, SHARE, WARM_SHARE, rehearsals_of
from tests.batchers import record_of


class Probe:
    """Notes what is asked, and answers with two calls, or with nothing from some time on."""

    def __init__(
        self,
        answers: float = float("inf"),
        lost_s: Sequence[float] = (),
        *,
        fails: bool = False,
        breaks: str = "",
    ) -> None:
        self.measured = 0
        self.asked: list[tuple[int, float]] = []
        self.sizes: set[tuple[int, ...]] = set()
        self._answers, self._lost_s, self._fails, self._breaks = answers, lost_s, fails, breaks

    def __call__(self, candidate: Candidate, seconds: float, /) -> Outcome:
        """Calls of a second each at first, then of two, and so on."""
        self.measured += 1
        if self._breaks == "measured":
            raise InvalidModel("It cannot be loaded again.")
        if self._fails:
            return Failure(candidate, kind="model_error", elapsed_s=seconds)
        return Measurement(candidate, (float(self.measured),) * 3)

    def rehearse(
        self, candidate: Candidate, sizes: Sequence[int], callers: int, seconds: float
    ) -> Rehearsal | None:
        """Note it."""
        if self._breaks == "rehearsed":
            raise InvalidModel("It cannot be loaded again.")
        self.asked.append((callers, seconds))
        self.sizes.add(tuple(sizes))
        if len(self.asked) > self._answers:
            return None
        number = float(len(self.asked))
        lost_s = (self._lost_s[len(self.asked) - 1], 0.0) if self._lost_s else ()
        return Rehearsal(
            candidate=candidate,
            callers=callers,
            rows=(1, candidate.batch_size),
            times_s=(number, 2 * number),
            lost_s=lost_s if any(lost_s) else (),
        )


def recommended(call_s: float = 0.001, flights: int = 2) -> Recommendation:
    """The answer 48 rows, whose calls take so long."""
    chosen = record_of(Candidate(48, concurrency=flights), call_s=call_s).recommendation
    assert chosen is not None
    return chosen


def test_numbers_of_threads_take_turns_and_share_the_time() -> None:
    """Each is asked once a round, for sizes that the predictor is ready for."""
    probe = Probe()
    found = rehearsals_of(probe, recommended(), budget_s=60.0)
    assert [callers for callers, _ in probe.asked] == [1, 2] * ROUNDS
    spent_s = sum(seconds for _, seconds in probe.asked) / (1 - WARM_SHARE)
    assert spent_s == pytest.approx(SHARE * 60.0)
    assert probe.sizes == {(1, 6, 12, 24, 48)}
    assert [each.callers for each in found] == [1, 2]
    assert found[0].rows == (1, 48) * ROUNDS
    assert found[0].times_s == (1.0, 2.0, 3.0, 6.0, 5.0, 10.0)
    assert found[1].times_s == (2.0, 4.0, 4.0, 8.0, 6.0, 12.0)
    assert found[0].lost_s == ()


def test_calls_as_in_the_search_stand_beside_it() -> None:
    """Timed just before each."""
    probe = Probe()
    found = rehearsals_of(probe, recommended(), budget_s=60.0)
    assert probe.measured == 2 * ROUNDS
    assert [each.warm_s for each in found] == [3.0, 4.0]  # of 1, 3, 5 and of 2, 4, 6


def test_what_was_lost_stays_beside_its_call() -> None:
    """Where it was felt in one of the rounds, there is a figure for each call of all."""
    found = rehearsals_of(Probe(lost_s=(0, 0, 0.5, 0, 0, 0)), recommended(), budget_s=60.0)
    assert found[0].lost_s == (0.0, 0.0, 0.5, 0.0, 0.0, 0.0)
    assert found[1].lost_s == ()


def test_with_little_time_there_are_fewer_rounds_or_none() -> None:
    """Each part has its least time, and each number of threads room for calls of full size."""
    for budget_s, rounds in ((7 * LEAST_S / SHARE, 3), (4.5 * LEAST_S / SHARE, 2), (1.0, 0)):
        probe = Probe()
        found = rehearsals_of(probe, recommended(), budget_s)
        assert len(probe.asked) == 2 * rounds
        assert len(found) == (2 if rounds else 0)
    just_s = SHARE * 60.0 / 2 / CALLS
    assert len(rehearsals_of(Probe(), recommended(0.99 * just_s), 60.0)) == 2
    assert rehearsals_of(Probe(), recommended(1.01 * just_s), 60.0) == ()


@pytest.mark.parametrize("where", ["measured", "rehearsed"])
def test_whatever_breaks_the_answer_stands(where: str) -> None:
    """It was found before."""
    assert rehearsals_of(Probe(breaks=where), recommended(), budget_s=60.0) == ()


def test_where_one_fails_there_is_none() -> None:
    """Nobody is asked again, and the answer stands without."""
    probe = Probe(answers=3)
    assert rehearsals_of(probe, recommended(), budget_s=60.0) == ()
    assert len(probe.asked) == 4
    failing = Probe(fails=True)
    assert rehearsals_of(failing, recommended(), budget_s=60.0) == ()
    assert failing.asked == []
