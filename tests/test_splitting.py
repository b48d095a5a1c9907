"""Splitting: every row in a batch, none too large, and evenly only where that was seen to pay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.outcomes import Candidate, Failure, Measurement, Outcome
from autotune.splitting import FEW, Splitter, curve_of, evenly, seconds
from tests.batchers import together as run_together
from tests.blocks import timed

SIZES = (1, 8, 16, 32, 64)
IN_PROPORTION = [timed(size, size * 0.001) for size in SIZES]
FLAT = [timed(size, 0.064) for size in SIZES]
LANE = ("keras", 1, None)


def in_flight(count: int, outcomes: list[Measurement]) -> list[Outcome]:
    """The same times, measured with several batches in flight."""
    return [
        Measurement(Candidate(m.candidate.batch_size, concurrency=count), m.times_s)
        for m in outcomes
    ]


times = st.dictionaries(st.integers(1, 300), st.floats(1e-5, 10), max_size=8)


@given(
    rows=st.integers(1, 2000),
    limit=st.integers(1, 300),
    flights=st.integers(1, 4),
    together=times,
    alone=times,
    any_size=st.booleans(),
)
def test_every_row_is_in_a_batch_and_none_is_too_large(
    rows: int,
    limit: int,
    flights: int,
    together: dict[int, float],
    alone: dict[int, float],
    any_size: bool,
) -> None:
    """Whatever was measured: the sizes add up to the rows, and none is over the limit."""
    outcomes: list[Outcome] = [
        Measurement(Candidate(size, concurrency=n), (call_s,))
        for n, curve in ((flights, together), (1, alone))
        for size, call_s in curve.items()
    ]
    splitter = Splitter(Candidate(limit, concurrency=flights), outcomes, any_size=any_size)
    for _ in range(2):  # the second answer is remembered
        sizes = splitter.split(rows, limit)
        assert sum(sizes) == rows
        assert all(1 <= size <= limit for size in sizes)
    of_its_lane = {**together, **(alone if flights == 1 else {})}
    if not any_size or not of_its_lane:
        assert set(sizes[:-1]) <= {limit}


def test_rows_are_split_evenly_only_where_that_is_sooner() -> None:
    """100 rows by 64 are 64 and 36, unless the curve says that twice 50 is sooner."""
    assert Splitter(Candidate(64), IN_PROPORTION).split(100, 64) == (64, 36)
    # A batch of twice as many rows takes much more than twice as long.
    steep = [timed(size, 0.001 * size * size) for size in (*SIZES, 50)]
    assert Splitter(Candidate(64), steep).split(100, 64) == (50, 50)
    # What a batch takes is the same for any: no split is sooner than another.
    assert Splitter(Candidate(64), FLAT).split(100, 64) == (64, 36)


def test_a_gain_that_may_be_noise_is_left() -> None:
    """Full batches stay where an even split would gain less than measurements can tell."""
    bent = [timed(1, 0.001), timed(50, 0.050), timed(64, 0.066)]
    assert Splitter(Candidate(64), bent).split(100, 64) == (64, 36)


def test_both_in_flight_are_used() -> None:
    """Rows for one batch and a half are shared out, and so are those of a single batch."""
    outcomes = [*IN_PROPORTION, *in_flight(2, IN_PROPORTION)]
    splitter = Splitter(Candidate(64, concurrency=2), outcomes)
    assert splitter.split(100, 64) == (50, 50)
    assert splitter.split(64, 64) == (32, 32)
    assert splitter.split(150, 64) == (38, 38, 37, 37)
    assert splitter.split(1, 64) == (1,)


def test_one_batch_stays_whole_where_halves_are_not_sooner() -> None:
    """Two halves that each take as long as the whole gain nothing."""
    splitter = Splitter(Candidate(64, concurrency=2), [*FLAT, *in_flight(2, FLAT)])
    assert splitter.split(60, 64) == (60,)


def test_a_batch_alone_is_faster_than_one_of_two() -> None:
    """A single batch has the machine for itself: it is judged by the times of single ones."""
    alone = [timed(size, size * 0.0005) for size in SIZES]
    splitter = Splitter(Candidate(64, concurrency=2), [*alone, *in_flight(2, IN_PROPORTION)])
    assert splitter.split(60, 64) == (60,)


def test_without_single_ones_a_batch_is_judged_by_the_fewest_in_flight() -> None:
    """A batch of three is slow for the other two, which a whole one would not have beside it."""
    fast = [timed(size, size * 0.0003) for size in SIZES]
    outcomes = [*in_flight(2, fast), *in_flight(3, IN_PROPORTION)]
    assert Splitter(Candidate(64, concurrency=3), outcomes[-5:]).split(60, 64) == (20, 20, 20)
    assert Splitter(Candidate(64, concurrency=3), outcomes).split(60, 64) == (60,)


def test_parts_are_made_only_where_they_gain_more_than_threads_take_to_wake() -> None:
    """Halves of a call of half a millisecond are handed over in more time than they would save."""
    short = [timed(size, size * 8e-6) for size in SIZES]
    splitter = Splitter(Candidate(64, concurrency=2), in_flight(2, short))
    assert splitter.split(64, 64) == (64,)
    assert splitter.split(100, 64) == (50, 50)  # which goes to those threads in any case


@pytest.mark.parametrize(
    ("outcomes", "any_size"), [([], True), (in_flight(2, IN_PROPORTION), False)]
)
def test_without_a_curve_or_a_choice_batches_are_full(
    outcomes: list[Outcome], any_size: bool
) -> None:
    """Where nothing was measured, or only some sizes are ready, the last batch is the short one."""
    splitter = Splitter(Candidate(64, concurrency=2), outcomes, any_size=any_size)
    assert splitter.split(100, 64) == (64, 36)
    assert splitter.split(64, 64) == (64,)


def test_many_rows_make_full_batches() -> None:
    """Where there are many batches the last ones hardly count, and nothing is remembered."""
    splitter = Splitter(Candidate(10, concurrency=2), in_flight(2, IN_PROPORTION))
    rows = 10 * (2 * FEW + 1) + 5
    assert splitter.split(rows, 10) == (10,) * (2 * FEW + 1) + (5,)
    assert not splitter._cache


def test_disturbed_blocks_count_only_where_there_are_no_others() -> None:
    """The curve is of quiet blocks, of disturbed ones where a size has just these."""
    outcomes: list[Outcome] = [
        timed(8, 0.010),
        timed(8, 0.012),
        timed(8, 5.0, disturbed=True),
        timed(16, 7.0, disturbed=True),
        timed(32, 9.0, "compiled"),
        Failure(Candidate(64), kind="crash"),
    ]
    assert curve_of(outcomes, LANE) == {8: pytest.approx(0.011), 16: 7.0}


def test_the_curve_is_straight_between_sizes() -> None:
    """Between measured sizes on a line, below them flat, above them in proportion."""
    curve = {10: 1.0, 20: 3.0}
    expected = {1: 1.0, 10: 1.0, 12: 1.4, 20: 3.0, 30: 4.5}
    assert {size: seconds(curve, size) for size in expected} == pytest.approx(expected)


@given(rows=st.integers(1, 10**6), count=st.integers(1, 1000))
def test_even_parts_differ_by_one_row_at_most(rows: int, count: int) -> None:
    """They add up to the rows, the larger ones first."""
    parts = evenly(rows, count)
    assert (sum(parts), len(parts)) == (rows, count)
    assert max(parts) - min(parts) <= 1
    assert list(parts) == sorted(parts, reverse=True)


def test_threads_share_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are right while another thread throws away what was remembered."""
    monkeypatch.setattr("autotune.splitting.CACHED", 3)
    splitter = Splitter(Candidate(64, concurrency=2), in_flight(2, FLAT))

    def ask(seed: int) -> None:
        for number in range(4000):
            rows = 2 + (seed + number) % 60
            assert sum(splitter.split(rows, 64)) == rows

    run_together(ask, range(4))
