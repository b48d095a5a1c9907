"""The forecast of memory against the truth, on models that its margin was not fitted on.

    python -m tests.benchmarks.forecasts [--processes 3] [--json FILE] [--short] [--held-out]
    python -m tests.benchmarks.forecasts --tunings 30 [--held-out]

Each model is tried in child processes at the sizes of a search, and every peak is kept. Then each
size is forecast from what a search knows before it tries that size: peaks of the same process, or
of another one, as after a child that died. With `--tunings` each is tuned in whole instead, all
engines and all batches in flight, for so many seconds, and the forecasts are those of its record.
The exit status is 1 if any forecast was too low.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from autotune import Candidate, Measurement, Synthetic, tune
from autotune.allocator import TensorFlowAllocator
from autotune.bounds import rounded
from autotune.forecast import upper_bound_bytes
from autotune.probe import IsolatedProbe
from autotune.worker import DrawnRows, FactorySource, Load
from tests.benchmarks.memory_nets import HELD_OUT, MODELS

MIB = 2**20
WASTE_BYTES = TensorFlowAllocator.waste_bytes
LANES = tuple(itertools.product(("keras", "compiled"), (1, 2)))
STEPS = (1.125, 1.5)  # up from each rung; from 64 rows on the first is the smallest there is
BLOCK_S = 0.1  # as in a tuning of 60 seconds
LARGE_BYTES = 30 * MIB  # below it the reserve, and not the margin, makes most of a bound
Peaks = dict[int, int]


SHORT = ("residual", "transformer", "wide")


class Line(NamedTuple):
    """What one process took in one lane, in bytes: before its calls at the least, and the peaks."""

    idle_bytes: int
    peaks: Peaks


def measure(name: str, number: int, most_s: float, most_bytes: int) -> list[Line]:
    """Try sizes in one child process, in the order of a search; return what each lane took.

    First the rungs of all lanes in step, up to where a call takes `most_s` or the peak is
    `most_bytes`; then sizes between them and above the last, in random order.
    """
    model = FactorySource(f"tests.benchmarks.memory_nets:{name}")
    request = Load(id=0, model=model, name=name, sample=DrawnRows(1024, {}), engines=None)
    peaks: dict[tuple[str, int], Peaks] = {lane: {} for lane in LANES}
    idle: dict[tuple[str, int], int] = {}
    with IsolatedProbe(request) as probe:

        def is_small(lane: tuple[str, int], size: int) -> bool:
            outcome = probe(Candidate(size, lane[0], concurrency=lane[1]), BLOCK_S)
            if not isinstance(outcome, Measurement) or outcome.device_peak_bytes is None:
                raise SystemExit(f"{name}: no peak was counted: {outcome}")
            peaks[lane][size] = outcome.device_peak_bytes
            before = outcome.device_idle_bytes or 0
            idle[lane] = min(idle.get(lane, before), before)
            return outcome.latency_s < most_s and outcome.device_peak_bytes < most_bytes

        climbing, size = list(LANES), 1
        while climbing := [lane for lane in climbing if is_small(lane, size)]:
            size *= 2
        between = {(n, rounded(s * step)) for n in LANES for s in peaks[n] for step in STEPS}
        rest = sorted((lane, size) for lane, size in between if size not in peaks[lane])
        random.Random(number).shuffle(rest)  # noqa: S311
        for lane, size in rest:
            is_small(lane, size)
    return [Line(idle[lane], peaks[lane]) for lane in LANES]


class Forecast(NamedTuple):
    """One forecast and the truth, in bytes, and what the forecast was made from."""

    known: str
    across: bool
    bound: int
    actual: int


def forecasts(processes: list[list[Line]]) -> Iterator[Forecast]:
    """Forecast from each process for itself and for each other one."""
    for (i, ours), (j, theirs) in itertools.product(enumerate(processes), repeat=2):
        for (idle_bytes, peaks), (_, truth) in zip(ours, theirs, strict=True):
            for size, actual in truth.items():
                for name, known in what_is_known(peaks, size).items():
                    bound = upper_bound_bytes(known, size, idle_bytes, WASTE_BYTES) or 0
                    yield Forecast(name, i != j, bound, actual)


def what_is_known(peaks: Peaks, size: int) -> dict[str, Peaks]:
    """Rungs below a size, all sizes below, rungs on both sides: what a search may know by then."""
    below = {s: peak for s, peak in peaks.items() if s < size}
    rungs = {s: peak for s, peak in below.items() if s & (s - 1) == 0}
    if not rungs or size > 2 * max(rungs):
        return {}
    known = {f"rungs, x {size / max(rungs):g}": rungs, "all sizes below": below}
    above = 2 * max(rungs)
    if size < above and above in peaks:
        known["rungs on both sides"] = rungs | {above: peaks[above]}
    return known


def forecasts_of_tuning(name: str, budget_s: float) -> list[Forecast]:
    """Tune a model, and return the forecasts that its record holds, known by the engine."""
    model = f"tests.benchmarks.memory_nets:{name}"
    record = tune(model, Synthetic(1024), budget_s=budget_s).record
    met = [(f, f.peak_bytes) for f in record.forecasts if f.peak_bytes is not None]
    for each, peak in met:
        if peak > each.upper_bound_bytes:
            print(
                f"{name}: {each.candidate}: {each.upper_bound_bytes / MIB:.1f} MiB expected, "
                f"{peak / MIB:.1f} MiB came",
                file=sys.stderr,
            )
    return [Forecast(f.candidate.engine, False, f.upper_bound_bytes, peak) for f, peak in met]


def print_table(found: dict[str, list[Forecast]]) -> None:
    """Print the forecasts by model, and by what they were made from."""
    every = [forecast for group in found.values() for forecast in group]
    by_known = {k: [f for f in every if f.known == k] for k in sorted({f.known for f in every})}
    print(f"{'':20}forecasts  too low  across  worst  MiB low  median  largest MiB")
    for name, group in (found | by_known | {"all": every}).items():
        low = [f for f in group if f.actual > f.bound]
        over = [f.bound / f.actual for f in group if f.actual > LARGE_BYTES] or [float("nan")]
        worst = max(f.actual / max(1, f.bound) for f in group)
        missing = max([0, *(f.actual - f.bound for f in low)]) / MIB
        across, largest = sum(f.across for f in low), max(f.actual for f in group) / MIB
        print(
            f"{name:20}{len(group):9,}{len(low) - across:9}{across:8}{worst:7.2f}{missing:9.1f}"
            f"{statistics.median(over):8.2f}{largest:13,.0f}"
        )


def forecasts_of_processes(
    names: Sequence[str], chosen: argparse.Namespace
) -> dict[str, list[Forecast]]:
    """Try each model in processes of its own, and forecast each size from the others."""
    most_s, most_bytes, count = (0.03, 2**27, 1) if chosen.short else (0.5, 2**30, chosen.processes)
    lines: dict[str, list[list[Line]]] = {}
    for name in names:
        lines[name] = [measure(name, n, most_s, most_bytes) for n in range(count)]
        print(f"{name}: done", file=sys.stderr, flush=True)
        if chosen.json:
            chosen.json.write_text(json.dumps(lines))
    return {name: [*forecasts(processes)] for name, processes in lines.items()}


def main() -> int:
    """Measure each model, print the table, and tell whether any forecast was too low."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--processes", type=int, default=3, help="for each model")
    parser.add_argument("--json", type=Path, help="where to write the peaks")
    parser.add_argument("--model", choices=MODELS, help="by default all")
    parser.add_argument("--held-out", action="store_true", help="only those nothing was fitted on")
    parser.add_argument("--short", action="store_true", help="three models, one process, small")
    parser.add_argument("--tunings", type=float, metavar="SECONDS", help="tune each in whole")
    chosen = parser.parse_args()
    names = [chosen.model] if chosen.model else SHORT if chosen.short else list(MODELS)
    if chosen.held_out:
        names = [model.__name__ for model in HELD_OUT]
    if chosen.tunings:
        found = {name: forecasts_of_tuning(name, chosen.tunings) for name in names}
    else:
        found = forecasts_of_processes(names, chosen)
    print_table(found)
    return int(any(f.actual > f.bound for group in found.values() for f in group))


if __name__ == "__main__":
    sys.exit(main())
