"""Comparing: tides cancel, odd blocks hardly count, and an interval holds what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autotune.comparing import FIRST_GUESS, Fit, t_quantile

Rounds = list[dict[str, tuple[float, bool]]]

HALF = math.log(0.5)


def calm(rounds: int, **levels: float) -> Rounds:
    """Rounds without noise, in a quiet machine."""
    return [{name: (level, False) for name, level in levels.items()} for _ in range(rounds)]


def simulated(seed: int, candidates: int, rounds: int, slowed: float = 0.0) -> tuple[float, Rounds]:
    """Rounds of 3 % noise on a machine that a neighbour halves in a quarter of them.

    Args:
        seed: Seed of everything.
        candidates: How many there are, named "0", "1" and so on.
        rounds: How many there are.
        slowed: Share of blocks that run at half speed all alone.

    Returns:
        By how much "0" is really ahead of "1", and the rounds.
    """
    random = np.random.default_rng(seed)
    levels = random.normal(0, 0.3, candidates)
    found: Rounds = []
    for number in range(rounds):
        tide = HALF * (random.random() < 0.25) + 0.1 * math.sin(number)
        values = levels + tide + 0.03 * random.standard_normal(candidates)
        values += HALF * (random.random(candidates) < slowed)
        found.append({str(name): (float(value), False) for name, value in enumerate(values)})
    return float(levels[0] - levels[1]), found


@pytest.mark.parametrize(
    ("degrees", "table"),
    [
        (1, 12.706),
        (2, 4.303),
        (5, 2.571),
        (9, 2.262),
        (10, 2.228),
        (12, 2.179),
        (15, 2.131),
        (20, 2.086),
        (30, 2.042),
        (60, 2.000),
        (120, 1.980),
        (10**6, 1.960),
    ],
)
def test_students_t_is_that_of_the_tables(degrees: int, table: float) -> None:
    """The 97.5 % points agree with printed tables to three decimals."""
    assert t_quantile(degrees) == pytest.approx(table, abs=0.001)


def test_a_tide_that_a_round_shares_cancels() -> None:
    """Rounds at half speed, or at any speed, leave the gap as it is, and are told as tides."""
    rounds = calm(6, a=1.0, b=1.1)
    for number, tide in enumerate([0.0, HALF, 0.0, 3 * HALF, 0.0, 0.02]):
        rounds[number] = {
            name: (level + tide, False) for name, (level, _) in rounds[number].items()
        }
    fit = Fit(rounds)
    assert fit.gap("b", "a").log_ratio == pytest.approx(0.1, abs=1e-6)
    assert fit.tides[1] - fit.tides[0] == pytest.approx(HALF, abs=0.01)
    assert fit.tides[3] - fit.tides[0] == pytest.approx(3 * HALF, abs=0.01)


def test_speeds_of_different_times_are_not_compared() -> None:
    """Who was timed in slow rounds only is not behind: the others that he met were slow, too."""
    rounds = calm(4, a=1.0, b=1.0) + [
        {"b": (1.0 + HALF, False), "late": (1.05 + HALF, False)} for _ in range(4)
    ]
    assert Fit(rounds).gap("late", "a").log_ratio == pytest.approx(0.05, abs=0.005)


def test_one_block_at_half_speed_hardly_moves_a_gap() -> None:
    """Where a spell begins between two blocks of a round, the pair is split; others outvote it."""
    rounds = calm(8, a=1.0, b=1.02)
    rounds[3]["a"] = (1.0 + HALF, False)
    gap = Fit(rounds).gap("b", "a")
    plain = 0.02 - HALF / 8  # what the mean of paired ratios says
    assert abs(gap.log_ratio - 0.02) < 0.005
    assert plain > 0.1


def test_what_is_known_to_be_disturbed_counts_less() -> None:
    """Of two blocks that contradict each other the undisturbed one is believed."""
    told, untold = calm(2, a=1.0, b=1.0), calm(2, a=1.0, b=1.0)
    told[1]["b"], untold[1]["b"] = (1.0 + HALF, True), (1.0 + HALF, False)
    believed, both = Fit(told).gap("b", "a").log_ratio, Fit(untold).gap("b", "a").log_ratio
    assert abs(believed) < 0.1 * abs(both)


def test_a_third_one_tells_of_two_that_never_met() -> None:
    """A against B and B against C says where A stands to C, with the doubts of both."""
    rounds = calm(5, a=0.0, b=0.5) + calm(5, b=0.5, c=0.3)
    fit = Fit(rounds)
    assert fit.gap("c", "a").log_ratio == pytest.approx(0.3, abs=0.005)
    assert fit.gap("c", "a").half_width > fit.gap("b", "a").half_width


def test_rounds_with_nobody_in_common_say_next_to_nothing_of_each_other() -> None:
    """Without a link the guess that the machine was alike gives a gap, in a wide interval."""
    apart = Fit(calm(5, a=0.0, b=0.1) + calm(5, c=0.3, d=0.4))
    assert apart.gap("c", "a").log_ratio == pytest.approx(0.3, abs=0.01)
    assert apart.gap("c", "a").half_width > 3 * apart.gap("b", "a").half_width


def apart(seed: int, tide: float) -> Rounds:
    """Rounds of two pairs that never meet, "a" and "b" 10 % ahead of "c" and "d", 5 % noise."""
    random = np.random.default_rng(seed)
    found: Rounds = []
    for number in range(24):
        names, level = ("ab", 0.1) if number % 2 else ("cd", 0.0)
        height = level + tide * random.standard_normal()
        found.append({n: (height + 0.05 * random.standard_normal(), False) for n in names})
    return found


def test_rounds_tell_of_each_other_as_far_as_the_machine_is_calm() -> None:
    """Those who never met are told apart where rounds are alike, and not where they are not.

    Either way the interval holds the truth nearly always.
    """
    widths = {}
    for tide in (0.0, 0.3):
        gaps = [Fit(apart(seed, tide), alike=True).gap("a", "c") for seed in range(40)]
        assert sum(gap.low <= 0.1 <= gap.high for gap in gaps) >= 36
        widths[tide] = float(np.median([gap.half_width for gap in gaps]))
    assert widths[0.0] < 0.12 < 0.2 < widths[0.3]


def test_a_machine_that_is_slow_for_a_while_makes_nobody_slower() -> None:
    """Where the candidates of the first rounds met one of the last, which were a fifth slower."""
    held = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        rounds: Rounds = []
        for number in range(16):
            tide, names = (0.0, "abc") if number < 9 else (-0.2, "cde")
            values = tide + 0.07 * random.standard_normal(3)
            rounds.append({n: (float(v), False) for n, v in zip(names, values, strict=True)})
        gap = Fit(rounds, alike=True).gap("a", "e")
        held += gap.low <= 0 <= gap.high
    assert held >= 36


@pytest.mark.parametrize("alike", [True, False])
def test_a_calm_machine_does_not_make_disturbed_rounds_alike(alike: bool) -> None:
    """Who was timed in a neighbour's spell only, beside others, is as good as they were there."""
    random = np.random.default_rng(0)
    rounds: Rounds = [
        {n: (0.03 * random.standard_normal(), False) for n in "ab"} for _ in range(16)
    ]
    rounds += [{n: (-0.7 + 0.03 * random.standard_normal(), True) for n in "abc"} for _ in range(3)]
    assert abs(Fit(rounds, alike=alike).gap("a", "c").log_ratio) < 0.1


