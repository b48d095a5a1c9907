"""The guard: how much may be taken, what others took, and when a probe must stop."""

from __future__ import annotations

import contextlib
import threading

import pytest

from autotune import guard as guard_module
from autotune import watch
from autotune.device import Device
from autotune.disturbance import Meter
from autotune.guard import PROCESS_PER_ALLOCATED, RESERVE, Guard
from autotune.timing import Threads, time_calls
from autotune.watch import Look, Watch
from tests.guards import GIB, UNWATCHED, FreeMemory
from tests.waiting import wait_until

CPU = Device("cpu", "CPU", 64 * GIB)


@pytest.fixture(params=["host", "gpu"])
def free(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> FreeMemory:
    """A device with 16 GiB free, of which it is told what this process holds, or not."""
    return FreeMemory(monkeypatch, 16 * GIB, is_host=request.param == "host")


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> FreeMemory:
    """A host with 16 GiB free."""
    return FreeMemory(monkeypatch, 16 * GIB)


def test_the_limit_is_what_is_free_less_a_reserve(free: FreeMemory) -> None:
    """Of what is free a part stays for others, and the process takes more than is counted."""
    counted = Guard(CPU, own_bytes=0).limit_bytes
    assert counted == int((1 - RESERVE) * 16 * GIB / PROCESS_PER_ALLOCATED)
    whole = Guard(CPU, own_bytes=None).limit_bytes  # the process's own peaks are held against it
    assert whole is not None
    assert whole > (1 - RESERVE) * 16 * GIB


def test_what_others_take_between_probes_lowers_the_limit(free: FreeMemory) -> None:
    """Between probes this process takes nothing: what is missing then, somebody else has."""
    guard = Guard(CPU, own_bytes=0)
    before = guard.limit_bytes
    free.free_bytes -= 4 * GIB
    with guard:
        assert not guard.alarm
        assert guard.limit_bytes == pytest.approx(
            (before or 0) - 4 * GIB / PROCESS_PER_ALLOCATED, abs=2
        )
    free.free_bytes += 4 * GIB
    with guard:
        assert guard.limit_bytes == before


def test_what_a_probe_takes_itself_is_not_laid_on_others(free: FreeMemory) -> None:
    """Until its calls repeat themselves, a probe's own memory is what goes."""
    guard = Guard(CPU, own_bytes=0)
    before = guard.limit_bytes
    with guard:
        free.take(15 * GIB)
        free.is_seen()
        guard.settle()
        free.is_seen()
        assert not guard.alarm
    with guard:
        assert guard.limit_bytes == before


def test_a_probe_stops_when_others_leave_too_little(free: FreeMemory) -> None:
    """Once the calls repeat themselves, memory that falls short is an alarm with both figures."""
    guard = Guard(CPU, own_bytes=0)
    with guard:
        guard.settle()
        free.is_seen()
        free.free_bytes -= 4 * GIB
        free.is_seen()
        assert not guard.is_alarmed()  # there is enough left
        free.free_bytes = GIB // 2
        wait_until(guard.is_alarmed)
    assert guard.alarm == (
        "Other processes took 15,872 MiB of memory since the start, and 512 MiB are left"
    )
    assert guard.limit_bytes == 0


def test_a_probe_waits_for_memory_and_then_gives_up(free: FreeMemory) -> None:
    """One that begins while others hold the memory has the alarm before its first call."""
    guard = Guard(CPU, own_bytes=0)
    free.free_bytes = GIB // 4
    with guard:
        assert "256 MiB are left" in guard.alarm
    free.free_bytes = 16 * GIB
    with guard:
        assert not guard.alarm


def test_a_guard_without_eyes_gives_no_limit_and_says_why() -> None:
    """Where nothing can be read, nothing is claimed."""
    guard = Guard(UNWATCHED, None)
    assert guard.limit_bytes is None
    assert guard.blind == "nobody asked it to look"
    with guard:
        guard.settle()
        assert not guard.alarm


def test_a_look_that_hangs_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that does not come back holds up nobody, and is not asked again."""
    monkeypatch.setattr(watch, "PATIENCE_S", 0.05)
    release, looks = threading.Event(), []

    def look() -> Look:
        looks.append(1)
        release.wait(30)
        return Look(lost="too late")

    seen: list[Look] = []
    watching = Watch(look, 0.001, seen.append)
    watching.start()
    watching.stop()
    assert watching.is_stuck
    watching.start()
    watching.stop()
    release.set()
    assert (len(looks), seen) == (1, [])


def test_the_watch_looks_first_last_and_in_between() -> None:
    """The looks before and after are sure, however short the time between."""
    seen: list[Look] = []
    counted = iter(range(10**6))
    watching = Watch(lambda: Look(next(counted)), 0.001, seen.append)
    watching.start()
    assert seen[0] == Look(0)
    wait_until(lambda: len(seen) > 3)
    before = len(seen)
    watching.stop()
    assert len(seen) > before
    assert watching.latest == seen[-1]


def test_what_a_probe_gives_back_hides_nobody(free: FreeMemory) -> None:
    """A session that lets its memory go at the end is not taken for others who give theirs back."""
    guard = Guard(CPU, own_bytes=0)
    before = guard.limit_bytes or 0
    with guard:
        free.take(2 * GIB)
        guard.settle()
        free.is_seen()
        free.free_bytes -= 3 * GIB  # somebody else
        free.is_seen()
        guard.rest()
        free.take(-2 * GIB)
        free.is_seen()
    beside = before - 3 * GIB / PROCESS_PER_ALLOCATED
    assert guard.limit_bytes == pytest.approx(beside, abs=2)
    with guard:
        assert guard.limit_bytes == pytest.approx(beside, abs=2)


def test_a_probe_that_has_waited_long_enough_begins(
    free: FreeMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others who give the memory back while a probe waits for it leave no alarm behind."""
    monkeypatch.setattr(guard_module, "PATIENCE_S", 300.0)
    guard = Guard(CPU, own_bytes=0)
    whole = guard.limit_bytes
    free.free_bytes = GIB // 4

    def give_back() -> None:
        free.is_seen()
        free.free_bytes = 16 * GIB

    giving = threading.Thread(target=give_back)
    giving.start()
    with guard:
        assert not guard.is_alarmed()
        free.is_seen()
        assert not guard.is_alarmed()
    giving.join()
    assert guard.limit_bytes == whole


def test_what_this_process_takes_between_probes_is_off_the_limit(on_host: FreeMemory) -> None:
    """A service that tunes within itself may grow meanwhile; a framework's count knows nothing."""
    guard = Guard(CPU, own_bytes=0)
    before = guard.limit_bytes or 0
    with guard:
        on_host.take(2 * GIB)  # a session, which is told apart
        on_host.is_seen()
    assert guard.limit_bytes == before
    on_host.take(4 * GIB)
    with guard:
        beside = before - 4 * GIB / PROCESS_PER_ALLOCATED
        assert guard.limit_bytes == pytest.approx(beside, abs=2)
    on_host.take(-4 * GIB)
    with guard:
        assert guard.limit_bytes == before


def test_memory_that_comes_and_goes_with_each_call_is_nobody_elses(on_host: FreeMemory) -> None:
    """On a host the workspace of each call is mapped anew: no part of it is laid on others."""
    guard = Guard(CPU, own_bytes=0)
    before = guard.limit_bytes
    for _ in range(5):
        with guard:
            guard.settle()
            for _ in range(20):
                on_host.take(2 * GIB)
                on_host.is_seen()
                on_host.take(-2 * GIB)
                on_host.is_seen()
    assert guard.limit_bytes == before


def test_where_the_process_is_the_count_its_memory_is_not_left(on_host: FreeMemory) -> None:
    """What a session may take before its first batch comes on top of what the process holds."""
    guard = Guard(CPU, own_bytes=None)
    assert guard.limit_bytes is not None
    assert guard.left_bytes == pytest.approx(0.9 * 16 * GIB, rel=0.05)
    counted = Guard(CPU, own_bytes=0)
    assert counted.left_bytes == counted.limit_bytes


def test_a_look_that_fails_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells nothing, and the next one comes; nor does it matter to be stopped twice."""
    seen: list[Look] = []
    looks = iter(range(10**6))

    def look() -> Look:
        if (number := next(looks)) == 1:
            raise OSError("too many open files")
        return Look(number)

    watching = Watch(look, 0.001, seen.append)
    watching.start()
    wait_until(lambda: len(seen) > 3)
    watching.stop()
    watching.stop()
    assert seen[:3] == [Look(0), Look(), Look(2)]
    assert not watching.is_stuck


def test_calls_that_fail_are_no_longer_repeated(free: FreeMemory) -> None:
    """What a session lets go after an error hides nobody either."""
    guard = Guard(CPU, own_bytes=0)
    before = guard.limit_bytes or 0

    def call(_: object) -> None:
        free.is_seen()
        free.free_bytes -= 3 * GIB  # somebody else
        free.is_seen()
        raise MemoryError

    with guard:
        free.take(2 * GIB)
        with contextlib.suppress(MemoryError):
            time_calls(
                call,
                [None],
                0.1,
                threads=Threads(),
                concurrency=1,
                fewest=1,
                at_once=None,
                meter=Meter(),
                guard=guard,
            )
        free.take(-2 * GIB)
        free.is_seen()
    with guard:
        assert guard.limit_bytes == pytest.approx(before - 3 * GIB / PROCESS_PER_ALLOCATED, abs=2)


def test_what_is_taken_at_the_end_of_a_probe_is_seen(free: FreeMemory) -> None:
    """After the last look at repeated calls nothing is counted, but the next probe makes up."""
    guard = Guard(CPU, own_bytes=0)
    before = guard.limit_bytes or 0
    with guard:
        guard.settle()
        free.is_seen()
        guard.rest()
        free.free_bytes -= 3 * GIB
        free.is_seen()
    with guard:
        assert guard.limit_bytes == pytest.approx(before - 3 * GIB / PROCESS_PER_ALLOCATED, abs=2)


def test_what_siblings_take_is_no_others_doing(free: FreeMemory) -> None:
    """Memory of the tuner's other children is missing in the limit, and rings no alarm."""
    guard = Guard(CPU, own_bytes=0, siblings_bytes=GIB)
    whole = (1 - RESERVE) * 17 * GIB
    assert guard.limit_bytes == int((whole - GIB) / PROCESS_PER_ALLOCATED)
    for siblings in (3, 16, 0):
        free.free_bytes = (17 - siblings) * GIB - GIB // 4
        guard.siblings_bytes = siblings * GIB
        with guard:
            assert not guard.alarm
            taken = (siblings + 0.25) * GIB
            expected = max(0, int((whole - taken) / PROCESS_PER_ALLOCATED))
            assert guard.limit_bytes == pytest.approx(expected, abs=2)


def test_what_sessions_took_when_they_were_opened_is_off_the_limit(free: FreeMemory) -> None:
    """It is the process's own, but the allocator does not count it; else the peaks hold it."""
    counted, whole = Guard(CPU, own_bytes=0), Guard(CPU, own_bytes=None)
    before = whole.limit_bytes
    for guard in (counted, whole):
        guard.sessions_bytes = GIB
    expected = int(((1 - RESERVE) * 16 * GIB - GIB) / PROCESS_PER_ALLOCATED)
    assert counted.limit_bytes == expected
    assert whole.limit_bytes == before
