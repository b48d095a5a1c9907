"""Threads of a call: a child for each number, side by side, and what they do to each other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from autotune import family, host
from autotune.outcomes import Candidate, Failure, Measurement, OutOfMemory
from autotune.probe import IsolatedProbe, process_threads
from tests.trouble import trouble
from tests.waiting import is_gone, wait_until

SECONDS = 0.02
WAYS = (None, 1, 2)
SET = "__import__('tensorflow').config.threading.get_intra_op_parallelism_threads()"

TUNER = """
import sys
from pathlib import Path
from autotune.outcomes import Candidate
from tests.trouble import trouble

folder = Path(sys.argv[1])
scratch = folder / "scratch"
scratch.mkdir()
with trouble(folder, "time.sleep(60)", scratch=[str(scratch)]) as probe:
    for threads in (None, 1):
        probe(Candidate(8, threads=threads), 0.02)
    (folder / "pids").write_text(f"{len(probe.pids)} children")
    probe(Candidate(16, threads=1), 0.02)
"""


def bad(threads: int | None) -> Candidate:
    """The size at which the model does what it is told, with so many threads."""
    return Candidate(16, threads=threads)


def good(threads: int | None) -> Candidate:
    """A size at which it does nothing."""
    return Candidate(8, threads=threads)


def descriptors_of(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def keeper_of(probe: IsolatedProbe) -> psutil.Process:
    """The parent of the first child."""
    parent = psutil.Process(probe.pid).parent()
    assert parent is not None
    return parent


def test_each_number_of_threads_has_a_child_that_stays(tmp_path: Path) -> None:
    """Candidates taking turns are measured by as many processes, each with its own setting."""
    seen = tmp_path / "seen"
    action = f"print(os.getpid(), {SET}, sockets(), file=open({str(seen)!r}, 'a'))"
    with trouble(tmp_path, action) as probe:
        told: dict[int | None, set[str]] = {}
        for threads in WAYS * 2:
            assert isinstance(probe(bad(threads), SECONDS), Measurement)
            told.setdefault(threads, set()).update(seen.read_text().splitlines())
            seen.unlink()
        # TensorFlow says 0 for its own choice; of sockets each has the one to the tuner.
        expected = {t: {f"{probe.pids[t]} {t or 0} 1"} for t in WAYS}
        assert told == expected
        assert len(set(probe.pids.values())) == len(WAYS)
        processes = [keeper_of(probe), *map(psutil.Process, probe.pids.values())]
    wait_until(lambda: all(map(is_gone, processes)))


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "started afresh"])
def test_the_death_of_one_leaves_the_others_good(tmp_path: Path, *, fork: bool) -> None:
    """The dead one is told by its signal and started again; the others keep their processes."""
    action = f"{SET} == 1 and os.abort()"
    with trouble(tmp_path, action, fork=fork) as probe:
        for threads in (None, 1):
            assert isinstance(probe(good(threads), SECONDS), Measurement)
        before, keeper = probe.pids, keeper_of(probe)
        opened = descriptors_of(os.getpid()), descriptors_of(keeper.pid)
        outcome = probe(bad(1), SECONDS)
        assert isinstance(outcome, Failure)
        assert outcome.kind == "crash"
        assert outcome.message.startswith("The child process died of SIGABRT")
        assert isinstance(probe(bad(None), SECONDS), Measurement)
        assert isinstance(probe(good(1), SECONDS), Measurement)
        assert probe.pids[None] == before[None]
        assert probe.pids[1] != before[1]
        assert (descriptors_of(os.getpid()), descriptors_of(keeper.pid)) == opened


def test_out_of_memory_of_one_gives_its_memory_back(tmp_path: Path) -> None:
    """Out of memory with one number of threads is an outcome, and ends no other child."""
    with trouble(tmp_path, f"if {SET} == 1: raise MemoryError('no room')") as probe:
        assert isinstance(probe(bad(None), SECONDS), Measurement)
        first = probe.pid
        outcome = probe(bad(1), SECONDS)
        assert isinstance(outcome, OutOfMemory)
        assert outcome.candidate == bad(1)
        assert probe.pids == {None: first}
        assert isinstance(probe(good(1), SECONDS), Measurement)


def test_one_that_hangs_ends_alone(tmp_path: Path) -> None:
    """A timeout of one child is told of its candidate, and the other is asked as before."""
    action = f"{SET} == 1 and time.sleep(60)"
    with trouble(tmp_path, action, probe_timeout_s=2.0) as probe:
        for threads in (None, 1):
            assert isinstance(probe(good(threads), SECONDS), Measurement)
        first = probe.pid
        outcome = probe(bad(1), SECONDS)
        assert isinstance(outcome, Failure)
        assert outcome.kind == "timeout"
        assert probe.pids == {None: first}
        assert isinstance(probe(good(None), SECONDS), Measurement)


def test_all_children_end_with_a_tuner_that_is_killed(tmp_path: Path) -> None:
    """After SIGKILL of the tuner no child, keeper or scratch file is left."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    tuner = subprocess.Popen([sys.executable, "-c", TUNER, str(tmp_path)], env=environment)
    wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text() != "")
    assert (tmp_path / "pids").read_text() == "2 children"
    below = psutil.Process(tuner.pid).children(recursive=True)
    assert len(below) >= 3
    tuner.kill()
    tuner.wait()
    wait_until(lambda: all(map(is_gone, below)))
    wait_until(lambda: not (tmp_path / "scratch").exists())


