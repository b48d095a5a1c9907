"""One replica, against queueing theory where that is exact."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import pytest

from autotune import Candidate, Measurement, replica
from autotune.calltimes import DRAWN, LEVELS
from autotune.queue_simulation import Batcher
from autotune.replica import Replica
from autotune.schedule import Schedule
from autotune.scheduling import schedule_for
from autotune.service import NOTHING, Overhead, Service
from autotune.standstills import Standstills
from tests.batchers import record_of, timed
from tests.clocks import Clocks
from tests.tunings import MODEL, XEON, replaced

MANY = 100_000  # requests
ONE_BY_ONE = Schedule(1, 1, 0.0, False, 10**9)
EXPONENTIAL_S = tuple((-np.log1p(-DRAWN)).tolist())  # calls of a second, exponentially distributed


def one_by_one(calls_s: Sequence[float], flights: int = 1, seed: int = 0) -> Replica:
    """A replica whose batches hold one request, with these call times."""
    way = Candidate(1, concurrency=flights)
    service = Service(record_of(way, outcomes=[Measurement(way, tuple(calls_s))]))
    return Replica(service, ONE_BY_ONE, NOTHING, seed=seed)


def batching(
    flights: int = 1,
    *,
    overhead: Overhead = NOTHING,
    rows: int = 1,
    wait_s: float | None = 0.0,
    call_s: float = 0.001,
    row_s: float = 0.0001,
) -> Replica:
    """A replica with batches of up to 32 rows, each a millisecond and a tenth of one a row."""
    outcomes = [timed(n, call_s + n * row_s, concurrency=flights) for n in (1, 8, 32)]
    record = record_of(
        Candidate(32, concurrency=flights), call_s=call_s + 32 * row_s, outcomes=outcomes
    )
    service = Service(record)
    schedule = schedule_for(service.recommendation, record, wait_s)
    return Replica(service, schedule, overhead, rows)


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_constant_calls_wait_as_pollaczek_and_khinchine_say(load: float) -> None:
    """M/D/1: the mean wait is load / (2 (1 - load)) calls (Kleinrock, Queueing Systems, 5.7)."""
    latency_s = one_by_one([1.0, 1.0]).run(load, MANY).latency_s
    assert latency_s.min() == pytest.approx(1.0)
    assert latency_s.mean() - 1 == pytest.approx(load / (2 * (1 - load)), rel=0.05)


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_exponential_calls_take_exponential_times(load: float) -> None:
    """M/M/1: the time to the answer is exponential with rate 1 - load (Kleinrock, 5.6)."""
    run = one_by_one(EXPONENTIAL_S).run(load, MANY)
    assert run.latency_s.mean() == pytest.approx(1 / (1 - load), rel=0.05)
    for share in (0.5, 0.99):
        expected = -math.log(1 - share) / (1 - load)
        assert run.quantile(share).value == pytest.approx(expected, rel=0.07)
    assert run.utilisation == pytest.approx(load, rel=0.02)


def test_two_threads_wait_as_erlang_says() -> None:
    """M/M/2: the mean time is 1 / (1 - load^2) (Kleinrock, 3.5, with two servers)."""
    for load in (0.4, 0.7):
        run = one_by_one(EXPONENTIAL_S, flights=2).run(2 * load, MANY)
        assert run.latency_s.mean() == pytest.approx(1 / (1 - load**2), rel=0.05)


def test_the_interval_holds_what_theory_says() -> None:
    """Of twenty runs, fifteen or more have the true 99 % in theirs; longer ones are more exact."""
    expected = -math.log(0.01) / (1 - 0.6)
    short, long = (
        [one_by_one(EXPONENTIAL_S, seed=n).run(0.6, requests).quantile(0.99) for n in range(20)]
        for requests in (7_000, 28_000)
    )
    for tails in (short, long):
        assert sum(tail.low <= expected <= tail.high for tail in tails) >= 15
    assert fmean(t.high - t.low for t in long) < 0.7 * fmean(t.high - t.low for t in short)


@pytest.mark.parametrize("flights", [1, 2, 3])
@pytest.mark.parametrize("wait_s", [0.0, None, 0.05])
def test_the_capacity_is_full_batches_one_after_the_other(
    flights: int, wait_s: float | None
) -> None:
    """Whatever the wait: batch size over time of a batch, times the batches in flight."""
    outcomes = [timed(n, 0.01, concurrency=flights) for n in (1, 32)]
    record = record_of(Candidate(32, concurrency=flights), call_s=0.01, outcomes=outcomes)
    service = Service(record)
    schedule = schedule_for(service.recommendation, record, wait_s)
    assert Replica(service, schedule, NOTHING).capacity_per_s == pytest.approx(
        flights * 32 / 0.01, rel=0.01
    )
    larger = Replica(service, schedule, NOTHING, rows=5)
    assert larger.capacity_per_s == pytest.approx(flights * 6 / 0.01, rel=0.01)


@pytest.mark.parametrize("flights", [1, 2, 3])
def test_python_is_a_limit_of_its_own(flights: int) -> None:
    """With a model of no time the interpreter's seconds a request are the limit, on any threads."""
    overhead = Overhead(let_in_s=2e-5, answer_s=3e-5, batch_s=0.0, wake_s=0.0)
    fast = batching(flights, overhead=overhead, call_s=1e-9, row_s=1e-12)
    assert fast.capacity_per_s == pytest.approx(1 / 5e-5, rel=0.01)
    assert fast.call_share < 0.01
    assert batching(flights).call_share == pytest.approx(1.0)


