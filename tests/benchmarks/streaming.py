"""More rows than fit: from a file into a file, with no more than three batches in memory.

    python -m tests.benchmarks.streaming            # 10 million rows a line: some minutes
    python -m tests.benchmarks.streaming --short    # 200,000, and three lines at once

Rows of ten numbers go from a `numpy.memmap` into a file, each line of the table in a child process
of its own: by `predict(x, out=...)` into a `numpy.memmap`, and by `stream`, whose answers are
written as they come. The kernel tells the peak of the child's memory since the predictor was idle:
model loaded and a batch run, whose peak is set against it. A third way reads all the rows first: it
must be found out. Each row carries its number, and so must its answer.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from autotune import Candidate, TunedPredictor

ROWS, SHORT_ROWS = 10_000_000, 200_000
WIDTH = 10
ROW_BYTES = 4 * (WIDTH + 1)  # with its output
BATCHES = 3
SAMPLE_S = 0.005
# Not to be told apart from three batches: with a page that is read or written Linux may map up to
# 2 MiB of each file, and malloc and the kernel's counts (man 5 proc) vary by about as much as that.
LEEWAY_BYTES = 5 * 2**20
PIECES = 1_000  # what is checked at once
WARM = 40  # batches, until each thread's part of malloc has what the layers of the model take
WHOLE = "read first"


@dataclass(frozen=True, slots=True)
class Case:
    """A way to run the rows."""

    way: str
    size: int
    engine: str = "compiled"
    flights: int = 1

    @property
    def allowed_bytes(self) -> int:
        """Three batches, but never less than can be told apart."""
        return max(BATCHES * self.size * ROW_BYTES, LEEWAY_BYTES)


CASES = [
    Case("predict", 65_536),
    Case("stream", 65_536),
    Case("predict", 65_536, "keras"),
    Case("stream", 65_536, "keras"),
    Case("predict", 65_536, flights=2),
    Case("stream", 65_536, flights=2),
    Case("predict", 1_000),
    Case("stream", 1_000),
    Case(WHOLE, 65_536),
]
SHORT = [Case("predict", 16_384), Case("stream", 16_384), Case(WHOLE, 16_384)]


@dataclass(frozen=True, slots=True)
class Found:
    """What a child tells.

    Attributes:
        idle_bytes: Memory with the model loaded and a batch run.
        one_batch_bytes: Peak while a batch was run.
        peak_bytes: Peak while all rows were.
        anonymous_bytes: Most of it that is no file, above that when idle; seen every few ms.
        seconds: How long all rows took.
        wrong: Answers that are not those of their rows.
    """

    idle_bytes: int
    one_batch_bytes: int
    peak_bytes: int
    anonymous_bytes: int
    seconds: float
    wrong: int

    @property
    def above_bytes(self) -> int:
        """Peak above that of one batch."""
        return self.peak_bytes - self.one_batch_bytes


def memory_bytes(what: str) -> int:
    """A line of this process's status, such as VmHWM: the peak since `forget_peak`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if what in line))


