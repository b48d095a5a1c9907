"""Comparing two: who is faster by more than the tolerance, and how seldom that is wrong."""

from __future__ import annotations

import collections
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from autotune import Candidate, Failure, InvalidModel, Outcome
from autotune.artifact import Tuned
from autotune.comparing import Gap
from autotune.demo import FOLDER
from autotune.duel import Comparison, _look_at, decide, winner
from autotune.entrants import Entrant, Opening
from autotune.findings import compared
from autotune.outcomes import Probe
from tests.noisy import NoisyMachine

PLAIN = Candidate(32)
SEEDS = 200


def duel(
    b_takes: float, seed: int = 0, *, noise: float = 0.05, tolerance: float = 0.05
) -> Comparison:
    """Compare two models on one machine, of which B takes so many times longer than A."""
    machine = NoisyMachine(seed, noise, engines={"keras": 1.0, "compiled": b_takes})
    a, b = Entrant("a.keras", machine), Entrant("b.keras", machine)
    other = Candidate(32, "compiled")  # a name by which the machine tells B from A
    return decide((a, PLAIN), (b, other), budget_s=30.0, tolerance=tolerance, seed=seed)


def test_equals_are_hardly_ever_told_apart() -> None:
    """At 5 % noise no more than 5 % of 200 verdicts on two equal models are wrong."""
    verdicts = collections.Counter(duel(1.0, seed).verdict for seed in range(SEEDS))
    wrong = verdicts["A faster"] + verdicts["B faster"]
    assert wrong <= 0.05 * SEEDS, verdicts
    assert verdicts["same"] >= 0.9 * SEEDS, verdicts


@pytest.mark.parametrize(("takes", "verdict"), [(1.15, "A faster"), (0.85, "B faster")])
def test_who_is_clearly_faster_is_told(takes: float, verdict: str) -> None:
    """A difference of three times the tolerance is seen in 5 % noise, whoever has it."""
    verdicts = collections.Counter(duel(takes, seed).verdict for seed in range(20))
    assert verdicts[verdict] >= 19, verdicts  # type: ignore[index]


def test_the_interval_holds_the_true_ratio() -> None:
    """In 95 % of comparisons, as far as 60 of them tell, though they end when it suits them."""
    ratios = [duel(1.0 / 1.04, seed).ratio for seed in range(60)]
    missed = sum(not ratio.low <= 1.04 <= ratio.high for ratio in ratios if ratio)
    assert missed <= 8, missed


def test_more_noise_than_time_is_undecided() -> None:
    """It is said that more time would tell."""
    found = duel(1.0, noise=1.0)
    assert found.verdict == "undecided"
    assert "larger budget" in found.reason
    assert 30.0 <= found.spent_s <= 30.2


def test_who_does_not_run_fails() -> None:
    """Nothing can be said of a ratio then; the reason names the side and the message."""

    def probe(candidate: Candidate, seconds: float) -> Outcome:
        return Failure(candidate, kind="model_error", message="No such kernel.")

    def enter(probe: Probe) -> tuple[Entrant, Candidate]:
        return Entrant("model.keras", probe), PLAIN

    found = decide(enter(NoisyMachine()), enter(probe), budget_s=5.0, tolerance=0.02)
    assert (found.verdict, found.reason) == ("fails", "B does not run: No such kernel.")
    assert found.ratio is None
    assert found.b.speed is None


def test_a_path_is_opened_with_the_modules_that_it_needs() -> None:
    """What is given beside a path as its imports holds for a file as for a tuned folder."""
    subject = _look_at("A", FOLDER / "digits.keras", Opening(imports=("no_such_module",)))
    assert not isinstance(subject, Tuned)
    with pytest.raises(InvalidModel, match="Cannot import 'no_such_module'"):
        subject.open()


@given(st.builds(Gap, st.floats(-3, 3), st.floats(0.0, 0.5)), st.floats(0.001, 0.5))
def test_a_winner_is_ahead_by_more_than_the_tolerance_in_all_of_the_interval(
    gap: Gap, tolerance: float
) -> None:
    """So is a loser behind; "same" is said where all of it is within; and so it is turned round."""
    edge = -math.log1p(-tolerance)
    expected = {
        "B faster": gap.low > edge,
        "A faster": gap.high < -edge,
        "same": -edge <= gap.low and gap.high <= edge,
    }
    found = winner(gap, tolerance)
    assert expected.get(found, not any(expected.values()))
    mirror = {"A faster": "B faster", "B faster": "A faster"}
    assert winner(Gap(-gap.log_ratio, gap.half_width), tolerance) == mirror.get(found, found)


def test_the_text_begins_with_the_verdict() -> None:
    """Then come both sides, and the ratio with its interval."""
    found = duel(2.0, noise=0.01)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(compared(found))
    lines = console.export_text().splitlines()
    assert lines[0] == found.reason
    assert lines[0].startswith("A is 2.0")
    assert [line.split()[0] for line in lines[1:]] == ["A", "B", "B", "effort"]
    assert lines[1].endswith("a.keras, 32 rows, keras")
    assert "(95 % interval" in lines[3]