def test_the_noise_is_that_of_undisturbed_blocks() -> None:
    """However wild the disturbed ones are, and however many: they say nothing of the others."""
    _, rounds = simulated(5, candidates=4, rounds=12)
    random = np.random.default_rng(0)
    storm: Rounds = [
        {str(name): (float(random.normal(-0.5, 0.5)), True) for name in range(4)} for _ in range(10)
    ]
    quiet, stormy = Fit(rounds), Fit(rounds + storm)
    assert stormy.noise == pytest.approx(quiet.noise, rel=0.2)
    assert stormy.noise == pytest.approx(0.03, rel=0.5)


def test_where_nearly_all_is_disturbed_the_noise_is_that_of_all() -> None:
    """Two quiet rounds cannot tell it; to guess would make the interval too narrow."""
    random = np.random.default_rng(1)
    rounds: Rounds = [
        {n: (float(tide + 0.1 * random.standard_normal()), number > 1) for n in "ab"}
        for number, tide in enumerate([0.0, 0.0, -0.5, -0.2, -0.6, -0.3, -0.5, -0.1, -0.4, -0.2])
    ]
    assert Fit(rounds).noise > 0.05


def lucky(seed: int) -> Rounds:
    """Pairs of whoever is ahead and a new one, equally good, in 15 % noise and no tide.

    They leave next to nothing to measure the noise by, as the first rounds of a search do.
    """
    random = np.random.default_rng(seed)
    best, found = "0", list[dict[str, tuple[float, bool]]]()
    for number in range(1, 13):
        values = {best: float(random.normal(0, 0.15)), str(number): float(random.normal(0, 0.15))}
        found.append({name: (value, False) for name, value in values.items()})
        best = max(values, key=lambda name: values[name])
    return found