def forget_peak() -> None:
    """Let the peak begin anew, from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # man 5 proc


@contextlib.contextmanager
def most_anonymous(most: list[int]) -> Iterator[None]:
    """Look at RssAnon every few ms, and append the most: the kernel keeps no peak of it."""
    done = threading.Event()

    def look() -> None:
        seen = memory_bytes("RssAnon")
        while not done.wait(SAMPLE_S):
            seen = max(seen, memory_bytes("RssAnon"))
        most.append(seen)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def child(case: Case, rows: Path, answers: Path) -> Found:
    """Run all rows, in a process that has done nothing else."""
    from tests.benchmarks.nets import following, numbering

    candidate = Candidate(case.size, case.engine, concurrency=case.flights)
    predictor = following(numbering(), candidate)
    x = np.load(rows, mmap_mode="r")
    batch = np.array(x[: case.size])
    for times in (WARM, case.flights):  # no answer is kept
        forget_peak()
        collections.deque(predictor.stream(itertools.repeat(batch, times)), maxlen=0)
    del batch
    one_batch, idle, anonymous = map(memory_bytes, ("VmHWM", "VmRSS", "RssAnon"))
    forget_peak()
    most: list[int] = []
    with most_anonymous(most):
        start = time.perf_counter()
        run(case, predictor, x, answers)
        seconds = time.perf_counter() - start
    peak = memory_bytes("VmHWM")
    wrong = count_wrong(np.load(answers, mmap_mode="r"))
    return Found(idle, one_batch, peak, most[0] - anonymous, seconds, wrong)


def run(case: Case, predictor: TunedPredictor, x: Any, answers: Path) -> None:
    """Run all rows, and have their answers in a file."""
    if case.way == "stream":
        pieces = (x[start : start + case.size] for start in range(0, len(x), case.size))
        with answers.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(x), 1)}
            np.lib.format.write_array_header_1_0(file, header)
            for answer in predictor.stream(pieces):
                file.write(answer.data)
        return
    out = np.lib.format.open_memmap(answers, "w+", np.float32, (len(x), 1))
    predictor.predict(np.array(x) if case.way == WHOLE else x, out=out)
    out.flush()


def count_wrong(answers: Any) -> int:
    """Count the answers that are not the number of their row."""
    starts = range(0, len(answers), PIECES)
    return sum(
        int(np.count_nonzero(part[:, 0] != np.arange(start, start + len(part), dtype=np.float32)))
        for start, part in ((start, answers[start : start + PIECES]) for start in starts)
    )


def write_rows(path: Path, rows: int) -> None:
    """Write rows to a file; the first number of each is its own."""
    x = np.lib.format.open_memmap(path, "w+", np.float32, (rows, WIDTH))
    random = np.random.default_rng(0)
    for start in range(0, rows, 100_000):
        part = x[start : start + 100_000]
        part[:] = random.standard_normal(part.shape, np.float32)
        part[:, 0] = np.arange(start, start + len(part))
    x.flush()


def in_child(rows: Path, case: Case) -> Found:
    """Start a child, and return what it found."""
    answers = rows.with_name(f"{case.way} {case.engine} {case.flights} {case.size}.npy")
    told = json.dumps([asdict(case), str(rows), str(answers)])
    command = [sys.executable, "-m", "tests.benchmarks.streaming", "--child", told]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    answers.unlink()
    return Found(**json.loads(done.stdout.splitlines()[-1]))


def is_bad(case: Case, found: Found) -> bool:
    """Whether rows are wrong, or memory is not as it must be: too much where all are read first."""
    too_much = found.above_bytes > case.allowed_bytes
    return found.wrong > 0 or too_much != (case.way == WHOLE)


def main() -> None:
    """Print a line for each way, and fail where one takes too much memory or is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--short", action="store_true", help=f"{SHORT_ROWS} rows, three ways")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        told, *files = json.loads(chosen.child)
        print(json.dumps(asdict(child(Case(**told), *map(Path, files)))))
        return
    count, bad = SHORT_ROWS if chosen.short else ROWS, 0
    print(f"{count} rows of {ROW_BYTES} bytes with their outputs; memory in MB, above idle:")
    print(
        f"{'way':12}{'engine':10}{'flights':>7}{'batch':>8}{'one batch':>11}{'peak':>8}"
        f"{'anonymous':>11}{'peak above one batch':>22}{'allowed':>9}{'wrong':>7}{'rows/s':>12}"
    )
    cases, at_once = (SHORT, len(SHORT)) if chosen.short else (CASES, 1)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        rows = Path(folder) / "rows.npy"
        write_rows(rows, count)
        for case, found in zip(cases, pool.map(partial(in_child, rows), cases), strict=True):
            bad += is_bad(case, found)
            tell(case, found, count)
    sys.exit(bad > 0)


def tell(case: Case, found: Found, rows: int) -> None:
    """Print a line."""
    idle, mb = found.idle_bytes, 1e6
    print(
        f"{case.way:12}{case.engine:10}{case.flights:7}{case.size:8}"
        f"{(found.one_batch_bytes - idle) / mb:11.1f}{(found.peak_bytes - idle) / mb:8.1f}"
        f"{found.anonymous_bytes / mb:11.1f}{found.above_bytes / mb:22.1f}"
        f"{case.allowed_bytes / mb:9.1f}{found.wrong:7}{rows / found.seconds:12,.0f}"
        f"  {'BAD' if is_bad(case, found) else 'good'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
