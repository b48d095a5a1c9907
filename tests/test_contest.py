"""A contest: rounds until it is settled, whoever disturbs, and looks that get rarer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from autotune import Candidate, Failure, InvalidInput, Outcome, Progress
from autotune.contest import GROWTH, LEAST_ROUNDS, Contender, Contest, Ratio, check_terms
from autotune.waiting import STRETCH_SHARE, WAIT_SHARE
from tests.noisy import NoisyMachine

SMALL, LARGE = Candidate(64), Candidate(256)
TRUE_RATIO = (256 / 3.56) / (64 / 1.64)


def contest_on(machine: NoisyMachine, budget_s: float = 20.0, **options: Any) -> Contest[str]:
    """A small batch against a large one."""
    sizes = {"small": Contender(machine, SMALL), "large": Contender(machine, LARGE)}
    return Contest(sizes, budget_s=budget_s, **options)


def never() -> bool:
    """Is not settled."""
    return False


def test_it_ends_at_the_first_look_where_that_settles_it() -> None:
    """Eight rounds are timed, and no more."""
    contest = contest_on(NoisyMachine())
    contest.run(lambda: True)
    assert len(contest.rounds) == contest.calm_rounds == LEAST_ROUNDS


def test_looks_get_rarer() -> None:
    """Between two looks the rounds grow by a quarter, so that few looks can be wrong by chance."""
    contest = contest_on(NoisyMachine())
    looks: list[int] = []

    def look() -> bool:
        looks.append(contest.calm_rounds)
        return False

    contest.run(look)
    assert looks[:4] == [8, 10, 13, 17]
    assert all(later == math.ceil(GROWTH * sooner) for sooner, later in itertools.pairwise(looks))
    assert len(looks) < 15


def test_it_ends_with_its_budget() -> None:
    """The last probe that was begun may exceed it, by no more than itself."""
    contest = contest_on(NoisyMachine(), budget_s=7.03)
    contest.run(never)
    assert 7.03 <= contest.spent_s <= 7.13


@pytest.mark.parametrize("tide", [lambda _: 0.0, lambda now_s: 0.7 * (now_s % 7 < 3)])
def test_a_tide_cancels_in_the_ratio(tide: Callable[[float], float]) -> None:
    """Where everything is at half speed for seconds, the interval holds the true ratio."""
    contest = contest_on(NoisyMachine(noise=0.02, tide=tide))
    contest.run(never)
    ratio = Ratio.of(contest.gap("large", "small"))
    assert ratio is not None
    assert ratio.low < TRUE_RATIO < ratio.high
    assert ratio.high / ratio.low < 1.05


def test_the_order_is_random_and_the_same_for_a_seed() -> None:
    """Each is first in some rounds; another seed has another order."""
    orders = []
    for seed in (1, 1, 2):
        machine = NoisyMachine()
        contest_on(machine, seed=seed).run(lambda: True)
        orders.append(machine.tried)
    assert orders[0] == orders[1] != orders[2]
    assert {SMALL, LARGE} == set(orders[0][::2])


def test_who_fails_is_told_and_timed_no_more() -> None:
    """The others go on, unless that settles it."""
    tried: list[Candidate] = []

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        tried.append(candidate)
        return Failure(candidate, kind="model_error", elapsed_s=seconds, message="no such kernel")

    machine = NoisyMachine()
    sides = {"good": Contender(machine, SMALL), "bad": Contender(probe, LARGE)}
    contest = Contest(sides, budget_s=3.0)
    contest.run(never)
    assert contest.failures == {"bad": "no such kernel"}
    assert tried == [LARGE]
    assert contest.gap("good", "bad") is None
    assert contest.speed("bad") is None
    assert len(machine.tried) > 20
    stopped = Contest(sides, budget_s=3.0)
    stopped.run(lambda: True)
    assert len(stopped.rounds) == 1


def test_who_was_stopped_for_others_is_tried_again() -> None:
    """That memory was short for a moment is not the candidate's failure."""
    tried: list[Candidate] = []

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        tried.append(candidate)
        if len(tried) < 3:
            return Failure(candidate, kind="stopped", elapsed_s=seconds, message="memory is short")
        return NoisyMachine()(candidate, seconds)

    contest = Contest({"one": Contender(probe, SMALL)}, budget_s=2.0)
    contest.run(never)
    assert not contest.failures
    assert len(contest.measured("one")) > 10


def test_it_waits_for_quiet_with_the_quickest_probe() -> None:
    """Beside a neighbour who comes and goes nearly all that is compared is undisturbed."""
    machine = NoisyMachine(noise=0.02, is_busy=lambda now_s: now_s % 4 < 2)
    told: list[Progress] = []
    contest = contest_on(machine, on_event=told.append)
    contest.run(never)
    waits = [event.outcome for event in told if event.purpose == "wait"]
    waited_s = sum(outcome.elapsed_s for outcome in waits if outcome)
    assert 0 < waited_s <= WAIT_SHARE * 20.0 + 0.1
    flags = [m.is_disturbed for row in contest.rounds for m in row.values()]
    assert sum(flags) < 0.25 * len(flags)
    assert f"disturbed {sum(flags)} of {len(flags)} blocks" in contest.warnings()[0]


def test_one_who_never_stops_is_waited_for_once() -> None:
    """Then all rounds count: that is how the machine is now."""
    machine = NoisyMachine(noise=0.02, is_busy=lambda _: True)
    contest = contest_on(machine)
    contest.run(never)
    blocks = sum(map(len, contest.rounds))
    assert len(machine.tried) - blocks == pytest.approx(STRETCH_SHARE * 20.0 / 0.1, abs=2)
    assert contest.calm_rounds > 70
    ratio = Ratio.of(contest.gap("large", "small"))
    assert ratio is not None
    assert ratio.low < TRUE_RATIO < ratio.high


@pytest.mark.parametrize("budget_s", [0, -1.0, math.inf, math.nan])
def test_a_budget_that_is_none_is_refused(budget_s: float) -> None:
    """The message names it and the value."""
    with pytest.raises(InvalidInput, match="budget_s must be a positive number"):
        check_terms(budget_s, 0.05)


@pytest.mark.parametrize("tolerance", [0, -0.1, 1, math.nan])
def test_a_tolerance_that_is_none_is_refused(tolerance: float) -> None:
    """Without one nothing could ever be the same."""
    with pytest.raises(InvalidInput, match="tolerance must be more than 0 and less than 1"):
        check_terms(1.0, tolerance)
