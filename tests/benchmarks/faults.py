"""Faults put into probes: each must be told for what it is, and the next probe must be good.

    python -m tests.benchmarks.faults [--repeats 14] [--short]

Every kind is tried in children that are forked and, each fourth time, in children that are started
afresh. At the end no process and no descriptor may be left.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from autotune.outcomes import Failure, Measurement, Outcome, OutOfMemory
from autotune.probe import IsolatedProbe
from tests.trouble import BAD, GOOD, trouble

SECONDS = 0.02
TIMEOUT_S = 1.5
HOLD_THE_LOCK = "ctypes.PyDLL(None).sleep(60)"  # called this way, the interpreter's lock is kept

# name: (what the child does with 16 rows, what must come of it)
KINDS: dict[str, tuple[str, str]] = {
    "SIGSEGV": ("ctypes.string_at(0)", "crash"),
    "SIGABRT": ("os.abort()", "crash"),
    "SIGBUS": ("os.kill(os.getpid(), signal.SIGBUS)", "crash"),
    "SIGFPE": ("os.kill(os.getpid(), signal.SIGFPE)", "crash"),
    "SIGILL": ("os.kill(os.getpid(), signal.SIGILL)", "crash"),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", "crash"),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", "crash"),
    "SIGSTOP": ("os.kill(os.getpid(), signal.SIGSTOP)", "timeout"),
    "a real-time signal": ("os.kill(os.getpid(), 40)", "crash"),
    "exit 0": ("sys.exit(0)", "crash"),
    "exit 3": ("os._exit(3)", "crash"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "crash"),
    "hangs": ("time.sleep(60)", "timeout"),
    "hangs, keeps the lock": (HOLD_THE_LOCK, "timeout"),
    "hangs, ignores SIGTERM": ("signal.signal(15, signal.SIG_IGN); time.sleep(60)", "timeout"),
    "an exception": ("raise ValueError('no')", "model_error"),
    "recursion": ("f = lambda n: f(n + 1); f(0)", "model_error"),
    "no descriptors": (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (512, 512)); "
        "files = [open('/dev/null') for _ in range(512)]",
        "model_error",
    ),
    "MemoryError": ("raise MemoryError", "memory"),
    "NumPy's": ("numpy.ones(2**52)", "memory"),
    "hidden by `from None`": ("memory_ran_out()", "memory"),
    "TensorFlow's": (
        "import tensorflow; raise tensorflow.errors.ResourceExhaustedError(None, None, 'OOM')",
        "memory",
    ),
    "JAX's": (
        "raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes')",
        "memory",
    ),
    "torch's": (
        "raise type('OutOfMemoryError', (RuntimeError,), {})('CUDA out of memory')",
        "memory",
    ),
    "std::bad_alloc": ("raise RuntimeError('std::bad_alloc')", "memory"),
    "rubbish as answer": ("os.write(channel(), b'Segmentation fault' + bytes([10]))", "crash"),
    "half a line": ("os.write(channel(), b'half'); os._exit(1)", "crash"),
    "another's answer": (
        "os.write(channel(), json.dumps(dict(id=99)).encode() + bytes([10]))",
        "crash",
    ),
    "9 MiB as answer": ("os.write(channel(), b'x' * 9 * 2**20)", "crash"),
    "closes its channel": ("os.close(channel()); time.sleep(60)", "crash"),
    "a grandchild stays": ("subprocess.Popen(['sleep', '60']); os._exit(5)", "crash"),
    "13 MiB of output": ("os.write(1, b'x' * 13 * 2**20)", "measured"),
    "rubbish as output": ("os.write(2, bytes(range(256)) * 100)", "measured"),
}
SPAWNED = 4  # each fourth child is started afresh, which takes seconds
IDLE = "dies while idle"
LOADING = "dies while loading"
SLOW = "starts slowly"


@dataclass
class Fault:
    """One fault: what came of it and of the probe after, and how long that took."""

    told: str
    next_is_good: bool
    recovery_s: float


def told(outcome: Outcome) -> str:
    """What a fault was taken for."""
    if isinstance(outcome, Measurement):
        return "measured"
    if isinstance(outcome, OutOfMemory):
        return "memory"
    assert isinstance(outcome, Failure)
    return outcome.kind


def inject(probe: IsolatedProbe, kind: str) -> Fault:
    """Let a fault happen, and probe again."""
    if kind == IDLE:
        probe.load()
        assert probe.pid is not None
        os.kill(probe.pid, signal.SIGKILL)
        outcome = probe(GOOD, SECONDS)
    else:
        outcome = probe(BAD, SECONDS)
    began = time.perf_counter()
    good = isinstance(probe(GOOD, SECONDS), Measurement)
    return Fault(told(outcome), good, time.perf_counter() - began)


def inject_while_loading(fork: bool) -> Fault:
    """Have a child die before it is ready, and then one that is well."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        when_made = f"open({str(path / 'once')!r}, 'x')"  # the second child finds the file
        when_made = f"os.path.exists({str(path / 'once')!r}) or ({when_made}, os._exit(7))"
        with trouble(path, when_made=when_made, fork=fork) as probe:
            outcome = probe(GOOD, SECONDS)
            began = time.perf_counter()
            good = isinstance(probe(GOOD, SECONDS), Measurement)
            return Fault(told(outcome), good, time.perf_counter() - began)


def faults_of(kind: str, repeats: int) -> Iterator[Fault]:
    """Let one kind of fault happen again and again."""
    if kind == LOADING:
        for number in range(repeats):
            yield inject_while_loading(number % 2 == 0)
        return
    action = KINDS.get(kind, ("pass", ""))[0]
    slow = "time.sleep(1)" if kind == SLOW else "pass"
    afresh = repeats // SPAWNED
    for fork, share in ((True, repeats - afresh), (False, afresh)):
        if not share:
            continue
        with (
            tempfile.TemporaryDirectory() as folder,
            trouble(Path(folder), action, slow, fork=fork, probe_timeout_s=TIMEOUT_S) as probe,
        ):
            for _ in range(share):
                yield inject(probe, kind)


def main() -> None:
    """Run the campaign, print a table, and fail where anything was told wrong or left behind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=14, help="of each kind")
    parser.add_argument("--short", action="store_true", help="each kind once")
    chosen = parser.parse_args()
    me = psutil.Process()
    expected = {kind: what for kind, (_, what) in KINDS.items()}
    expected |= {IDLE: "crash", LOADING: "crash", SLOW: "measured"}
    descriptors, total, wrong, recoveries = me.num_fds(), 0, 0, []
    print(f"{'kind':28}{'faults':>7}{'wrong':>7}{'next bad':>9}{'next, median s':>16}")
    for kind, what in expected.items():
        found = list(faults_of(kind, 1 if chosen.short else chosen.repeats))
        misread = sum(fault.told != what for fault in found)
        bad = sum(not fault.next_is_good for fault in found)
        median = statistics.median(fault.recovery_s for fault in found)
        print(f"{kind:28}{len(found):7}{misread:7}{bad:9}{median:16.2f}", flush=True)
        total, wrong = total + len(found), wrong + misread + bad
        recoveries += [fault.recovery_s for fault in found]
    left = me.num_fds() - descriptors
    processes = len(me.children(recursive=True))
    print(f"{total} faults, {wrong} told wrong or followed by a bad probe")
    print(f"{processes} processes and {left} descriptors left behind")
    print(f"the next answer after {statistics.median(recoveries):.2f} s (median)")
    sys.exit(bool(wrong or left or processes))


if __name__ == "__main__":
    main()
