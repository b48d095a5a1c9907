"""The simulated batcher starts the batches that the real one starts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from autotune import Candidate, TuningRecord
from autotune.calltimes import Times
from autotune.interpreter import HELD, SLICE_S, Interpreter
from autotune.queue_simulation import Batcher
from autotune.scheduling import schedule_for
from autotune.service import NOTHING, Service
from autotune.splitting import HAND_OVER_S
from tests.batchers import doubler, numbered, record_of, serve, timed
from tests.tunings import XEON, replaced

MODEL = doubler()
CALL_S = 1.0


def record_for(batch_size: int, flights: int = 1, *, wait_s: float = 3_600.0) -> TuningRecord:
    """A record whose every call takes a second, with an hour as the chosen wait.

    The batcher takes the wait for the time of a call as well.
    """
    way = Candidate(batch_size, concurrency=flights)
    calls = [timed(batch_size, CALL_S, concurrency=flights)]
    return record_of(way, call_s=wait_s, outcomes=calls)


def simulate(
    record: TuningRecord,
    arrivals_s: list[float],
    rows: int = 1,
    *,
    wait_s: float | None = None,
    wake_s: float = 0.0,
    let_in_s: float = 0.0,
) -> Batcher:
    """Run requests that come at these times."""
    service = Service(record)
    schedule = schedule_for(service.recommendation, record, wait_s)
    overhead = replace(NOTHING, wake_s=wake_s, let_in_s=let_in_s)
    batcher = Batcher(arrivals_s, rows, schedule, service, overhead, [0])
    batcher.run()
    return batcher


def test_python_is_cold_after_a_pause() -> None:
    """A batch takes a while more, but neither beside another nor right after one."""
    python_s = 0.25
    record = record_for(1, 2)
    service, overhead = Service(record), replace(NOTHING, cold_s=python_s)
    schedule = schedule_for(service.recommendation, record, 0.0)
    batcher = Batcher([1.0, 1.5, 1.75, 50.0], 1, schedule, service, overhead, [0])
    batcher.run()
    assert batcher.starts_s == pytest.approx([1.0 + python_s, 1.5, 2.0 + python_s, 50.0 + python_s])
    assert batcher.ends_s[0] == batcher.starts_s[2]


def test_a_batch_in_parts_has_several_calls_in_flight() -> None:
    """Of two threads for two processors nothing is left to a third, nor to those who wake."""
    way, machine = Candidate(8, concurrency=2, threads=1), replaced(XEON, cpu_count=2)
    calls = [timed(size, size / 1, concurrency=2, threads=1) for size in (4, 8)]
    record = replaced(record_of(way, call_s=8.0, outcomes=calls), machine=machine)
    service, parted_s = Service(record), 4.0 + HAND_OVER_S
    schedule = schedule_for(service.recommendation, record, 0.0)
    batcher = Batcher([1.0] * 8 + [2.0] * 4, 1, schedule, service, NOTHING, [0])
    batcher.run()
    assert batcher.counts == [8, 4]
    assert batcher.ends_s == pytest.approx([1.0 + parted_s, 2.0 + SLICE_S + 1.5 * 4.0])


def test_whose_call_ends_has_the_lock_in_a_service() -> None:
    """His wait for it is in what the call took; after one as of a search he has to wait."""
    service, answer_s, let_in_s, comes_s = Service(record_for(1)), 0.004, 0.002, 1.001
    schedule = schedule_for(service.recommendation, record_for(1), 0.0)
    overhead = replace(NOTHING, answer_s=answer_s, let_in_s=let_in_s)
    ends_s = []
    for served in ([], [Times({1: [CALL_S]})]):
        batcher = Batcher([0.0, comes_s], 1, schedule, service, overhead, [0], served=served)
        batcher.run()
        ends_s.append(batcher.ends_s[0])
    assert ends_s == pytest.approx([comes_s + let_in_s + answer_s, let_in_s + CALL_S + answer_s])


def test_calls_take_what_they_take_in_a_service() -> None:
    """By how many are in flight when each begins; Python's share of the processors is in that."""
    record = replaced(record_for(1, 2), machine=replaced(XEON, cpu_count=1))
    service = Service(record)
    schedule = schedule_for(service.recommendation, record, 0.0)
    served = [Times({1: [3.0]}), Times({1: [5.0]})]
    overhead = replace(NOTHING, let_in_s=0.25)
    batcher = Batcher([0.0, 2.0, 20.0], 1, schedule, service, overhead, [0], served=served)
    batcher.run()
    took_s = [end - start for start, end in zip(batcher.starts_s, batcher.ends_s, strict=True)]
    assert took_s == pytest.approx([3.0, 5.0, 3.0])