def test_noise_that_cannot_be_measured_yet_is_not_taken_for_little() -> None:
    """By how much each scatters tells enough: whoever was lucky is not sure to be better."""
    fits = [Fit(lucky(seed), alike=True) for seed in range(40)]
    assert np.median([fit.noise for fit in fits]) > 0.07
    ahead = [fit.gap(max(fit.levels, key=lambda name: fit.levels[name]), "0") for fit in fits]
    assert sum(gap.low > 0 for gap in ahead) < 20


def test_few_rounds_of_the_same_two_are_exact_whatever_the_tides() -> None:
    """Where nobody comes and goes, what all share is tide and no noise."""
    rounds = calm(4, a=0.0, b=0.3)
    for number in (1, 3):
        rounds[number] = {n: (level + HALF, False) for n, (level, _) in rounds[number].items()}
    assert Fit(rounds).gap("b", "a").half_width < 0.1


def test_one_block_has_a_level_and_no_tide() -> None:
    """The least there can be is fitted, with the noise still a guess."""
    fit = Fit([{"a": (2.0, False)}])
    assert fit.levels == {"a": pytest.approx(2.0)}
    assert fit.tides == [pytest.approx(0.0, abs=1e-6)]
    assert fit.noise == FIRST_GUESS
    assert (fit.gap("a", "a").low, fit.gap("a", "a").high) == (0.0, 0.0)


def test_nothing_is_fitted_to_nothing() -> None:
    """Without rounds there are no levels and no tides."""
    nothing: Rounds = []
    fit = Fit(nothing)
    assert (fit.levels, fit.tides) == ({}, [])


@pytest.mark.parametrize("alike", [True, False])
def test_a_round_without_values_changes_nothing(alike: bool) -> None:
    """A round that was broken off before anything came of it is no round."""
    _, rounds = simulated(3, candidates=3, rounds=12)
    fit = Fit(rounds, alike=alike)
    broken = Fit([*rounds[:5], {}, *rounds[5:], {}], alike=alike)
    assert broken.levels == pytest.approx(fit.levels, abs=1e-9)
    assert broken.gap("0", "1").half_width == pytest.approx(fit.gap("0", "1").half_width)
    nobody: Rounds = [{}, {}]
    assert Fit(nobody).levels == {}


def test_a_gap_has_two_sides() -> None:
    """By as much as one is ahead the other is behind."""
    _, rounds = simulated(0, candidates=3, rounds=6)
    fit = Fit(rounds)
    ahead, behind = fit.gap("0", "1"), fit.gap("1", "0")
    assert ahead.low == pytest.approx(-behind.high)
    assert ahead.high == pytest.approx(-behind.low)


def test_the_noise_is_that_of_the_blocks() -> None:
    """It is measured within a third, whatever the tides, and blind to a few slowed blocks."""
    for slowed in (0.0, 0.05):
        _, rounds = simulated(3, candidates=6, rounds=30, slowed=slowed)
        assert 0.02 < Fit(rounds).noise < 0.04


@pytest.mark.parametrize(
    ("candidates", "rounds", "slowed", "least"),
    [
        (2, 6, 0.0, 0.91),
        (3, 5, 0.0, 0.91),
        (8, 3, 0.0, 0.91),
        (4, 8, 0.0, 0.91),
        (4, 8, 0.1, 0.91),
        (6, 20, 0.0, 0.91),
    ],
)
def test_an_interval_holds_the_truth_about_nineteen_times_in_twenty(
    candidates: int, rounds: int, slowed: float, least: float
) -> None:
    """Of 500 intervals on a machine with a neighbour, more than nine in ten hold the true gap."""
    held = 0
    for seed in range(500):
        truth, found = simulated(seed, candidates, rounds, slowed)
        gap = Fit(found).gap("0", "1")
        held += gap.low <= truth <= gap.high
    assert held >= least * 500


def test_more_rounds_narrow_an_interval() -> None:
    """Four times as many rounds make it about half as wide."""
    widths = [
        float(np.median([Fit(simulated(s, 4, n)[1]).gap("0", "1").half_width for s in range(40)]))
        for n in (10, 40)
    ]
    assert 0.4 < widths[1] / widths[0] < 0.6