def test_with_python_a_request_takes_longer() -> None:
    """A request that meets nobody wakes two threads, and takes its call and all the rest."""
    overhead = Overhead(let_in_s=0.001, answer_s=0.002, batch_s=0.004, wake_s=0.008)
    latency_s = batching(overhead=overhead).run(0.01, 2_000).latency_s
    assert float(np.median(latency_s)) == pytest.approx(0.0011 + 0.023, rel=0.01)


def test_the_same_seed_gives_the_same_run() -> None:
    """Nothing but the seed is random."""
    first, again = (batching().run(3_000.0, 5_000) for _ in range(2))
    np.testing.assert_array_equal(first.latency_s, again.latency_s)


def test_groups_of_requests_stand_for_single_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where thousands come during a call, groups give the figures of following each."""
    outcomes = [timed(n, 0.01 + 1e-6 * n) for n in (1, 512, 8_192)]
    record = record_of(Candidate(8_192), call_s=0.01 + 1e-6 * 8_192, outcomes=outcomes)
    service = Service(record)
    schedule = schedule_for(service.recommendation, record, 0.0)
    rate = 0.8 * Replica(service, schedule, NOTHING).capacity_per_s
    grouped = Replica(service, schedule, NOTHING).run(rate, 40_000)
    monkeypatch.setattr(replica, "FOLLOWED", 10**9)
    each = Replica(service, schedule, NOTHING).run(rate, 1_000_000)
    assert len(each.latency_s) > 10 * len(grouped.latency_s)
    for share in (0.5, 0.99):
        assert grouped.quantile(share).value == pytest.approx(each.quantile(share).value, rel=0.02)
    assert grouped.batch_rows == pytest.approx(each.batch_rows, rel=0.02)


def test_fewer_requests_for_each_are_never_slower() -> None:
    """Over a range of rates the 99 % quantile rises, as far as the simulation can tell."""
    one = batching(2)
    tails = [
        one.run(share * one.capacity_per_s, 30_000).quantile(0.99)
        for share in (0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
    ]
    assert all(low.low <= high.high for low, high in itertools.pairwise(tails))
    assert tails[0].high < tails[-1].low


@pytest.mark.parametrize(
    ("processors", "expected"), [(1, 1 / 0.004), (2, 1 / 0.003), (None, 1 / 0.002)]
)
def test_calls_and_python_share_the_processors(processors: int | None, expected: float) -> None:
    """Python, with its two milliseconds a request, has calls beside it at all times.

    So it has half of the only one, or two thirds of one of two, whose other threads are the call's.
    On a GPU, or where nothing is known of the machine, only the interpreter is a limit.
    """
    record = record_of(Candidate(32), call_s=0.032, outcomes=[timed(32, 0.032)])
    if processors:
        record = replaced(record, machine=replaced(XEON, cpu_count=processors))
    service = Service(record)
    overhead = Overhead(let_in_s=0.002, answer_s=0.0, batch_s=0.0, wake_s=0.0)
    schedule = schedule_for(service.recommendation, record, 0.0)
    found = Replica(service, schedule, overhead).capacity_per_s
    assert found == pytest.approx(expected, rel=0.01)
    assert service.slower(1, python_share=0.0) == 1


def test_rows_take_time_to_be_joined() -> None:
    """Requests of five rows of forty bytes take two hundred times what a byte does.

    One that fills a batch is joined to nothing.
    """
    joining = Overhead(let_in_s=0.001, answer_s=0.002, batch_s=0.0, wake_s=0.0, byte_s=0.00003)
    outcomes = [timed(32, 1e-9)]
    record = replaced(record_of(Candidate(32), call_s=1e-9, outcomes=outcomes), model=MODEL)
    service = Service(record)
    schedule = schedule_for(service.recommendation, record, 0.0)
    found = Replica(service, schedule, joining, rows=5).capacity_per_s
    assert found == pytest.approx(1 / 0.009, rel=0.01)
    alone = Replica(service, schedule, joining, rows=32).capacity_per_s
    assert alone == pytest.approx(1 / 0.003, rel=0.01)


def test_rows_that_take_next_to_no_time_to_be_joined_change_nothing() -> None:
    """Who joins them has the interpreter's lock still, and need not wake again."""
    plain = Overhead(let_in_s=5e-6, answer_s=4e-6, batch_s=2e-5, wake_s=7e-5)
    outcomes = [timed(n, 0.0005, concurrency=3) for n in (1, 32)]
    way = Candidate(32, concurrency=3)
    record = replaced(record_of(way, call_s=0.0005, outcomes=outcomes), model=MODEL)
    service = Service(record)
    schedule = schedule_for(service.recommendation, record, None)
    one, other = (
        Replica(service, schedule, overhead) for overhead in (plain, replaced(plain, byte_s=1e-15))
    )
    assert one.capacity_per_s == pytest.approx(other.capacity_per_s, rel=0.005)
    tails = [each.run(14_400, 20_000).quantile(0.99).value for each in (one, other)]
    assert tails[0] == pytest.approx(tails[1], rel=0.01)