@settings(max_examples=25)
@given(
    waiting=st.integers(0, 40),
    rows=st.integers(1, 3),
    batch_size=st.integers(1, 16),
    wait_s=st.sampled_from([None, 0.0]),
    call_s=st.sampled_from([3_600.0, 0.001]),
)
def test_the_real_batcher_makes_the_same_batches(
    waiting: int, rows: int, batch_size: int, wait_s: float | None, call_s: float
) -> None:
    """Requests that come while one is in flight are cut into the same batches, in both waits.

    Where calls are short, several batches are taken at once.
    """
    record = record_for(batch_size, wait_s=call_s)
    watched, batcher = serve(Candidate(batch_size), model=MODEL, record=record, max_wait_s=wait_s)
    with batcher:
        watched.door.clear()
        watched.at_door.clear()
        batcher.submit(numbered(0, rows))
        assert watched.at_door.wait(60)
        for number in range(1, waiting + 1):
            batcher.submit(numbered(number * rows, rows))
        watched.door.set()
    simulated = simulate(record, [0.0] + [0.5] * waiting, rows, wait_s=wait_s)
    real = [len(batch) for batch in watched.batches]
    assert [count * rows for count in simulated.counts] == real


def test_a_batch_starts_full_or_after_the_wait() -> None:
    """The fourth request starts the first batch; the fifth waits its two seconds in vain."""
    batcher = simulate(record_for(4), [0.0, 0.1, 0.2, 0.3, 5.0], wait_s=2.0)
    assert batcher.counts == [4, 1]
    assert batcher.starts_s == pytest.approx([0.3, 7.0])
    assert batcher.ends_s == pytest.approx([1.3, 8.0])


def test_who_comes_while_the_model_is_busy_waits_for_it() -> None:
    """With one in flight the next batch starts when it ends, with all who came meanwhile."""
    batcher = simulate(record_for(4), [0.0, 0.2, 0.9, 1.1], wait_s=0.0)
    assert batcher.counts == [1, 2, 1]
    assert batcher.starts_s == pytest.approx([0.0, 1.0, 2.0])


def test_a_lone_caller_never_waits_and_a_crowd_waits_for_its_last() -> None:
    """By its own choice the batcher starts at once for one, and for three when the third is there.

    As in the real one: the peak of three was seen while the first batch was in flight.
    """
    record = record_for(64)
    alone = simulate(record, [0.0, 2.0, 4.0])
    assert alone.starts_s == pytest.approx([0.0, 2.0, 4.0])
    crowd = simulate(record, [0.0, 0.5, 0.6, 1.7])
    assert crowd.counts == [1, 3]
    assert crowd.starts_s == pytest.approx([0.0, 1.7])


def test_workers_share_what_waits() -> None:
    """Where two may be in flight, the one that is free first leaves the other its half."""
    arrivals = [0.0, 0.1] + [0.5] * 18
    batcher = simulate(record_for(64, flights=2), arrivals)
    assert batcher.counts[:3] == [1, 1, 10]
    assert batcher.starts_s[:3] == pytest.approx([0.0, 0.1, 1.0])
    assert max(batcher.counts) < 18


def test_workers_do_not_share_what_takes_next_to_no_time() -> None:
    """As in the real one: rows of a microsecond each are one batch."""
    record = record_for(64, flights=2, wait_s=64e-6)
    assert simulate(record, [0.0, 0.1] + [0.5] * 18).counts == [1, 1, 18]


def test_nobody_waits_for_rows_that_would_share_his_batch() -> None:
    """Who comes beside one row in flight starts at once, where forty would be taken together."""
    way = Candidate(8_192, concurrency=2)
    calls = [timed(8_192, CALL_S, concurrency=2)]
    batcher = simulate(record_of(way, call_s=0.01, outcomes=calls), [0.0, 0.5])
    assert batcher.starts_s == pytest.approx([0.0, 0.5])


def test_a_thread_that_slept_takes_who_came_while_it_woke() -> None:
    """Waking takes time, and who comes in it is served as well; a busy thread need not wake.

    First the one that lets requests in wakes: at 0.6 and 0.8 the first two are in the queue. The
    one that answers wakes from 0.6 to 0.9.
    """
    arrivals = [0.1, 0.3, 1.0]
    batcher = simulate(record_for(4), arrivals, wait_s=0.0, wake_s=0.3, let_in_s=0.2)
    assert batcher.counts == [2, 1]
    assert batcher.starts_s == pytest.approx([0.9, 1.9])


