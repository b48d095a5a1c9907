"""The fresh measurement: quiet rounds only, nothing of the search, and no winner's luck."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest

from autotune import Candidate, Goal, Measurement, Outcome, TuningRecord, search
from autotune.confirming import ROUNDS, UNSEEN_DRIFT, Confirmation
from autotune.intervals import speed_from
from autotune.outcomes import Block, Probe
from autotune.standing import Standing
from autotune.strategy import BASELINE_ROUNDS, plan_confirmation
from tests.blocks import blocks_of, standing_of, timed

CHOSEN = Candidate(64)
PREDICT = Candidate(32, "predict")
SEARCHED: list[list[Outcome]] = [[timed(32, 0.4), timed(64, 0.64)]] * 6


def confirm(standing: Standing, slow_rounds: float, limit_s: float = 1000.0) -> int:
    """Run the confirmation to its end; so many of its first rounds run at half speed."""
    for done in itertools.count():
        plan = plan_confirmation(standing, [PREDICT], limit_s)
        if plan is None:
            return done
        has_enough = done >= slow_rounds + BASELINE_ROUNDS
        wanted = {CHOSEN} if has_enough else {CHOSEN, PREDICT}
        assert (plan.purpose, set(plan.candidates)) == ("confirm", wanted)
        slower = 2 if done < slow_rounds else 1
        for outcome in (timed(64, slower * 0.64), timed(32, slower * 0.8, "predict")):
            if outcome.candidate in wanted:
                standing.add(Block(outcome, 100 + done, "confirm"))
    raise AssertionError


def test_on_a_quiet_machine_it_takes_twelve_rounds() -> None:
    """Then it is clean, and tells the speed."""
    standing = standing_of(SEARCHED)
    assert confirm(standing, slow_rounds=0) == ROUNDS
    found = Confirmation(standing, CHOSEN)
    assert found.is_clean
    speed = found.speed(CHOSEN)
    assert speed is not None
    assert speed.rows_per_s == pytest.approx(100)


@pytest.mark.parametrize("slow_rounds", [1, 7, 15])
def test_in_a_neighbours_spell_it_goes_on_until_quiet_rounds_come(slow_rounds: int) -> None:
    """Rounds at half speed are no answer, for the choice or for a baseline."""
    standing = standing_of(SEARCHED)
    assert confirm(standing, slow_rounds) == slow_rounds + ROUNDS
    found = Confirmation(standing, CHOSEN)
    assert len(found.calm) == ROUNDS
    for candidate, truth, rounds in ((CHOSEN, 100, ROUNDS), (PREDICT, 40, BASELINE_ROUNDS)):
        speed, times = found.speed(candidate), found.measurement(candidate)
        assert speed is not None
        assert times is not None
        assert speed.rows_per_s == pytest.approx(truth)
        assert len(times.times_s) == 10 * rounds


def test_a_spell_without_end_uses_up_its_time_and_is_said() -> None:
    """After its share of the budget it ends, and is not clean; its times are all there is."""
    standing = standing_of(SEARCHED)
    rounds = confirm(standing, slow_rounds=math.inf, limit_s=200.0)
    a_round_s = 10 * 2 * (0.64 + 0.8)
    assert rounds == math.ceil(200 / a_round_s)
    found = Confirmation(standing, CHOSEN)
    assert not found.is_clean
    speed = found.speed(CHOSEN)
    assert speed is not None
    assert speed.rows_per_s == pytest.approx(50)


def test_a_round_that_is_told_to_be_disturbed_is_not_quiet() -> None:
    """Its times do not count although they look like others, unless all rounds are like that."""
    noisy: list[list[Outcome]] = [[timed(64, 0.64, disturbed=True)]] * 6
    calm: list[list[Outcome]] = [[timed(64, 0.64)]] * 6
    assert len(Confirmation(standing_of(SEARCHED, confirming=noisy + calm), CHOSEN).calm) == 6
    assert len(Confirmation(standing_of(noisy, confirming=noisy), CHOSEN).calm) == 6


def test_figures_of_the_search_are_not_used() -> None:
    """The choice looked 3 % faster when it was chosen: nothing of that is published."""
    lucky: list[list[Outcome]] = [[timed(32, 0.4), timed(64, 0.64 / 1.03)]] * 6
    fresh: list[list[Outcome]] = [[timed(64, 0.64)]] * ROUNDS
    found = Confirmation(standing_of(lucky, confirming=fresh), CHOSEN)
    speed, times = found.speed(CHOSEN), found.measurement(CHOSEN)
    assert speed is not None
    assert times is not None
    assert speed.rows_per_s == pytest.approx(100)
    assert set(times.times_s) == {0.64}


def test_rounds_before_the_search_went_on_are_not_fresh() -> None:
    """Where a fresh round changed the choice, and the search went on, it begins again."""
    fresh: list[list[Outcome]] = [[timed(64, 0.64)]] * 5
    standing = standing_of(SEARCHED, confirming=fresh)
    assert len(Confirmation(standing, CHOSEN).rounds) == 5
    standing.add(Block(timed(48, 0.5), 50))
    assert Confirmation(standing, CHOSEN).rounds == {}
    for block in blocks_of(fresh, "confirm", 60):
        standing.add(block)
    assert list(Confirmation(standing, CHOSEN).rounds) == [64, 63, 62, 61, 60]


def test_rounds_without_the_choice_are_none_of_its_own() -> None:
    """Another candidate's confirmation is no confirmation of this one."""
    standing = standing_of(SEARCHED, confirming=[[timed(32, 0.4)]] * 4)
    found = Confirmation(standing, CHOSEN)
    assert found.rounds == {}
    assert (found.speed(CHOSEN), found.measurement(CHOSEN)) == (None, None)


