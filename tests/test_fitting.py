"""Fitting: the recommended size, or a half of it again and again, and never more than fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune import host
from autotune.device import Device
from autotune.fitting import Allowance, batch_size_here, batch_size_that_fits
from autotune.guard import PROCESS_PER_ALLOCATED, RESERVE
from autotune.outcomes import Candidate, Measurement
from tests.tunings import XEON, replaced, tuned_on, with_peaks

GIB = 2**30
CHOSEN = Candidate(512, "compiled", concurrency=2)
# A net of 1 GiB of weights, and 8 MiB a row.
PEAKS = {size: GIB + size * 2**23 for size in (64, 128, 256, 512)}
GPU = with_peaks(PEAKS, CHOSEN, idle_bytes=GIB)


def test_enough_memory_leaves_the_size_as_it_was_tuned() -> None:
    """With as much free memory as the rows take, and the reserve, nothing is changed."""
    assert batch_size_that_fits(GPU, int(4 * GIB / (1 - RESERVE)) + 1) == 512


@pytest.mark.parametrize(
    ("free_bytes", "size"), [(4 * GIB, 256), (2 * GIB, 128), (GIB, 64), (2**20, 1), (0, 1)]
)
def test_with_less_memory_the_size_is_halved_until_it_fits(free_bytes: int, size: int) -> None:
    """What is held before any batch is loaded already; what the rows take must be free."""
    assert batch_size_that_fits(GPU, free_bytes) == size


def test_a_process_takes_more_than_its_allocator_counts() -> None:
    """On a CPU 1.6 bytes must be free for each that was counted."""
    record = with_peaks(PEAKS, CHOSEN, kind="cpu")
    enough = int(PROCESS_PER_ALLOCATED * PEAKS[512] / (1 - RESERVE))
    assert batch_size_that_fits(record, enough + 1) == 512
    assert batch_size_that_fits(record, enough - 10) == 256
    assert batch_size_that_fits(GPU, enough - 10, device_kind="cpu") == 256


def test_a_process_that_was_watched_is_as_large_as_it_was_seen() -> None:
    """Where no allocator counted, the growth of the process must be free."""
    record = with_peaks(PEAKS, CHOSEN, kind="cpu", counted=False, idle_bytes=GIB)
    enough = int(4 * GIB / (1 - RESERVE))
    assert batch_size_that_fits(record, enough + 1) == 512
    assert batch_size_that_fits(record, enough - 10) == 256


def test_other_ways_of_running_do_not_count() -> None:
    """The peaks of another engine, or of other numbers in flight, tell nothing of this one."""
    others = [
        Measurement(Candidate(512, "keras"), (0.1,), device_peak_bytes=2**50),
        Measurement(Candidate(512, "compiled"), (0.1,), device_peak_bytes=2**50),
    ]
    record = with_peaks(PEAKS, CHOSEN, idle_bytes=GIB, others=others)
    assert batch_size_that_fits(record, 8 * GIB) == 512


def test_what_is_not_known_changes_nothing() -> None:
    """Without peaks, or without a reading of free memory, the recommendation stands."""
    assert batch_size_that_fits(GPU, None) == 512
    assert batch_size_that_fits(tuned_on(XEON), 0) == 8
    # The process of a GPU whose allocator does not count: its size tells nothing of the GPU.
    assert batch_size_that_fits(with_peaks(PEAKS, CHOSEN, counted=False), 0) == 512


def test_a_record_without_an_answer_has_no_size() -> None:
    """Whoever asks for the size of a record without one has made a mistake."""
    with pytest.raises(ValueError, match="no recommendation"):
        batch_size_that_fits(replaced(GPU, recommendation=None), GIB)


@given(
    size=st.integers(1, 2**14),
    tried=st.sets(st.integers(0, 6), min_size=1),
    weights=st.integers(0, 2**33),
    row_bytes=st.integers(0, 2**24),
    free_bytes=st.integers(0, 2**40),
    kind=st.sampled_from(["cpu", "gpu"]),
)
def test_what_fits_does_fit(
    size: int, tried: set[int], weights: int, row_bytes: int, free_bytes: int, kind: Any
) -> None:
    """For weights and so much a row: the size is a halving of the tuned one and within free memory.

    Whichever sizes were measured, as long as the recommended one was.
    """
    sizes = {max(1, size >> halvings) for halvings in tried} | {size}
    peaks = {n: weights + n * row_bytes for n in sizes}
    record = with_peaks(peaks, Candidate(size), kind=kind, idle_bytes=weights)
    found = batch_size_that_fits(record, free_bytes)
    assert found in {max(1, size >> halvings) for halvings in range(15)}
    if found > 1:
        rows = found * row_bytes
        taken = PROCESS_PER_ALLOCATED * (weights + rows) if kind == "cpu" else rows
        assert taken <= free_bytes


@given(free=st.lists(st.integers(0, 2**34), min_size=2, max_size=2))
def test_more_memory_never_makes_a_smaller_batch(free: list[int]) -> None:
    """The size grows with what is free, if at all."""
    less, more = sorted(free)
    assert batch_size_that_fits(GPU, less) <= batch_size_that_fits(GPU, more)


def test_this_machine_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU it is the host's free memory that counts, containers' limits included."""
    device = Device("cpu", "Intel Xeon", None)
    record = with_peaks(PEAKS, CHOSEN, kind="cpu")
    for free_bytes in (0, 5 * GIB, 100 * GIB):
        memory = host.Memory(100 * GIB, free_bytes)
        monkeypatch.setattr(host, "memory", lambda memory=memory: memory)
        assert batch_size_here(record, device) == batch_size_that_fits(record, free_bytes)


