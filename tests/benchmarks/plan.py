"""Plans against reality: the MicroBatcher at the planned setting, under open-loop Poisson load.

    python -m tests.benchmarks.plan            # an hour, ten minutes a model
    python -m tests.benchmarks.plan --short    # little tuning, few spells
    python -m tests.benchmarks.plan --model digits --keep tunings/    # takes what is there

Three models whose calls take most of the time, then three where Python does: each is tuned,
planned for a million requests of one row a second from its record alone, and tried at once, as
planned, in a process that has run nothing else. Requests come at shares of the rate that was
planned for a replica; in the end as fast as they are let in, which is the limit that was planned.
Latency counts from when a request was due; who is turned away is infinitely late. What sends the
requests runs in the same process, as a service would: the time that it takes for each, at that
rate, is measured before, and is in what is predicted. Nothing else should run meanwhile.

A plan holds for the machine as it was when the model was tuned. One that is shared is faster at one
time and slower at another, so its speed is measured before and after each spell: for the limit by
the predictor alone, for latencies by calls as a service makes them, beside the rehearsal's. A spell
counts where both are near that of the tuning; rates and times are those of it. Where the machine
is another one by then, the model is tuned again.

Spells last a second. In some of them the machine stops or stumbles, and a queue comes of it that
no record foretells. So two quantiles are held against the plan: that of the middle second (half of
all seconds have a lower one) against what is predicted of it where the machine never stands still,
and that of all requests of all these seconds against what is predicted with the standstills that
the record tells of.
"""

from __future__ import annotations

import argparse
import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from autotune import load, tune
from autotune.plan import plan_capacity
from tests.benchmarks.batching import digits, spare_the_collector
from tests.benchmarks.nets import attention, cnn, mlp, mobilenet, rows_for, unet
from tests.benchmarks.plan_against import (
    AnotherMachine,
    against_limit,
    against_load,
    ms,
    name,
)
from tests.benchmarks.plan_overhead import with_sender

RATE = 1e6
ASKED_PLAN_S = 10.0
ANOTHER_MACHINE = 3  # exit code: it is not as fast as when the model was tuned
TUNINGS = 4  # of a model, at most
# model, rows of the sample, limit of the 99 % quantile
CASES: list[tuple[Callable[[], keras.Model], int, float]] = [
    (mobilenet, 256, 0.1),
    (unet, 128, 0.2),
    (attention, 2_048, 0.05),
    (mlp, 8_192, 0.02),
    (digits, 8_192, 0.02),
    (cnn, 2_048, 0.05),
]


def serve(what: str, folder: Path, limit_s: float, short: bool) -> None:
    """Serve a tuned folder as planned, in a process that has run nothing else."""
    ctypes.CDLL(None).prctl(29, 1)  # timers of this thread to the nanosecond, not to 50 us
    predictor, rows = load(folder), np.load(folder.with_suffix(".npy"))
    predictor.predict(rows[:1])
    assert predictor.recommendation == predictor.record.recommendation
    overhead = with_sender(rows)
    start = time.perf_counter()
    plan = plan_capacity(predictor.record, RATE, limit_s, overhead=overhead)
    spent = time.perf_counter() - start
    spare_the_collector()
    count = 6 if short else 30
    if what == "plan":
        print(
            f"| {name(predictor)} | {predictor.recommendation.candidate} | {plan.arguments} "
            f"| {1e6 * plan.overhead.request_s:.1f} us "
            f"| {plan.standstills_per_s:.2f}/s of {ms(plan.standstill_s)} ms "
            f"| {plan.load.replicas:,} replicas "
            f"| {spent:.1f} s "
            f"{'reached' if spent <= ASKED_PLAN_S else 'MISSED'} |",
            flush=True,
        )
    elif what == "load":
        try:
            against_load(predictor, plan, rows, count)
        except AnotherMachine:
            raise SystemExit(ANOTHER_MACHINE) from None
    else:
        against_limit(predictor, plan, rows, count)


def prepare(folder: Path, make: Callable[[], keras.Model], count: int, budget_s: float) -> None:
    """Tune a model."""
    model = make()
    rows = rows_for(model, count)
    np.save(folder.with_suffix(".npy"), rows)
    tune(model, rows, budget_s=budget_s).save(folder)


HEADS = {
    "plan": "| model | tuned | setting | Python a request | standstills | a million requests/s "
    "| planned in |",
    "load": "| model | load | requests/s | p50 ms predicted | measured "
    "| p99 of the middle second predicted | measured | off | of half of the seconds "
    "| p99 of all requests predicted | measured | off | turned away "
    "| rows a batch predicted | measured | seconds that count |",
    "limit": "| model | limit predicted, rows/s | measured | off | as it was "
    "| seconds that count | saturates first |",
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--model", action="append", help="by its name; repeat; by default all")
    parser.add_argument("--keep", type=Path, help="a folder for the tunings, in place of a new one")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        what, folder, limit_s = options.serve
        serve(what, Path(folder), float(limit_s), options.short)
        return
    with tempfile.TemporaryDirectory() as new:
        home = options.keep or Path(new)
        home.mkdir(parents=True, exist_ok=True)
        for make, count, limit_s in CASES:
            folder = home / make.__name__
            if not options.model or make.__name__ in options.model:
                if folder.exists():
                    compare(folder, limit_s, options.short)
                else:
                    tune_and_compare(folder, make, count, limit_s, options.short)


def tune_and_compare(
    folder: Path, make: Callable[[], keras.Model], count: int, limit_s: float, short: bool
) -> None:
    """Tune a model and print its tables; tune it anew while the machine becomes another one."""
    for tuning in range(TUNINGS):
        shutil.rmtree(folder, ignore_errors=True)
        prepare(folder, make, count, 6.0 if short else 60.0)
        if compare(folder, limit_s, short):
            return
        print(f"That was tuning {tuning + 1} of {TUNINGS}.", flush=True)
    raise SystemExit(f"The machine never stayed as it was when {folder.name} was tuned.")


def compare(folder: Path, limit_s: float, short: bool) -> bool:
    """Print a model's tables, each measured in a process of its own; tell whether they were."""
    for what, head in HEADS.items():
        print(f"\n{head}\n{'|---' * (head.count('|') - 1)}|", flush=True)
        words = ["--serve", what, str(folder), str(limit_s), *["--short"] * short]
        ran = subprocess.run([sys.executable, "-m", "tests.benchmarks.plan", *words], check=False)
        if ran.returncode == ANOTHER_MACHINE:
            print("\nThe machine is not as fast as when the model was tuned.", flush=True)
            return False
        ran.check_returncode()
    return True


if __name__ == "__main__":
    main()
