"""Disturbance by real neighbours; cgroups and NVML are faked where no machine here has them."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from autotune import host
from autotune.disturbance import Disturbance, Meter

QUIET = Disturbance(wall_s=0.1, others_s=0.0, steal_s=0.0, throttled_s=0.0, switches=3)
ZEROS = bytes(2**16)


def work(seconds: float) -> None:
    """Keep one processor busy, without Python's lock."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        hashlib.sha256(ZEROS)


@pytest.fixture
def neighbour() -> Iterator[None]:
    """Another process that always wants a processor."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        yield
        child.kill()


@pytest.mark.usefixtures("neighbour")
def test_a_busy_neighbour_is_seen() -> None:
    """A process that computes beside this one disturbs it, and is not mistaken for it."""
    meter = Meter()
    for _ in range(100):  # the first stretches may end before the neighbour has begun
        work(0.1)
        seen = meter.read()
        if seen.is_disturbed and seen.others_s > 0:
            return
    pytest.fail(f"no stretch was disturbed; the last was {seen}")


def test_work_on_another_processor_is_not_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is pinned to some processors is disturbed by what runs on those alone."""
    Times = namedtuple("Times", ["user", "steal"])
    reads = itertools.count(1)

    def cpu_times(*, percpu: bool = False) -> object:
        busy = 100.0 * next(reads)
        return [Times(busy, busy), Times(0.0, 0.0)] if percpu else Times(busy, busy)

    monkeypatch.setattr(psutil, "cpu_times", cpu_times)
    for pinned, others_s in (((1,), 0.0), ((0, 1), 100.0), (None, 100.0)):
        monkeypatch.setattr(host, "some_cpus", lambda pinned=pinned: pinned)
        seen = Meter().read()
        assert (seen.others_s, seen.steal_s) == pytest.approx((others_s, others_s), abs=1)


def test_own_work_is_not_counted_twice() -> None:
    """What this process and others took together is no more than the processors have."""
    own_count, all_count = host.cpu_count(), psutil.cpu_count()
    with ThreadPoolExecutor(own_count) as pool:
        meter, own_s = Meter(), time.process_time()
        list(pool.map(work, [0.5] * own_count))
        seen, own_s = meter.read(), time.process_time() - own_s
    slack_s = 0.2 * all_count * seen.wall_s  # ticks are samples
    assert own_s + seen.others_s <= all_count * seen.wall_s + slack_s


def test_no_counter_is_negative() -> None:
    """However short a stretch is, nothing in it is below 0, and the stretches do not overlap."""
    began = time.perf_counter()
    meter = Meter()
    stretches = [meter.read() for _ in range(200)]
    elapsed_s = time.perf_counter() - began
    for seen in stretches:
        assert min(seen.wall_s, seen.others_s, seen.steal_s, seen.throttled_s, seen.switches) >= 0
        assert seen.gpu == ()
    assert sum(seen.wall_s for seen in stretches) <= elapsed_s


@pytest.mark.parametrize(
    ("seen", "disturbed"),
    [
        (QUIET, False),
        (Disturbance(0.1, 0.011, 0.0, 0.0, 0), False),  # one tick
        (Disturbance(0.1, 0.03, 0.0, 0.0, 0), True),
        (Disturbance(1.0, 0.03, 0.0, 0.0, 0), False),  # the same in a longer stretch
        (Disturbance(1.0, 0.3, 0.0, 0.0, 0), True),
        (Disturbance(0.1, 0.0, 0.01, 0.0, 0), False),
        (Disturbance(0.1, 0.0, 0.03, 0.0, 0), True),
        (Disturbance(0.1, 0.0, 0.0, 0.0005, 0), False),
        (Disturbance(0.1, 0.0, 0.0, 0.002, 0), True),
        (Disturbance(0.1, 0.0, 0.0, 0.0, 0, gpu=("power brake",)), True),
    ],
)
def test_what_counts_as_disturbed(seen: Disturbance, disturbed: bool) -> None:
    """One tick is no sign; two ticks in a short stretch are, and so is throttling."""
    assert seen.is_disturbed is disturbed


V1 = "nr_periods 9\nnr_throttled 1\nthrottled_time {nanoseconds}\n"
V2 = "usage_usec 5\nnr_throttled 1\nthrottled_usec {microseconds}\n"


@pytest.fixture
def throttle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Put the root of both cgroup versions here; write how long one of them held back."""
    if not Path("/proc/self/cgroup").exists():
        pytest.skip("needs cgroups, which Linux has")
    monkeypatch.setattr(host, "_CGROUP", tmp_path)

    def write(text: str, seconds: float) -> None:
        path = tmp_path / ("cpu/cpu.stat" if text == V1 else "cpu.stat")
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            text.format(nanoseconds=round(seconds * 1e9), microseconds=round(seconds * 1e6))
        )

    return write


@pytest.mark.parametrize("text", [V1, V2], ids=["v1", "v2"])
def test_a_quota_that_holds_back_is_seen(throttle: Callable[[str, float], None], text: str) -> None:
    """Seconds under the quota are those since the last read, in either version of cgroups."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    controllers = {name for line in lines for name in line.split(":")[1].split(",")}
    if ("cpu" if text == V1 else "") not in controllers:  # version 2 names none
        pytest.skip("this process has no such cgroup")
    throttle(text, 7.0)
    meter = Meter()
    assert meter.read().throttled_s == 0
    throttle(text, 7.25)
    seen = meter.read()
    assert seen.throttled_s == pytest.approx(0.25)
    assert seen.is_disturbed
    throttle(text, 1.0)  # the process was moved, or the counter began anew
    assert meter.read().throttled_s == 0


def test_a_gpu_that_is_slowed_down_is_a_disturbance() -> None:
    """What slowed the GPU down is asked anew for each stretch, and named."""
    told = iter([("power cap",), ()])
    meter = Meter(lambda: next(told))
    slowed, quiet = meter.read(), meter.read()
    assert slowed.gpu == ("power cap",)
    assert "GPU: power cap" in slowed.reasons
    assert slowed.is_disturbed
    assert quiet.gpu == ()
