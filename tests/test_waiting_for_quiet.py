"""While something disturbs, the search waits for it to end, and not for ever."""

from __future__ import annotations

from collections.abc import Callable

from autotune import Candidate, Goal, Measurement, TuningRecord, search
from autotune.waiting import STRETCH_SHARE, WAIT_SHARE

BUDGET_S = 60.0


def search_beside(is_busy: Callable[[float], bool]) -> TuningRecord:
    """Search on a device with a neighbour, who shows, and who slows more in flight more.

    Args:
        is_busy: Whether the neighbour is, at a second of the search.
    """
    clock_s = 0.0

    def probe(candidate: Candidate, seconds: float) -> Measurement:
        nonlocal clock_s
        call_s = 0.02 + 0.0005 * candidate.batch_size
        flights = candidate.concurrency
        busy = is_busy(clock_s)
        span_s = call_s * (1 if busy else 1 / (1 + 0.3 * (flights - 1))) * (1.7 if busy else 1)
        clock_s += 4 * span_s
        return Measurement(
            candidate,
            (span_s * flights,) * 4,
            span_s=4 * span_s if flights > 1 else None,
            elapsed_s=4 * span_s,
            disturbed=4 if busy else 0,
        )

    return search(probe, Goal(max_batch_size=256), concurrency=(1, 2), budget_s=BUDGET_S)


def waited_s(record: TuningRecord) -> list[float]:
    """Seconds of each stretch of waiting."""
    stretches: list[float] = []
    outcomes = iter(record.outcomes)
    before = ""
    for a_round in record.rounds:
        took_s = sum(next(outcomes).elapsed_s for _ in range(a_round.outcomes))
        if a_round.purpose == "wait":
            if before != "wait":
                stretches.append(0.0)
            stretches[-1] += took_s
        before = a_round.purpose
    return stretches


def test_in_quiet_nothing_is_waited_for() -> None:
    """Without a disturbance no time is lost."""
    assert waited_s(search_beside(lambda _: False)) == []


def test_it_waits_for_a_neighbour_to_be_quiet() -> None:
    """Beside one who is busy half of the time, what is compared is nearly all undisturbed."""
    record = search_beside(lambda now_s: now_s % 6 < 3)
    assert record.recommendation is not None
    assert record.recommendation.concurrency == 2
    assert waited_s(record)
    rounds = [a_round for a_round in record.rounds if a_round.purpose != "wait"]
    disturbed = sum(a_round.disturbed for a_round in rounds)
    assert disturbed < 0.3 * sum(a_round.outcomes for a_round in rounds)


def test_it_does_not_wait_for_ever() -> None:
    """One who comes and stays is waited for once, for a share of the budget; then it goes on."""
    record = search_beside(lambda now_s: now_s > 2)
    longest = max(o.elapsed_s for o in record.outcomes)
    assert record.recommendation is not None
    (stretch_s,) = waited_s(record)
    assert stretch_s <= STRETCH_SHARE * BUDGET_S + longest


def test_it_waits_for_no_more_than_a_share_of_the_budget() -> None:
    """However often one comes and goes."""
    record = search_beside(lambda now_s: now_s % 5 < 4.5)
    longest = max(o.elapsed_s for o in record.outcomes)
    assert record.recommendation is not None
    assert 0 < sum(waited_s(record)) <= WAIT_SHARE * BUDGET_S + longest
