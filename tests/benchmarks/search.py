"""The search against the policies of other tools, on simulated devices.

    python -m tests.benchmarks.search [--devices 200] [--policy NAME ...] [--family NAME]

Regret is the share of the best speed that the chosen batch size gives away. Device seconds are
those of the simulated clock; own seconds are real ones, without those of the simulation.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from autotune import (
    Candidate,
    Goal,
    Measurement,
    NoFeasibleBatchSize,
    Outcome,
    OutOfMemory,
    Recommendation,
    search,
)
from tests.benchmarks.policies import PEERS
from tests.devices import Device
from tests.families import FAMILIES, make

Kept = TypeVar("Kept", bound=Outcome)
BUDGET_S = 60.0
STEPS_APART = 1.125, 1.25, 2.0  # how far from the true smallest size counts as near


@dataclass
class Watched:
    """A device, with a log of what was asked of it and the real seconds that it took."""

    device: Device
    log: list[tuple[float, Outcome]] = field(default_factory=list)
    simulating_s: float = 0.0
    found: Recommendation | None = None

    @property
    def seed(self) -> int:
        """Seed of the device."""
        return self.device.seed

    def __call__(self, candidate: Candidate, seconds: float) -> Outcome:
        """Try a candidate, as a probe does."""
        return self._kept(lambda: self.device(candidate, seconds))

    def time_calls(
        self, batch_size: int, calls: int, *, warm_up: int = 2
    ) -> Measurement | OutOfMemory:
        """Time exactly so many calls."""
        return self._kept(lambda: self.device.time_calls(batch_size, calls, warm_up=warm_up))

    def _kept(self, ask: Callable[[], Kept]) -> Kept:
        began, clock_s = time.perf_counter(), self.device.clock_s
        outcome = ask()
        self.log.append((clock_s, outcome))
        self.simulating_s += time.perf_counter() - began
        return outcome


def autotune(device: Watched, limit: int, **options: Any) -> int:
    """Our own search."""
    record = search(
        device,
        Goal(max_batch_size=limit),
        budget_s=BUDGET_S,
        memory_limit_bytes=device.device.memory_bytes,
        seed=device.device.seed,
        **options,
    )
    assert record.recommendation is not None
    device.found = record.recommendation
    return device.found.batch_size


POLICIES: dict[str, Callable[[Watched, int], int]] = {
    **PEERS,
    "autotune": autotune,
    "autotune, its sampler": partial(autotune, strategy="sampler"),
}


@dataclass(frozen=True)
class Run:
    """One policy on one device.

    Attributes:
        policy: Its name.
        family: Family of the device.
        seed: Seed of the device.
        batch_size: What was chosen; None where nothing was found feasible.
        regret: Share of the best speed that was given away; 1 where nothing was found.
        out_of_memory: Probes that ran out of memory.
        probes: Probes in all.
        device_s: Seconds on the device's clock.
        own_s: Real seconds, without those of the simulation.
        longest_probe_s: Seconds of the longest probe.
        smallest: Smallest size that is truly within the goal's tolerance.
        covers: Whether the interval of the recommendation holds the true speed; None without.
        covers_mean: The same for the mean speed, which outliers lower.
        confidence: What the recommendation says of itself; None without.
    """

    policy: str
    family: str
    seed: int
    batch_size: int | None
    regret: float
    out_of_memory: int
    probes: int
    device_s: float
    own_s: float
    longest_probe_s: float
    smallest: int
    covers: bool | None
    covers_mean: bool | None
    confidence: str | None


def run(name: str, seed: int) -> tuple[Run, Watched]:
    """Let one policy choose for one device."""
    watched = Watched(make(seed))
    device = watched.device
    began = time.perf_counter()
    try:
        size = POLICIES[name](watched, device.max_rows)
    except NoFeasibleBatchSize:
        size = None
    own_s = time.perf_counter() - began - watched.simulating_s
    found = watched.found
    result = Run(
        policy=name,
        family=device.family,
        seed=seed,
        batch_size=size,
        regret=1.0 if size is None else device.regret(size),
        out_of_memory=sum(isinstance(outcome, OutOfMemory) for _, outcome in watched.log),
        probes=len(watched.log),
        device_s=device.clock_s,
        own_s=own_s,
        longest_probe_s=max((outcome.elapsed_s for _, outcome in watched.log), default=0.0),
        smallest=device.smallest(Goal().tolerance),
        covers=covers(found, device.rows_per_s),
        covers_mean=covers(found, device.mean_rows_per_s),
        confidence=getattr(found, "confidence", None),
    )
    return result, watched


def covers(found: Recommendation | None, true: Callable[[int], float]) -> bool | None:
    """Whether the interval of a recommendation holds the true speed; None without interval."""
    if found is None or found.rows_per_s_low is None or found.rows_per_s_high is None:
        return None
    return found.rows_per_s_low <= true(found.batch_size) <= found.rows_per_s_high


COLUMNS = ("regret median", "p95", "max", "OOM", "device s", "worst", "own s", "probes")


def print_table(title: str, rows: Iterable[tuple[str, Sequence[Run]]]) -> None:
    """Print a row for each name and its runs."""
    print(f"{title:32}" + "".join(f"{column:>15}" for column in COLUMNS))
    for name, runs in rows:
        print(f"{name:32}" + "".join(f"{value:15,.3f}" for value in figures(runs)))
    print()


def figures(runs: Sequence[Run]) -> list[float]:
    """What stands in `COLUMNS`: of seconds and probes the median, of out of memory the mean."""
    regrets = [run.regret for run in runs]
    device_s = [run.device_s for run in runs]
    return [
        *np.quantile(regrets, [0.5, 0.95, 1]).tolist(),
        float(np.mean([run.out_of_memory for run in runs])),
        float(np.median(device_s)),
        max(device_s),
        float(np.median([run.own_s for run in runs])),
        float(np.median([run.probes for run in runs])),
    ]


def print_more(name: str, runs: Sequence[Run]) -> None:
    """Print what else is known of runs of our own search."""
    found = [run for run in runs if run.batch_size is not None]
    covered = [run.covers for run in found if run.covers is not None]
    mean_covered = [run.covers_mean for run in found if run.covers_mean is not None]
    over = max(runs, key=lambda run: run.device_s - BUDGET_S)
    own_s = np.quantile([run.own_s for run in runs], [0.5, 0.95])
    print(f"{name}: nothing feasible in {len(runs) - len(found)} of {len(runs)} runs")
    print(f"  interval holds the true speed        {share(covered)}")
    print(f"  interval holds the mean speed        {share(mean_covered)}")
    for factor in STEPS_APART:
        near = [apart(run) <= factor for run in found]
        print(f"  within {factor:5} x of the smallest size   {share(near)}")
    print(f"  confidence is high                   {share(r.confidence == 'high' for r in found)}")
    print(
        f"  worst overrun of the budget          {over.device_s - BUDGET_S:.2f} s, "
        f"longest probe of that run {over.longest_probe_s:.2f} s (seed {over.seed})"
    )
    print(f"  own seconds                          {own_s[0]:.2f} median, {own_s[1]:.2f} p95\n")
    groups = {family: [run for run in runs if run.family == family] for family in FAMILIES}
    print_table(f"{name}, by family", [(f, group) for f, group in groups.items() if group])


def apart(run: Run) -> float:
    """Ratio of the chosen size and the true smallest, at least 1."""
    assert run.batch_size is not None
    return max(run.batch_size / run.smallest, run.smallest / run.batch_size)


def share(truths: Iterable[bool]) -> str:
    """Share of what is true, with the count."""
    known = list(truths)
    return f"{np.mean(known):6.1%} of {len(known)}" if known else "unknown"


def dump(name: str, seed: int) -> None:
    """Print each probe of one run, and what came of it."""
    result, watched = run(name, seed)
    device = watched.device
    print(f"{device}\n")
    print(f"{'clock s':>10}{'rows':>8}{'calls':>7}{'measured/s':>14}{'true/s':>14}{'ratio':>7}")
    for clock_s, outcome in watched.log:
        size = outcome.candidate.batch_size
        line = f"{clock_s:10.3f}{size:8}"
        if isinstance(outcome, Measurement):
            measured, true = outcome.rows_per_s, device.rows_per_s(size)
            line += f"{len(outcome.times_s):7}{measured:14,.1f}{true:14,.1f}"
            print(f"{line}{measured / true:7.3f}")
        else:
            print(f"{line}  {type(outcome).__name__}, {outcome.elapsed_s:.2f} s")
    print(f"\n{watched.found}\n{result}")
    print(
        f"truth: {device.truth():,.1f} rows/s; smallest within the tolerance "
        f"{device.smallest(Goal().tolerance)} rows; largest {device.largest} rows"
    )


def seeds(first: int, count: int, family: str | None) -> list[int]:
    """Seeds of so many devices, of all families or of one."""
    if family is None:
        return list(range(first, first + count))
    start = first * len(FAMILIES) + list(FAMILIES).index(family)
    return [start + turn * len(FAMILIES) for turn in range(count)]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first")
    parser.add_argument("--policy", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--json", type=Path, help="write every run to this file")
    parser.add_argument("--dump", type=int, metavar="SEED", help="print each probe of one run")
    return parser.parse_args()


def main() -> None:
    """Print the tables."""
    chosen = arguments()
    if chosen.dump is not None:
        own = [name for name in chosen.policy if name.startswith("autotune")]
        dump((own or chosen.policy)[0], chosen.dump)
        return
    runs: dict[str, list[Run]] = {}
    for name in chosen.policy:
        runs[name] = [run(name, s)[0] for s in seeds(chosen.seed, chosen.devices, chosen.family)]
    print_table(f"{chosen.devices} devices", runs.items())
    for name in chosen.policy:
        if name.startswith("autotune"):
            print_more(name, runs[name])
    if chosen.json:
        every = [asdict(one) for group in runs.values() for one in group]
        chosen.json.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
    main()