@pytest.mark.parametrize("threads", [1, None])
def test_calls_without_threads_of_their_own_share_a_pool(threads: int | None) -> None:
    """Three calls of a thread want three of eight processors, and a pool of eight all of them."""
    way = Candidate(32, concurrency=3, threads=threads)
    outcomes = [Measurement(way, (0.01,) * 3)]
    record = replaced(record_of(way, outcomes=outcomes), machine=replaced(XEON, cpu_count=8))
    expected = [9 / 8] * 2 if threads is None else [1.0, 1.0]
    service = Service(record)
    assert [service.stretch(calls) for calls in (1, 3)] == expected
    assert service.slower(3, python_share=1.0) == expected[1]


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 4.0), (1.5, 2.0)])
def test_a_quota_is_shared_by_whole_threads(quota: float, expected: float) -> None:
    """A call of all processors has one thread where there is half of one."""
    record = record_of(Candidate(32), outcomes=[timed(32, 0.01)])
    record = replaced(record, machine=replaced(XEON, cpu_count=8, cpu_quota=quota))
    assert Service(record).stretch(1) == expected


def test_the_capacity_hardly_depends_on_how_many_are_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where Python is slowed by calls that are short beside what it does for a batch."""
    outcomes = [timed(n, 0.0004 + n * 1e-8, concurrency=3) for n in (1, 4_096)]
    record = record_of(Candidate(4_096, concurrency=3), call_s=0.00044, outcomes=outcomes)
    service = Service(replaced(record, machine=replaced(XEON, cpu_count=2)))
    schedule = schedule_for(service.recommendation, record, None)
    overhead = Overhead(let_in_s=5e-6, answer_s=4e-6, batch_s=2e-5, wake_s=7e-5)
    found = Replica(service, schedule, overhead).capacity_per_s
    monkeypatch.setattr(replica, "IN_FLOOD", 1_024)
    closer = Replica(service, schedule, overhead).capacity_per_s
    assert found == pytest.approx(closer, rel=0.02)


def test_who_comes_while_the_machine_stands_still_waits_for_it() -> None:
    """With calls of no length that is all the wait: the share of late ones is known."""
    lengths_s = 0.1 * DRAWN
    still = Standstills(per_s=1.0, lengths_s=tuple(lengths_s))
    service = Service(record_of(Candidate(1), outcomes=[Measurement(Candidate(1), (1e-7,))]))
    found = Replica(service, ONE_BY_ONE, NOTHING, standstills=still).run(1_000.0, MANY)
    for late_s in (0.01, 0.03, 0.07):
        share = float(np.mean(np.maximum(0.0, lengths_s - late_s))) / 1.05
        assert float(np.mean(found.latency_s > late_s)) == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_waits_for_a_machine_are_those_of_a_queue_that_it_stands_still_under(busy: float) -> None:
    """Followed request by request, on a clock that stands still with the machine."""
    lengths_s = (0.02, 0.03, 0.09, 0.1)
    calls = Measurement(Candidate(8), (0.001, 0.002) * 100), Measurement(Candidate(1), (0.0005,))
    service = Service(record_of(Candidate(8), outcomes=calls))
    schedule = Schedule(8, 8, 0.001, follows_crowd=False, max_queue_rows=10**6)
    still = Standstills(per_s=1.5, lengths_s=lengths_s)
    replica_of_it = Replica(service, schedule, NOTHING, standstills=still)
    rate = busy * replica_of_it.capacity_per_s
    clocks = Clocks.of(1.5, lengths_s, 300)
    arrivals_s = np.cumsum(np.random.default_rng(0).exponential(1 / rate, int(150 * rate)))
    draws = np.random.default_rng(1).integers(0, LEVELS, 65_521).tolist()
    batcher = Batcher(clocks.to_running(arrivals_s).tolist(), 1, schedule, service, NOTHING, draws)
    batcher.run()
    ends_s = clocks.to_wall(np.repeat(batcher.ends_s, batcher.counts))
    latency_s = replica_of_it.run(rate, MANY).latency_s
    for share, apart in ((0.9, 0.15), (0.99, 0.1)):
        exact_s = np.quantile(ends_s - arrivals_s, share)
        assert np.quantile(latency_s, share) == pytest.approx(exact_s, rel=apart)


def test_a_machine_that_stands_still_can_do_less() -> None:
    """By the share of its time; the model's share of what it does is the same."""
    service = Service(record_of(Candidate(1), outcomes=[Measurement(Candidate(1), (0.001,))]))
    still = Standstills(per_s=5.0, lengths_s=(0.05,))
    found = Replica(service, ONE_BY_ONE, NOTHING, standstills=still)
    alone = Replica(service, ONE_BY_ONE, NOTHING)
    assert still.share == pytest.approx(0.2)
    assert found.capacity_per_s == pytest.approx(0.8 * alone.capacity_per_s)
    assert found.call_share == alone.call_share
