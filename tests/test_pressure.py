"""Memory that really runs out: in TensorFlow's allocator, and by the kernel's hand."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autotune.outcomes import Failure, Measurement, OutOfMemory
from tests.cgroups import MemoryGroup, memory_group
from tests.pressed import HOME, outcomes_of, request_of
from tests.trouble import BAD, GOOD, write_request
from tests.waiting import wait_until

MIB = 2**20
GROUP_BYTES = 1_100 * MIB  # TensorFlow and the tuner take about half of that

# Takes 300 MiB of a group in steps, and keeps them.
EATER = """
import time
eaten = []
for _ in range(30):
    eaten.append(b"1" * (10 * 2**20))
    time.sleep(0.05)
print("full", flush=True)
time.sleep(600)
"""


def few(mebibytes: int) -> dict[str, str]:
    """Limit what TensorFlow's allocator may take on a CPU; there is one with oneDNN only."""
    return {
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_MKL_ALLOC_MAX_BYTES": str(mebibytes * MIB),
    }


def skip_without_allocator(first: object) -> None:
    """Where TensorFlow has no allocator of its own on this CPU, its limit limits nothing."""
    assert isinstance(first, Measurement), first
    if first.device_peak_bytes is None:
        pytest.skip("TensorFlow's allocator keeps no count on this CPU: needs oneDNN")


def test_tensorflow_that_says_it_is_out_of_memory(tmp_path: Path) -> None:
    """An exception of TensorFlow's allocator is out of memory on the device; the next is good."""
    request = request_of("attention")
    first, bad, after = outcomes_of(tmp_path, request, (16, 256, 16), environment=few(64))
    skip_without_allocator(first)
    assert isinstance(bad, OutOfMemory), bad
    assert (bad.candidate.batch_size, bad.where) == (256, "device")
    assert "mklcpu" in bad.message
    assert isinstance(after, Measurement), after


def test_tensorflow_that_crashes_for_want_of_memory(tmp_path: Path) -> None:
    """Where TensorFlow dies of it, or says it after all, that is an outcome; the next is good."""
    request = request_of("convolutions")
    first, bad, after = outcomes_of(tmp_path, request, (8, 512, 8), environment=few(128))
    skip_without_allocator(first)
    assert isinstance(bad, OutOfMemory) or (isinstance(bad, Failure) and bad.kind == "crash"), bad
    assert isinstance(after, Measurement), after


def test_a_kernel_kill_for_memory_is_told_as_such(tmp_path: Path) -> None:
    """The kernel ends the child and not the tuner: the host's memory ran out; the next is good."""
    with memory_group(GROUP_BYTES) as group:
        request = request_of("convolutions")
        first, bad, after = outcomes_of(tmp_path, request, (8, 4096, 8), group)
        assert isinstance(first, Measurement), first
        assert isinstance(bad, OutOfMemory), bad
        assert (bad.candidate.batch_size, bad.where) == (4096, "host")
        assert isinstance(after, Measurement), after
        assert group.kernel_kills == 1


def test_any_other_kill_is_not_called_memory(tmp_path: Path) -> None:
    """The same signal, in the same group, from somebody else is a crash."""
    request = write_request(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    sizes = [one.batch_size for one in (GOOD, BAD, GOOD)]
    with memory_group(GROUP_BYTES) as group:
        first, bad, after = outcomes_of(tmp_path, request, sizes, group)
        assert isinstance(first, Measurement), first
        assert isinstance(bad, Failure), bad
        assert bad.kind == "crash"
        assert isinstance(after, Measurement), after
        assert group.kernel_kills == 0


@contextlib.contextmanager
def tuning(place: Path, group: MemoryGroup) -> Iterator[subprocess.Popen[str]]:
    """Tune in a group, with a study to watch, and batches large enough to want the memory."""
    model = "tests.pressed:convolutions --synthetic --engine keras --concurrency 1"
    line = f"tune {model} --min-batch-size 32 --budget 6s --json"
    storage = ["--storage", f"sqlite:///{place}/study.db"]
    command = [sys.executable, "-m", "autotune.cli", *line.split(), *storage]
    with subprocess.Popen(
        group.command(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HOME,
        env=os.environ | {"TMPDIR": str(place)},
    ) as tuner:
        try:
            yield tuner
        finally:
            tuner.kill()


def has_a_trial(place: Path) -> bool:
    """Whether the study has a finished trial."""
    finished = "select 1 from trials where state = 'COMPLETE'"
    with contextlib.suppress(sqlite3.OperationalError):  # not there yet, or in use
        connection = sqlite3.connect(f"file:{place}/study.db?mode=ro", uri=True)
        with contextlib.closing(connection) as database:
            return database.execute(finished).fetchone() is not None
    return False


def test_tuning_survives_a_neighbour_who_takes_the_memory(tmp_path: Path) -> None:
    """With a quarter of the memory gone after the start, tuning ends with an answer."""
    with memory_group(GROUP_BYTES) as group, tuning(tmp_path, group) as tuner:
        wait_until(lambda: has_a_trial(tmp_path) or tuner.poll() is not None)
        with subprocess.Popen(
            group.command([sys.executable, "-c", EATER]), stdout=subprocess.PIPE, text=True
        ) as eater:
            try:
                assert eater.stdout is not None
                assert eater.stdout.readline() == "full\n"
                assert tuner.poll() is None, "It was over before the memory was gone"
                out, err = tuner.communicate()
            finally:
                eater.kill()
    assert tuner.returncode in (0, 3), err  # 3: not settled in so short a time
    assert json.loads(out)["recommendation"]["batch_size"] >= 1
