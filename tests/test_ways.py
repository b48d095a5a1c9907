"""Ways of keeping the processors busy."""

from __future__ import annotations

import msgspec
import pytest

from autotune import host
from autotune.records import Loaded
from autotune.ways import flights_here, lanes_of
from tests.tunings import MODEL, XEON

LOADED = Loaded(
    model=MODEL,
    machine=XEON,
    engines=("keras",),
    unavailable={},
    sample_rows=1,
    counts_device_peaks=False,
    resident_bytes=1,
    memory_limit_bytes=None,
    warnings=(),
    sets_threads=("keras",),
)


def of_machine(monkeypatch: pytest.MonkeyPatch, count: int, quota: float | None) -> None:
    """Be on a machine with so many processors."""
    monkeypatch.setattr(host, "cpu_count", lambda: count)
    monkeypatch.setattr(host, "cpu_quota", lambda: quota)


@pytest.mark.parametrize(
    ("count", "ways"),
    [
        (1, [(1, None)]),
        (2, [(1, None), (2, 1), (3, 1)]),
        (3, [(1, None), (2, 1)]),
        (4, [(1, None), (2, 2), (4, 1)]),
        (16, [(1, None), (2, 8), (4, 4)]),
    ],
)
def test_calls_in_flight_share_the_processors(
    monkeypatch: pytest.MonkeyPatch, count: int, ways: list[tuple[int, int | None]]
) -> None:
    """Threads times calls in flight are as many as processors, but for one call too many of two."""
    of_machine(monkeypatch, count, None)
    assert lanes_of(LOADED) == [("keras", *way) for way in ways]


@pytest.mark.parametrize(
    ("count", "quota", "processors", "flights"),
    [(64, 2.0, 2, [1, 2, 3]), (64, 0.5, 1, [1]), (64, 1.6, 2, [1, 2, 3]), (2, 8.0, 2, [1, 2, 3])],
)
def test_a_quota_counts_as_processors(
    monkeypatch: pytest.MonkeyPatch, count: int, quota: float, processors: int, flights: list[int]
) -> None:
    """A container with two processors' worth of time has two, whatever the machine has."""
    of_machine(monkeypatch, count, quota)
    assert host.usable_cpus() == processors
    assert flights_here() == flights


def test_where_threads_cannot_be_set_they_are_left_to_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Batches in flight are tried there too."""
    of_machine(monkeypatch, 2, None)
    loaded = msgspec.structs.replace(LOADED, engines=("keras", "xla"))
    of_xla = [lane[1:] for lane in lanes_of(loaded) if lane[0] == "xla"]
    assert of_xla == [(1, None), (2, None), (3, None)]


def test_numbers_in_flight_may_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then these are tried and no others; the threads follow from the processors."""
    of_machine(monkeypatch, 8, None)
    assert lanes_of(LOADED, [2, 8, 2]) == [("keras", 2, 4), ("keras", 8, 1)]
