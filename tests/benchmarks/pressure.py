"""Memory that really runs out: kernel kills that are told as such, and answers that hold.

    python -m tests.benchmarks.pressure [--kills 20] [--runs 20] [--short]

All in memory cgroups of 1.2 GB, with a net of which one row takes 1 MiB a layer. First one
tuner's probes are killed by the kernel again and again: each must be told as out of memory, the
tuner must live, and its next probe must be good. Then the net is tuned there, once with batches of
any size and once with large ones only, where memory is what limits them: no process may be
killed, and the tuned predictor must run that often in fresh processes under the same limit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.outcomes import Measurement, OutOfMemory
from tests.cgroups import memory_group
from tests.pressed import HOME, outcomes_of, request_of

LIMIT_BYTES = 1_200 * 10**6
GOOD = 8
TOO_LARGE = (2048, 3000, 4096, 6000)  # the smallest needs 2 GiB for one layer's outputs
SMALLEST = (1, 128)  # batch sizes of the two tunings; 256 rows would not fit
BATCHES = 4  # of a prediction, for each that is in flight at once


@dataclass(frozen=True, slots=True)
class Done:
    """A command that was run in a group of its own."""

    status: int
    out: str
    err: str
    kernel_kills: int
    peak_bytes: int

    @property
    def is_good(self) -> bool:
        """Whether it ended well, settled or not, and the kernel had to kill nobody."""
        return self.status in (0, 3) and self.kernel_kills == 0


def run_limited(line: str, place: Path) -> Done:
    """Run the command line of autotune in a new group."""
    command = [sys.executable, "-m", "autotune.cli", *line.split()]
    with memory_group(LIMIT_BYTES) as group:
        done = subprocess.run(
            group.command(command),
            capture_output=True,
            text=True,
            check=False,
            cwd=HOME,
            env=os.environ | {"TMPDIR": str(place)},
        )
        kills, peak = group.kernel_kills, group.peak_bytes
    return Done(done.returncode, done.stdout, done.stderr, kills, peak)


def kill_probes(place: Path, kills: int) -> list[str]:
    """Have the kernel kill probes of one tuner, print what was told, and return the faults."""
    bad = [TOO_LARGE[number % len(TOO_LARGE)] for number in range(kills)]
    sizes = [GOOD, *(size for one in bad for size in (one, GOOD))]
    with memory_group(LIMIT_BYTES) as group:
        outcomes = outcomes_of(place, request_of("convolutions"), sizes, group)
        counted = group.kernel_kills
    killed, good = outcomes[1::2], outcomes[::2]
    told = [isinstance(one, OutOfMemory) and one.where == "host" for one in killed]
    measured = [isinstance(one, Measurement) for one in good]
    slowest_s = max(one.elapsed_s for one in good[1:])
    print(f"kernel kills                              {counted}")
    print(f"told as out of memory on the host         {sum(told)} of {kills}")
    print(f"probe good, the first and after each kill {sum(measured)} of {kills + 1}")
    print(f"longest such probe, new child included    {slowest_s:.1f} s", flush=True)
    faults = [f"told as {one}" for one, right in zip(killed, told, strict=True) if not right]
    faults += [f"not good: {one}" for one, right in zip(good, measured, strict=True) if not right]
    return faults + ([] if counted == kills else [f"{counted} kernel kills, not {kills}"])


def tune_and_use(place: Path, runs: int, budget: str, smallest: int) -> list[str]:
    """Tune under the limit, run the answer under it, print figures, and return the faults."""
    out = place / f"tuned{smallest}"
    line = f"tune tests.pressed:convolutions --synthetic --budget {budget} --out {out} --json"
    tuned = run_limited(f"{line} --min-batch-size {smallest}", place)
    print(f"tuning from {smallest} up: exit code {tuned.status}, {told_of(tuned)}")
    if not tuned.is_good:
        return [f"tuning: exit code {tuned.status}, {told_of(tuned)}: {tuned.err[-500:]}"]
    chosen = json.loads(tuned.out)["recommendation"]
    size, flights = chosen["batch_size"], chosen["concurrency"]
    print(f"recommended: {size} rows, {chosen['engine']}, {flights} in flight; {chosen['reason']}")
    np.save(place / "rows.npy", rows(BATCHES * flights * size))
    used = [
        run_limited(f"predict {out} {place / 'rows.npy'} --out {place / 'y.npy'}", place)
        for _ in range(runs)
    ]
    good = sum(one.is_good for one in used)
    worst = max(used, key=lambda one: one.peak_bytes)
    print(f"runs of it in fresh processes: {good} of {runs} good; the largest: {told_of(worst)}")
    return [f"predict: {one.status}: {one.err[-300:]}" for one in used if not one.is_good]


def told_of(done: Done) -> str:
    """Memory and kills of a command, in words."""
    share = done.peak_bytes / LIMIT_BYTES
    return f"{done.kernel_kills} kernel kills, peak {share:.0%} of the limit"


def rows(count: int) -> Any:
    """Images for the net."""
    return np.random.default_rng(0).random((count, 64, 64, 3), np.float32)


def main() -> None:
    """Do both, and end with 1 where anything was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=20, help="of probes, by the kernel")
    parser.add_argument("--runs", type=int, default=20, help="of the tuned predictor")
    parser.add_argument("--budget", default="60s", help="for the tuning")
    parser.add_argument("--short", action="store_true", help="2 kills, 2 runs, 10 seconds")
    chosen = parser.parse_args()
    if chosen.short:
        chosen.kills, chosen.runs, chosen.budget = 2, 2, "10s"
    with tempfile.TemporaryDirectory(prefix="pressure-") as folder:
        try:
            faults = kill_probes(Path(folder), chosen.kills)
            for smallest in SMALLEST:
                faults += tune_and_use(Path(folder), chosen.runs, chosen.budget, smallest)
        except pytest.skip.Exception as reason:
            print(f"Cannot be measured here: {reason}")
            return
    sys.exit("\n".join(["FAILED", *faults]) if faults else 0)


if __name__ == "__main__":
    main()
