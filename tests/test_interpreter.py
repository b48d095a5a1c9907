"""The simulated interpreter lock: one thread computes at a time, and who waits has his turn."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.interpreter import SWITCH_S, Interpreter


def test_requests_are_let_in_one_after_the_other() -> None:
    """Two that come together wait for each other; one that finds the thread asleep wakes it."""
    interpreter = Interpreter([1.0, 1.0, 5.0], let_in_s=0.5, wake_s=0.25)
    interpreter.let_in(math.inf)
    assert interpreter.entered_s == pytest.approx([1.75, 2.25, 5.75])


def test_nobody_is_let_in_while_another_computes() -> None:
    """A thread that answers keeps the others from the lock until it is done."""
    interpreter = Interpreter([0.001], let_in_s=0.0001, wake_s=0.0)
    assert interpreter.compute(0.0, 0.004) == pytest.approx(0.004)
    interpreter.let_in(math.inf)
    assert interpreter.entered_s == pytest.approx([0.0041])


def test_who_answers_waits_until_the_other_sleeps_but_not_for_ever() -> None:
    """Ten requests that wait to be let in are let in first; of ten thousand those of 5 ms."""
    few = Interpreter([0.0] * 10, let_in_s=1e-4, wake_s=0.0)
    assert few.compute(1e-5, 0.001) == pytest.approx(0.002)
    many = Interpreter([0.0] * 10_000, let_in_s=1e-5, wake_s=0.0)
    assert many.compute(1e-6, 0.001) == pytest.approx(SWITCH_S + 0.001, abs=2e-5)
    assert len(many.entered_s) == pytest.approx(SWITCH_S / 1e-5, abs=2)


def test_a_long_computation_gives_the_others_their_turn() -> None:
    """A request that comes meanwhile waits for 5 ms at most."""
    interpreter = Interpreter([0.001], let_in_s=0.001, wake_s=0.0)
    assert interpreter.compute(0.0, 0.02) == pytest.approx(0.021)
    assert interpreter.entered_s == pytest.approx([SWITCH_S + 0.001])


def test_the_next_comes_when_there_is_room() -> None:
    """With room for two, the third is let in when one is taken."""
    interpreter = Interpreter([0.0] * 3, let_in_s=0.0, wake_s=0.0, room=2)
    interpreter.let_in(math.inf)
    assert interpreter.entered_s == [0.0, 0.0]
    interpreter.take(7.0, 1)
    interpreter.let_in(math.inf)
    assert interpreter.entered_s == [0.0, 0.0, 7.0]


@given(
    gaps=st.lists(st.floats(0, 0.02), min_size=1, max_size=50),
    asks=st.lists(st.tuples(st.floats(0, 0.02), st.floats(0, 0.02)), max_size=20),
    let_in_s=st.floats(0, 0.003),
    wake_s=st.floats(0, 0.001),
)
def test_the_lock_has_one_owner(
    gaps: list[float], asks: list[tuple[float, float]], let_in_s: float, wake_s: float
) -> None:
    """Whatever comes, nobody computes before he asks, and the time of all adds up."""
    arrivals = list(itertools.accumulate(gaps))
    interpreter = Interpreter(arrivals, let_in_s, wake_s)
    now = 0.0
    for gap, seconds in asks:
        asked = now + gap
        now = interpreter.compute(asked, seconds)
        assert now >= asked + seconds - 1e-12
    interpreter.let_in(math.inf)
    entered = interpreter.entered_s
    assert len(entered) == len(arrivals)
    assert all(e >= a + let_in_s - 1e-12 for e, a in zip(entered, arrivals, strict=True))
    assert all(b - a >= let_in_s - 1e-12 for a, b in itertools.pairwise(entered))
    last = max(now, entered[-1])
    assert last >= len(arrivals) * let_in_s + sum(seconds for _, seconds in asks) - 1e-9