def test_python_and_calls_have_equal_shares_of_the_processors() -> None:
    """On one processor, what is let in beside a call takes twice its time, and so does the call.

    The first request is in the queue after 0.2 s. Its call begins with Python having been busy all
    the time until then, so that it takes two seconds. The others come at 1.0 and wait for it.
    """
    record = replace(record_for(4), machine=replace(XEON, cpu_count=1))
    batcher = simulate(record, [0.0, 1.0, 1.0], wait_s=0.0, let_in_s=0.2)
    assert batcher.starts_s == pytest.approx([0.2, 2.2])
    assert batcher._interpreter.entered_s == pytest.approx([0.2, 1.4, 1.8])


def test_a_batch_alone_is_parted_and_one_beside_it_is_not() -> None:
    """Two parts of two seconds in all take one, and what it takes to wake two threads for them."""
    way = Candidate(8, concurrency=2)
    calls = [timed(size, size / 4, concurrency=2) for size in (1, 4, 8)]
    record = record_of(way, call_s=1.0, outcomes=calls)
    assert Service(record).parts(8) == (4, 4)
    batcher = simulate(record, [0.0] * 8, wait_s=0.0)
    assert batcher.ends_s == pytest.approx([1.0 + HAND_OVER_S])
    batcher = simulate(record, [0.0] * 16, wait_s=0.0)
    assert batcher.counts == [8, 8]
    assert batcher.ends_s == pytest.approx([1.0 + HAND_OVER_S, 2.0])


def test_a_request_larger_than_a_batch_runs_alone() -> None:
    """Requests of ten rows are never joined where a batch holds eight."""
    assert simulate(record_for(8), [0.0] * 3, 10, wait_s=0.0).counts == [1, 1, 1]


@pytest.mark.parametrize("flights", [1, 4, 8])
@pytest.mark.parametrize("parts", [10, 20, 24, 33, 1_000, 1_001])
def test_a_request_larger_than_a_batch_runs_in_parts(flights: int, parts: int) -> None:
    """However many they are, they take their time together, in few steps."""
    batcher = simulate(record_for(4, flights), [0.0], 4 * parts)
    exact_s = math.ceil(parts / flights) * CALL_S + (HAND_OVER_S if flights > 1 else 0.0)
    assert batcher.ends_s == pytest.approx([exact_s], rel=0.06)
    if parts <= 33:
        assert batcher.ends_s == pytest.approx([exact_s])
    assert batcher._calls <= 2 * 16 * flights + 1


def test_who_wakes_may_find_no_processor_free() -> None:
    """Beside a call that takes the only one, about a third of the workers begin a slice later."""
    way = Candidate(1, concurrency=2, threads=1)
    calls = [timed(1, CALL_S, concurrency=2, threads=1)]
    record = record_of(way, call_s=3_600.0, outcomes=calls)
    arrivals = [float(2 * number + late) for number in range(300) for late in (0, 0.5)]
    late: dict[int, list[float]] = {}
    for processors in (1, 3):
        machine = replace(XEON, cpu_count=processors)
        batcher = simulate(replace(record, machine=machine), arrivals)
        late[processors] = [
            start - came for start, came in zip(batcher.starts_s, arrivals, strict=True)
        ]
    assert late[3] == pytest.approx([0.0] * len(arrivals), abs=1e-9)
    assert late[1][::2] == pytest.approx([0.0] * 300, abs=1e-9)
    beside = [round(each, 6) for each in late[1][1::2]]
    assert set(beside) <= {0.0, SLICE_S, 2 * SLICE_S}  # who lets in, and who answers
    assert sum(beside) / len(beside) == pytest.approx(2 * HELD * SLICE_S, rel=0.1)


def test_who_lets_in_waits_for_no_longer_than_the_call() -> None:
    """The call that has the processor ends in less than a slice."""
    interpreter = Interpreter([1.0], let_in_s=0.0, wake_s=0.0)
    interpreter.ends_s = [1.0 + SLICE_S / 2]
    awake = {round(interpreter.woken(1.0) - 1.0, 6) for _ in range(100)}
    assert awake == {0.0, SLICE_S / 2}


def test_several_batches_are_taken_by_those_who_are_there() -> None:
    """Not by the crowd that there was once: half of them at a time, in whole batches."""
    record = record_for(4, wait_s=0.0001)
    assert simulate(record, [0.0, *(0.5,) * 40]).counts == [1, 20, 8, 4, 4, 4]