def test_a_look_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a device that is not known nor an error while looking makes a size smaller."""

    def fail() -> host.Memory:
        raise OSError("no /proc here")

    monkeypatch.setattr(host, "memory", fail)
    record = with_peaks(PEAKS, CHOSEN, kind="cpu")
    assert batch_size_here(record, Device("cpu", "Intel Xeon", None)) == 512
    assert batch_size_here(record, Device("gpu", "NVIDIA GPU", None, blind="no NVML")) == 512
    assert batch_size_here(record, None) == 512


@pytest.mark.parametrize("grown", [0, GIB, 100 * GIB])
def test_what_a_process_took_counts_as_free_as_far_as_batches_took_it(
    monkeypatch: pytest.MonkeyPatch, grown: int
) -> None:
    """The next batch has what the last one took; the caller's own rows it does not have."""
    record = with_peaks(PEAKS, CHOSEN, kind="cpu", counted=False, idle_bytes=GIB)
    monkeypatch.setattr(host, "resident_bytes", lambda: 2 * GIB)
    allowance = Allowance(record, Device("cpu", "Intel Xeon", None))
    free = 2 * GIB
    monkeypatch.setattr(host, "memory", lambda: host.Memory(64 * GIB, free))
    monkeypatch.setattr(host, "resident_bytes", lambda: 2 * GIB + grown)
    assert allowance.batch_size() == batch_size_that_fits(record, free)
    for largest_ran, size in ((64, 256), (512, 512)):  # they took 0.5 GiB and 4 GiB
        held = min(grown, largest_ran * 2**23)
        assert allowance.batch_size(largest_ran) == batch_size_that_fits(record, free + held)
        assert allowance.batch_size(largest_ran) <= size


def test_an_allowance_without_peaks_is_what_was_tuned() -> None:
    """Where it is not known what batches take, nothing is held back."""
    assert Allowance(tuned_on(XEON), Device("cpu", "Intel Xeon", None)).batch_size(8) == 8


def test_a_gpu_keeps_what_it_ran() -> None:
    """An allocator does not give back what the largest batch took."""
    allowance = Allowance(GPU, Device("gpu", "NVIDIA GPU", None, blind="no NVML"))
    assert allowance.batch_size(700) == 700
    assert allowance.batch_size() == 512
