"""How the cost of a load grows, from one core to a cluster.

    python -m tests.benchmarks.plan_growth             # some six minutes
    python -m tests.benchmarks.plan_growth --short     # a minute and a half

Tunes one model in a process that may use one core, then in one that may use all. Each plans from
its record, and a MicroBatcher is set up so and sent the rate that was planned for it: that is
measured. How many replicas of the machine larger rates need is simulated. What sends the
requests runs on the same cores, and its time is in the plan of what is measured.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np

from autotune import MicroBatcher, TuningRecord, load
from autotune.plan import RATES, plan_capacity

RATE, LIMIT_S = 1e6, 0.05
ROWS = 2_048


def prepare(folder: Path, tuning_s: float) -> None:
    """Tune with the cores that this process may use."""
    from autotune import tune
    from tests.benchmarks.nets import cnn, rows_for

    model = cnn()
    rows = rows_for(model, ROWS)
    tune(model, rows, budget_s=tuning_s).save(folder)
    np.save(folder.with_suffix(".npy"), rows)


def serve(folder: Path, rounds: int, seconds: float) -> None:
    """Measure with those cores, in a process that has run nothing else; print a line."""
    from tests.benchmarks.batching import poisson
    from tests.benchmarks.plan_overhead import with_sender

    predictor, rows = load(folder), np.load(folder.with_suffix(".npy"))
    predictor.predict(rows[:1])
    gc.collect()
    gc.freeze()  # as docs/serving.md advises
    cores = len(os.sched_getaffinity(0))
    overhead = with_sender(rows)  # which takes its share of the same cores
    plan = plan_capacity(predictor.record, RATE, LIMIT_S, headroom=0.0, overhead=overhead, rates=())
    late, turned_away = [], 0
    with MicroBatcher(predictor, **cast(Any, plan.arguments)) as batcher:
        poisson(batcher, rows, plan.requests_per_s, 0.5)
        for _ in range(rounds):
            took, shed = poisson(batcher, rows, plan.requests_per_s, seconds)
            late.append(1e3 * float(np.quantile(took, 0.99)))
            turned_away += shed
    print(
        f"| {cores} | measured | {plan.requests_per_s:,.0f} | {1e3 * LIMIT_S:.0f} at most "
        f"| {median(late):.1f} ({min(late):.1f} to {max(late):.1f}), {turned_away} turned away "
        f"| {_core_seconds(cores / plan.requests_per_s)} |",
        flush=True,
    )


def _core_seconds(each_s: float) -> str:
    return f"{1e6 * each_s:,.0f}"


def beyond(record: TuningRecord, cores: int) -> None:
    """Print what replicas of so many cores make of larger rates."""
    plan = plan_capacity(record, RATE, LIMIT_S, headroom=0.0, rates=RATES)
    for need in plan.loads:
        if need.replicas > 1:
            each_s = need.replicas * cores / need.rate_per_s
            print(
                f"| {need.replicas * cores:,} | simulated, {need.replicas:,} replicas "
                f"| {need.rate_per_s:,.0f} | {1e3 * need.latency_quantile_s:.1f} | - "
                f"| {_core_seconds(each_s)} |"
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare, 10.0 if options.short else 60.0)
    elif options.serve:
        serve(options.serve, *((2, 3.0) if options.short else (5, 10.0)))
    else:
        print_table(["--short"] * options.short)


def print_table(options: list[str]) -> None:
    """Run a process for each number of cores, and simulate what is beyond."""
    print("| cores | how | requests/s | p99 ms, predicted | measured | core-seconds a million |")
    print("|---|---|---|---|---|---|", flush=True)
    usable = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as home:
        for cores in dict.fromkeys((1, len(usable))):
            os.sched_setaffinity(0, usable[:cores])  # children inherit it
            folder = str(Path(home) / f"{cores}")
            for step in ("--prepare", "--serve"):
                command = [sys.executable, "-m", "tests.benchmarks.plan_growth", step, folder]
                subprocess.run([*command, *options], check=True)
        beyond(TuningRecord.load(Path(folder) / "record.json"), len(usable))


if __name__ == "__main__":
    main()