def test_a_second_child_that_cannot_load_is_no_failure_of_the_run(tmp_path: Path) -> None:
    """Those threads cannot be had from then on, with the reason; the first child goes on."""
    made = f"if {SET} == 1: raise MemoryError('for the weights')"
    with trouble(tmp_path, when_made=made) as probe:
        assert isinstance(probe(good(None), SECONDS), Measurement)
        first = probe.pid
        for _ in range(2):
            outcome = probe(good(1), SECONDS)
            assert isinstance(outcome, Failure)
            assert outcome.kind == "mismatch"
            assert "calls of 1 thread: " in outcome.message
            assert "for the weights" in outcome.message
        assert list(probe.unavailable_threads) == [1]
        assert isinstance(probe(good(2), SECONDS), Measurement)
        assert probe.pids.keys() == {None, 2}
        assert probe.pid == first


def test_where_memory_is_short_there_is_one_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the model that would not leave enough is not made; an idle one is ended."""
    free = host.memory()
    with trouble(tmp_path) as probe:
        assert isinstance(probe(good(1), SECONDS), Measurement)
        assert probe.pids.keys() == {None, 1}
        monkeypatch.setattr(host, "memory", lambda *_: host.Memory(free.total_bytes, 2**20))
        left = probe.pids[1]
        for _ in range(2):
            assert isinstance(probe(good(1), SECONDS), Measurement)
            assert probe.pids == {1: left}
        assert isinstance(probe(good(None), SECONDS), Measurement)
        outcome = probe(good(2), SECONDS)
        assert isinstance(outcome, Failure)
        assert "memory that is free, which is 1.00 MiB" in outcome.message


def test_what_an_idle_child_holds_is_read_again_where_that_may_be_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before each probe: it would take as long as the calls that are timed."""
    reads: list[int] = []
    private_bytes = host.private_bytes

    def read(pid: int) -> int:
        reads.append(pid)
        return private_bytes(pid)

    monkeypatch.setattr(family, "REMEMBERED_S", float("inf"))
    with trouble(tmp_path) as probe:
        for threads in (None, 1, 1):
            assert isinstance(probe(good(threads), SECONDS), Measurement)
        monkeypatch.setattr(host, "private_bytes", read)
        for _ in range(3):
            assert isinstance(probe(good(1), SECONDS), Measurement)
        assert reads == []
        monkeypatch.setattr(family, "NOTABLE_BYTES", -1)  # anything is notable
        assert isinstance(probe(good(1), SECONDS), Measurement)
        assert reads == [probe.pids[None]]


def test_a_child_that_the_kernel_took_while_idle_blames_no_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When memory runs out the kernel may end the idle one: it is started again, no more."""
    with trouble(tmp_path) as probe:
        for threads in (None, 1):
            assert isinstance(probe(good(threads), SECONDS), Measurement)
        before = probe.pids
        killed = host.kernel_memory_kills() + 1
        monkeypatch.setattr(host, "kernel_memory_kills", lambda: killed)
        idle = psutil.Process(before[1])
        idle.kill()
        wait_until(lambda: not psutil.pid_exists(idle.pid))  # its keeper has seen it, too
        assert isinstance(probe(good(None), SECONDS), Measurement)
        assert isinstance(probe(good(1), SECONDS), Measurement)
        assert probe.pids[None] == before[None]
        assert probe.pids[1] != before[1]


def test_threads_that_cannot_be_set_cost_no_child(tmp_path: Path) -> None:
    """On a GPU, say, a candidate with threads is a mismatch, told in one sentence."""
    with trouble(tmp_path) as probe:
        probe.loaded = msgspec.structs.replace(probe.load(), sets_threads=())
        outcome = probe(good(1), SECONDS)
        assert isinstance(outcome, Failure)
        assert outcome.kind == "mismatch"
        assert outcome.message.startswith("The threads of one call of the 'keras' engine cannot")
        assert probe.pids.keys() == {None}


def test_an_engine_with_sessions_needs_no_process() -> None:
    """What is told its threads when it is built runs in the first child."""
    assert process_threads(Candidate(8, "onnxruntime", threads=1)) is None
    assert process_threads(Candidate(8, "compiled", threads=1)) == 1