def test_without_a_confirmation_calm_blocks_of_the_search_tell_the_speed() -> None:
    """Where the budget ended first, blocks of slow rounds are left out all the same."""
    slow: list[list[Outcome]] = [[timed(32, 0.8), timed(64, 1.28)]] * 2
    found = Confirmation(standing_of(SEARCHED + slow), CHOSEN).speed_in_search()
    assert found.rows_per_s == pytest.approx(100)


def test_two_blocks_give_no_interval() -> None:
    """An interval needs three blocks; it holds the speed, and widens with scatter and drift."""
    assert (speed_from([0.0, 0.1]).low, speed_from([0.0, 0.1]).high) == (None, None)
    widths = []
    for logs, drift in (([0.0, 0.01, 0.02], 0.0), ([0.0, 0.05, 0.1], 0.0), ([0.0, 0.05, 0.1], 0.1)):
        found = speed_from(logs, drift)
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.rows_per_s < found.high
        widths.append(found.high / found.low)
    assert widths == sorted(set(widths))


def test_an_interval_is_never_narrower_than_what_machines_drift() -> None:
    """Twelve equal rounds are one moment: the interval holds what the next minutes may bring."""
    fresh: list[list[Outcome]] = [[timed(64, 0.64)]] * ROUNDS
    found = Confirmation(standing_of(SEARCHED, confirming=fresh), CHOSEN).speed(CHOSEN)
    assert found is not None
    assert found.low is not None
    assert math.log(found.rows_per_s / found.low) >= 1.95 * UNSEEN_DRIFT


def eight_equal(seed: int) -> Probe:
    """Candidates of 100 rows/s, each block of which is off by 5 %."""
    noise = random.Random(seed)  # noqa: S311  noise, not a secret

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        call_s = 0.01 * math.exp(noise.gauss(0, 0.05))
        return Measurement(candidate, (call_s,) * 5, elapsed_s=0.1)

    return probe


def luck_in_search(record: TuningRecord) -> float:
    """How much too fast the choice looked in the rounds of the search, as a log ratio."""
    assert record.recommendation is not None
    outcomes, logs = iter(record.outcomes), []
    for a_round in record.rounds:
        row = list(itertools.islice(outcomes, a_round.outcomes))
        if a_round.purpose == "search":
            own = [o for o in row if o.candidate == record.recommendation.candidate]
            logs += [-math.log(100 * o.latency_s) for o in own if isinstance(o, Measurement)]
    return statistics.fmean(logs)


def test_the_best_of_eight_equals_is_published_without_its_luck() -> None:
    """Over 100 searches at 5 % noise the figures are right within 1 % in the mean, and held."""
    errors, luck, held = [], [], 0
    for seed in range(100):
        record = search(
            eight_equal(seed),
            Goal(max_batch_size=1),
            engines=[f"engine{number}" for number in range(8)],
            budget_s=10,
            seed=seed,
        )
        found = record.recommendation
        assert found is not None
        assert found.rows_per_s_low is not None
        assert found.rows_per_s_high is not None
        errors.append(math.log(found.rows_per_s / 100))
        luck.append(luck_in_search(record))
        held += found.rows_per_s_low <= 100 <= found.rows_per_s_high
    assert abs(statistics.fmean(errors)) < 0.01
    assert statistics.fmean(luck) > 0.015  # what the choice would have been said to do
    assert held >= 90
