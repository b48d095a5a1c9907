"""Times of calls in a service, as rehearsals tell them."""

from __future__ import annotations

import pytest

from autotune.calltimes import Times
from autotune.outcomes import Candidate, Rehearsal
from autotune.served import FEW, Served

WAY = Candidate(8, concurrency=2)
SIZES = [1, 4, 8]
SEARCHED = [Times({size: [0.001 * size * flights] for size in SIZES}) for flights in (1, 2)]

Ms = dict[tuple[int, int], float]  # milliseconds of calls by how many are in flight, and rows


def rehearsal(ms: Ms, rows_per_s: float = 100.0, count: int = FEW, **more: float) -> Rehearsal:
    """So many calls of each kind, half of which were held up for as long again."""
    kinds, times_s = list(ms) * count, [time_ms / 1e3 for time_ms in ms.values()] * count
    half = len(times_s) // 2
    return Rehearsal(
        candidate=WAY,
        rows_per_s=rows_per_s,
        rows=tuple(rows for _, rows in kinds),
        flights=tuple(flights for flights, _ in kinds),
        times_s=(*times_s[:half], *(2 * time_s for time_s in times_s[half:])),
        lost_s=(*(0.0,) * half, *times_s[half:]),
        **more,
    )


def means_ms(*rehearsals: Rehearsal, at: float = 100.0) -> list[list[float]]:
    """Milliseconds of a call of each size in the mean, beside none and beside one."""
    found = Served(rehearsals, SEARCHED, SIZES, padded=()).at(at)
    return [[round(1e3 * times.mean(size), 6) for size in SIZES] for times in found]


WHOLE: Ms = {(1, 1): 2, (1, 4): 5, (1, 8): 9, (2, 1): 3, (2, 4): 7, (2, 8): 13}


def test_times_are_those_of_as_many_rows_beside_as_many_others() -> None:
    """Without what they lost while processors were held up."""
    assert means_ms(rehearsal(WHOLE)) == [[2, 5, 9], [3, 7, 13]]


def test_without_a_rehearsal_there_are_none() -> None:
    """Those of the search are what is known then."""
    assert means_ms() == []
    assert means_ms(rehearsal(WHOLE, count=FEW - 2)) == []


def test_a_rehearsal_in_a_slow_moment_is_taken_for_what_it_is() -> None:
    """Calls as in the search took twice what they did in that: 32 ms for 8 rows, two in flight."""
    slow = rehearsal({kind: 2 * ms for kind, ms in WHOLE.items()}, warm_s=0.032)
    assert means_ms(slow) == [[2, 5, 9], [3, 7, 13]]
    both = means_ms(slow, rehearsal(WHOLE, warm_s=0.016))
    assert both == [[2, 5, 9], [3, 7, 13]]


def test_the_nearest_rate_tells_and_then_the_next() -> None:
    """As far as it has enough calls of a kind; nearest by the ratio of rates."""
    few = rehearsal({(1, 4): 99}, 100.0, FEW - 2)
    slow = rehearsal({(1, 1): 1}, 100.0)
    quick = rehearsal({(1, 1): 4, (1, 4): 6, (1, 8): 8, (2, 1): 6, (2, 4): 8, (2, 8): 10}, 400.0)
    assert means_ms(few, slow, quick, at=10.0) == [[1, 6, 8], [6, 8, 10]]
    assert means_ms(few, slow, quick, at=199.0) == [[1, 6, 8], [6, 8, 10]]
    assert means_ms(few, slow, quick, at=201.0) == [[4, 6, 8], [6, 8, 10]]


def test_rounds_at_one_rate_are_taken_together() -> None:
    """A kind of which each had a few calls has enough of both."""
    half = rehearsal(WHOLE, count=FEW // 2 + 1)
    assert means_ms(half, half) == [[2, 5, 9], [3, 7, 13]]


def test_what_nobody_saw_is_taken_from_calls_beside_others() -> None:
    """Of as many rows; a full batch of which there was none takes what it took in the search."""
    assert means_ms(rehearsal({(2, 1): 3, (2, 4): 7, (2, 8): 13})) == [[3, 7, 13], [3, 7, 13]]
    assert means_ms(rehearsal({(1, 1): 2, (1, 4): 5})) == [[2, 5, 8], [2, 5, 16]]


def test_sizes_between_are_counted_to_the_nearest() -> None:
    """Longer or shorter in the proportion of the search: 6 rows take 0.75 times what 8 take."""
    odd = {(1, 1): 2.0, (1, 3): 6.0, (1, 6): 9.0, (2, 1): 2.0, (2, 3): 6.0, (2, 6): 9.0}
    assert means_ms(rehearsal(odd)) == [[2, 8, 12], [2, 8, 12]]


def test_nearest_is_meant_by_the_proportion() -> None:
    """Five rows are nearer to four than to eight, six to eight: as in music."""
    served = Served([rehearsal({(1, 5): 5.0, (1, 6): 60.0})], SEARCHED, SIZES, padded=())
    assert served.at(1.0)[0].mean(4) == pytest.approx(0.004)
    assert served.at(1.0)[0].mean(8) == pytest.approx(0.080)
