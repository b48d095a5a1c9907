"""The forecast: never below what was seen, and never far above what is likely."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from autotune.allocator import TensorFlowAllocator
from autotune.forecast import MARGIN, RESERVE_BYTES, upper_bound_bytes

MIB = 2**20
WASTE = TensorFlowAllocator.waste_bytes
SIZES = st.integers(1, 2**16)
PEAKS = st.dictionaries(SIZES, st.integers(0, 2**40), min_size=1, max_size=12)


def test_nothing_measured_is_nothing_known() -> None:
    """Without a measured peak there is no bound."""
    assert upper_bound_bytes({}, 8) is None


@given(PEAKS, SIZES)
def test_the_bound_is_never_under_a_measured_peak(peaks: dict[int, int], batch_size: int) -> None:
    """A batch of as many rows or more needs no less than what was measured."""
    below = [peak for size, peak in peaks.items() if size <= batch_size]
    assume(below)
    bound = upper_bound_bytes(peaks, batch_size)
    assert bound is not None
    assert bound >= max(below)


@given(PEAKS, SIZES, SIZES)
def test_more_rows_never_need_less(peaks: dict[int, int], one: int, other: int) -> None:
    """The bound does not fall as the batch grows."""
    lower, upper = sorted((one, other))
    first, second = upper_bound_bytes(peaks, lower), upper_bound_bytes(peaks, upper)
    assert first is not None
    assert second is not None
    assert first <= second


@given(PEAKS)
def test_a_size_between_two_lies_between_their_peaks(peaks: dict[int, int]) -> None:
    """Within what was measured the bound is no lower than what is smaller, no higher than all."""
    for size in range(min(peaks), max(peaks), max(1, max(peaks) // 20)):
        bound = upper_bound_bytes(peaks, size)
        assert bound is not None
        assert max(p for s, p in peaks.items() if s <= size) <= bound <= max(peaks.values())


@given(
    weights=st.integers(0, 2**34), row_bytes=st.integers(0, 2**24), batch_size=st.integers(1, 2**14)
)
def test_weights_and_rows_stay_under_the_bound(
    weights: int, row_bytes: int, batch_size: int
) -> None:
    """A peak of weights and so much a row is under the bound, one doubling ahead."""
    peaks = {size: weights + size * row_bytes for size in (batch_size, 2 * batch_size)}
    bound = upper_bound_bytes(peaks, 4 * batch_size)
    assert bound is not None
    assert bound >= weights + 4 * batch_size * row_bytes


def test_one_peak_is_taken_to_grow_in_proportion() -> None:
    """With one measured peak, twice the rows are twice the peak, plus margin and reserve."""
    bound = upper_bound_bytes({100: 10**9}, 200)
    assert bound == int(MARGIN * 2 * 10**9) + RESERVE_BYTES


def test_the_steeper_of_two_readings_counts() -> None:
    """A slope that turns upwards is carried on where it asks for more than proportion does."""
    steep = upper_bound_bytes({100: 10**8, 200: 10**9}, 400)
    assert steep == int(MARGIN * (10**9 + 200 * 9 * 10**6)) + RESERVE_BYTES


def test_a_chunk_that_is_not_split_stays_under_the_bound() -> None:
    """Peaks of two convolutions, in MiB: a few rows more took a chunk of twice the size."""
    for size, peak in ((136, 392), (144, 400), (160, 424)):
        bound = upper_bound_bytes({128: 264 * MIB}, size, 0, WASTE)
        assert bound is not None
        assert bound >= peak * MIB


@given(PEAKS, SIZES, st.integers(0, 2**40))
def test_what_was_there_before_lowers_the_bound(
    peaks: dict[int, int], batch_size: int, idle_bytes: int
) -> None:
    """Weights do not grow with the rows; but no bound falls below what was seen."""
    without, bound = (upper_bound_bytes(peaks, batch_size, idle) for idle in (0, idle_bytes))
    assert without is not None
    assert bound is not None
    assert bound <= without
    assert bound >= max([p for s, p in peaks.items() if s <= batch_size], default=0)


def test_a_model_of_large_weights_may_be_tried_with_two_rows() -> None:
    """Weights of 6 GB and 1 MB a row are not taken for 12 GB at twice the rows."""
    bound = upper_bound_bytes({1: 6_001 * 10**6}, 2, 6_000 * 10**6)
    assert bound is not None
    assert bound < 6_100 * 10**6


def test_a_size_between_two_may_waste_a_chunk_that_neither_does() -> None:
    """Peaks of a residual net in MiB: between 256 and 512 rows it took more than with 512."""
    bound = upper_bound_bytes({256: 37 * MIB, 512: 73 * MIB}, 384, 0, WASTE)
    assert bound is not None
    assert bound >= 93 * MIB


def test_what_is_not_counted_exactly_has_a_reserve() -> None:
    """An LSTM of small blocks: nothing is counted, and 30 MiB are at twice the rows."""
    for peaks, size in (({64: 0}, 128), ({64: 0}, 32), ({32: 0, 128: 0}, 64)):
        bound = upper_bound_bytes(peaks, size, 0, WASTE)
        assert bound is not None
        assert bound >= 30 * MIB
