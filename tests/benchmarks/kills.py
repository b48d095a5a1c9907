"""Nothing that was told is lost: kill -9 of whole runs at random moments, and going on after it.

    python -m tests.benchmarks.kills [--runs 100] [--seed 0] [--short]

`autotune tune` with a study and a tuned folder is killed, and the same command is given again.
One kill in three comes at any moment of the time that a run takes, of which loading TensorFlow is
the most; one comes after the first probe, and one while the tuned folder is being written. First
the detectors must find out damage that is done on purpose: by a writer that is not atomic, among
others.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from autotune.demo import FOLDER
from tests.bad_files import environment
from tests.benchmarks.witness import (
    OUT,
    Probes,
    finished,
    finished_so_far,
    leftovers,
    lost,
    lost_from_record,
    processes_of,
    prove_detectors,
    unreadable,
)

BUDGET_S = 3
TUNE = (
    f"tune digits.keras --sample rows.npy --out {OUT} --storage sqlite:///study.db "
    f"--engine keras --concurrency 1 --max-batch-size 64 --budget {BUDGET_S}s --quiet"
)
AIMS = "any moment", "probing", "saving"
SAVING_TAKES_S = 0.03  # more than it does, so that some kills come after it
LOOK_EVERY_S = 0.05
GONE_WITHIN_S = 10.0  # an orphan is one that is still there then; it is killed

SLOWEST = "slowest end of all processes, ms"
FAULTS = "lost probes", "unreadable files", "orphans", "runs that did not go on"

Tally = collections.Counter[str]


def note(text: str) -> None:
    """Tell on standard error how far it is."""
    print(text, file=sys.stderr, flush=True)


def furnish(place: Path) -> None:
    """Put a model, rows and a folder for temporary files into a new folder."""
    (place / "tmp").mkdir(parents=True)
    shutil.copy(FOLDER / "digits.keras", place)
    with np.load(FOLDER / "digits.npz") as file:
        np.save(place / "rows.npy", file["image"][:256].astype(np.float32))


def start(place: Path) -> subprocess.Popen[bytes]:
    """Start a run; what it prints is kept for whoever must find out why it failed."""
    with (place / "printed.txt").open("ab") as printed:
        return subprocess.Popen(
            [sys.executable, "-m", "autotune.cli", *TUNE.split()],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            cwd=place,
            env=environment(place),
            start_new_session=True,
        )


def watch(tuner: subprocess.Popen[bytes], place: Path, aim: str, delay_s: float) -> Probes:
    """Wait for the moment of the kill, and return the probes that were seen to be finished.

    Args:
        tuner: The run.
        place: Where it works.
        aim: What the run must be seen to be doing.
        delay_s: Seconds from then on.
    """
    seen, seen_at, looked = Probes(), None, 0.0
    while tuner.poll() is None:
        now = time.monotonic()
        if now - looked >= LOOK_EVERY_S:
            seen |= finished_so_far(place)
            looked = now
        if seen_at is None and is_at(aim, place, seen):
            seen_at = now
        if seen_at is not None and now - seen_at >= delay_s:
            break
        time.sleep(0.001)
    return seen


def is_at(aim: str, place: Path, probes: Probes) -> bool:
    """Whether a run is seen to be where the kill is aimed at."""
    if aim == "saving":
        return next(place.glob(f".{OUT}.*"), None) is not None
    return aim == "any moment" or bool(probes)


def phase_of(place: Path, status: int, probes: Probes) -> str:
    """What the run was doing when it was killed, from what is left of it."""
    if status >= 0:
        return "after its end"
    if (place / OUT).exists() or next(place.glob(f".{OUT}.*"), None):
        return "saving"
    if probes:
        return "probing"
    return "before its first answer" if (place / "study.db").exists() else "starting"


def count_orphans(place: Path, tally: Tally) -> None:
    """Count the processes of a run that do not go away, and end them."""
    began = time.monotonic()
    while (left := processes_of(place)) and time.monotonic() - began < GONE_WITHIN_S:
        time.sleep(0.01)
    gone_ms = int(1000 * (time.monotonic() - began))
    tally[SLOWEST] = max(tally[SLOWEST], gone_ms)
    for process in left:
        tally["orphans"] += 1
        note(f"process {process} is left over")
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def count_damage(place: Path, tally: Tally) -> None:
    """Count what cannot be read, and what was not cleared away."""
    damaged = unreadable(place)
    tally["unreadable files"] += len(damaged)
    if damaged:
        note(f"cannot be read: {', '.join(damaged)}")


def one_run(place: Path, aim: str, delay_s: float, tally: Tally) -> None:
    """Kill a run, look at what is left, go on, and look again."""
    furnish(place)
    tuner = start(place)
    seen = watch(tuner, place, aim, delay_s)
    tuner.kill()
    status = tuner.wait()
    count_orphans(place, tally)
    probes = finished(place)
    tally["lost probes"] += len(lost(seen, probes))
    phase = phase_of(place, status, probes)
    tally[f"killed: {phase}"] += 1
    count_damage(place, tally)
    tally["left behind by the kill"] += len(leftovers(place))

    again = start(place).wait()
    count_orphans(place, tally)
    if again not in (0, 3):  # 3: not settled in so short a time
        tally["runs that did not go on"] += 1
        note(f"ended with {again}: {(place / 'printed.txt').read_text()[-300:]}")
        return
    gone = {*lost(probes, finished(place)), *lost_from_record(probes, place)}
    tally["finished probes"] += len(probes)
    tally["lost probes"] += len(gone)
    count_damage(place, tally)
    tally["left behind after going on"] += len(leftovers(place))
    note(f"{phase}: {len(probes)} probes, {len(gone)} lost; then exit code {again}")


def main() -> None:
    """Prove the detectors, kill the runs, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="5 runs")
    chosen = parser.parse_args()
    runs = 5 if chosen.short else chosen.runs
    chance = random.Random(chosen.seed)  # noqa: S311
    tally = Tally(dict.fromkeys(FAULTS, 0))
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        whole = Path(folder) / "whole"
        furnish(whole)
        began = time.monotonic()
        status = start(whole).wait()
        whole_s = time.monotonic() - began
        note(f"a whole run takes {whole_s:.1f} s and ends with {status}")
        faults = prove_detectors(Path(folder), whole, 10 if chosen.short else 20, chance)
        for number in range(runs):
            aim = AIMS[number % len(AIMS)]
            lasts_s = {"any moment": whole_s, "probing": BUDGET_S, "saving": SAVING_TAKES_S}[aim]
            place = Path(folder) / f"run{number:04}"
            # In turn from each part of the time, so that no part is left out by chance.
            one_run(place, aim, (number + chance.random()) / runs * lasts_s, tally)
            shutil.rmtree(place)
    faults += [name for name in FAULTS if tally[name]]
    print(f"seed {chosen.seed}, {runs} runs of {whole_s:.1f} s")
    for name, count in sorted(tally.items()):
        print(f"{name:40}{count:6}")
    sys.exit(f"FAILED: {'; '.join(faults)}" if faults else 0)


if __name__ == "__main__":
    main()
