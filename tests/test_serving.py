"""The numbers for servers: measured ones, with their reasons."""

from __future__ import annotations

from typing import Any

import pytest

from autotune import Candidate, Goal
from autotune.errors import InvalidRecord
from autotune.serving import limits_for
from tests.batchers import record_of, timed
from tests.tunings import XEON, replaced

CHOSEN = Candidate(64, "compiled", concurrency=2, threads=1)
WAY = {"engine": "compiled", "concurrency": 2, "threads": 1}
CURVE = (timed(8, 0.002, **WAY), timed(24, 0.004, **WAY), timed(48, 0.0055, **WAY))


def record(goal: Goal | None = None, **fields: Any) -> Any:
    """A record of a curve up to 64 rows in 7 ms."""
    made = record_of(CHOSEN, call_s=0.007, outcomes=CURVE, goal=goal)
    return replaced(made, **fields) if fields else made


def test_without_a_budget_a_batch_has_the_tuned_size() -> None:
    """The batch is as large as it was tuned, and waits as long as one that is worth running."""
    limits = limits_for(record())
    assert (limits.batch_size, limits.enough_rows, limits.max_wait_s) == (64, 48, 0.0055)
    assert (limits.concurrency, limits.threads, limits.cpus) == (2, 1, 2)
    assert "18,300 rows/s" in limits.reasons["batch_size"]


def test_two_batches_fit_into_a_budget() -> None:
    """With 12 ms, batches of 7 ms are too long for one that waits and one that runs."""
    limits = limits_for(record(Goal(latency_budget_s=0.012)))
    assert limits.batch_size == 48
    assert limits.deadline_s == 0.012
    assert "12.0 ms" in limits.reasons["deadline_s"]


def test_without_a_budget_the_deadline_is_twice_a_full_queue() -> None:
    """Who waits longer than that waits for a machine slower than the one that was measured."""
    limits = limits_for(record())
    assert limits.deadline_s == pytest.approx(2 * limits.queue_rows / limits.rows_per_s)


def test_sizes_are_the_measured_ones_and_parts_of_a_batch() -> None:
    """One row has a size of its own, and none is larger than the largest batch."""
    assert limits_for(record()).sizes == (1, 8, 16, 24, 32, 48, 64)
    assert limits_for(record(Goal(latency_budget_s=0.012))).sizes[-1] == 48


def test_without_threads_the_record_tells_the_processors() -> None:
    """Where an engine takes the threads that it likes, it has all of the machine."""
    made = replaced(record_of(Candidate(8), call_s=0.001), machine=XEON)
    assert (limits_for(made).cpus, limits_for(made).threads) == (2, None)
    assert limits_for(replaced(made, machine=None)).cpus is None


@pytest.mark.parametrize(("threads", "quota", "cpus"), [(None, 1.5, 1), (1, 1.5, 1), (1, None, 2)])
def test_no_more_processors_are_asked_for_than_the_quota_gives(
    threads: int | None, quota: float | None, cpus: int
) -> None:
    """A cluster counts whole processors, and would look for ever for more than there are."""
    way = Candidate(8, concurrency=2, threads=threads)
    machine = replaced(XEON, cpu_count=64 if threads is None else 2, cpu_quota=quota)
    assert limits_for(replaced(record_of(way, call_s=0.001), machine=machine)).cpus == cpus


def test_another_engine_gives_the_numbers_where_a_server_runs_that() -> None:
    """What was measured with the server's engine counts, though another was recommended."""
    from tests.tunings import recommending, tuned_on

    outcomes = (timed(16, 0.001, engine="onnxruntime"), timed(32, 0.001, engine="keras"))
    both = tuned_on(XEON, outcomes=outcomes, rounds=round_of(2))
    chosen = recommending(both, Candidate(32))
    assert limits_for(chosen, ("onnxruntime",)).way == Candidate(16, "onnxruntime")
    assert limits_for(chosen, ("keras",)).way == Candidate(32)


def test_what_was_never_measured_gives_no_numbers() -> None:
    """Without a measurement of the server's engine the recommendation stands."""
    assert limits_for(record(), ("onnxruntime",)).way == CHOSEN
    assert limits_for(record(), ("keras",)).way == CHOSEN


def test_a_record_without_an_answer_is_refused() -> None:
    """There is nothing to serve where nothing fits."""
    with pytest.raises(InvalidRecord, match="no recommendation"):
        limits_for(record(recommendation=None))


def round_of(outcomes: int) -> Any:
    """One round of so many outcomes."""
    from autotune.records import Round

    return (Round("search", outcomes, 0),)
