"""A tuned predictor in a process of its own, which it has for itself, as in production."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SERVE = """
import time
began = time.perf_counter()
import sys, numpy, autotune
predictor = autotune.load(sys.argv[1])
x = numpy.load(sys.argv[2], mmap_mode="r")
predictor.predict(numpy.array(x[:1]))
print(time.perf_counter() - began, flush=True)
x = numpy.array(x)
predictor.predict(x)
for line in sys.stdin:
    rows, began = 0, time.perf_counter()
    while time.perf_counter() - began < float(line):
        predictor.predict(x)
        rows += len(x)
    print(rows / (time.perf_counter() - began), flush=True)
"""


class Server:
    """The tuned predictor in a process of its own.

    Args:
        tuned: A tuned folder.
        rows: A `.npy` file, all of whose rows are one call.

    Attributes:
        cold_start_s: Seconds from the first import to the first answer, of one row.
    """

    def __init__(self, tuned: Path, rows: Path) -> None:
        command = [sys.executable, "-c", SERVE, str(tuned), str(rows)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.cold_start_s = self._read()

    def _read(self) -> float:
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())

    def rows_per_s(self, seconds: float) -> float:
        """Predict for so many seconds."""
        assert self._process.stdin is not None
        print(seconds, file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
