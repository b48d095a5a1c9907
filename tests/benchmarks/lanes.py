"""The search over several engines and batches in flight, on simulated machines.

    python -m tests.benchmarks.lanes [--machines 100] [--neighbour] [--budget 60]
        [--mobilenet] [--rough] [--digits]

Regret is the share of the best speed of all engines, batches in flight and sizes that the answer
gives away. Seconds are those of the simulated clock. With `--mobilenet` each machine is the one
that was measured, beside a neighbour who is busy half of the time; with `--rough` it is that one on
a bad day: its speed is another every tenth of a second, and nothing tells why; with `--digits` that
day with the demo's model, for which most sizes are about as good.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Sequence

import numpy as np

from autotune import Candidate, Goal, search
from tests.devices import Neighbour, Roughness
from tests.lanes import DIGITS_ROUGH, MOBILENET, MOBILENET_ROUGH, Bench, drawn

NEAR = 0.05


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--machines", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first")
    parser.add_argument("--neighbour", action="store_true", help="who slows everything down")
    parser.add_argument("--mobilenet", action="store_true", help="the machine that was measured")
    parser.add_argument("--rough", action="store_true", help="that machine on a bad day")
    parser.add_argument("--digits", action="store_true", help="the demo's model on a bad day")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for each search")
    parser.add_argument("--worst", type=int, default=0, help="print so many of the worst")
    return parser.parse_args()


def machine(seed: int, chosen: argparse.Namespace) -> Bench:
    """Make the machine of a seed."""
    spells, rough = Neighbour(3, 3, 2.0), Roughness()
    if chosen.digits:  # so noisy that the fit tells 14 % a block, as of the ten tunings
        return Bench(
            DIGITS_ROUGH,
            spells,
            max_rows=32_768,
            block_noise=0.08,
            overhead_s=0.015,
            seed=seed,
            roughness=rough,
        )
    if chosen.rough:
        return Bench(MOBILENET_ROUGH, spells, max_rows=512, seed=seed, roughness=rough)
    if chosen.mobilenet:
        return Bench(MOBILENET, Neighbour(3, 3, 1.6), max_rows=512, seed=seed)
    return drawn(seed, neighbour=chosen.neighbour)


def regret_of(bench: Bench, budget_s: float) -> tuple[float, Candidate, float]:
    """Search on a machine: the regret, the answer, and the seconds that it took."""
    record = search(
        bench,
        Goal(max_batch_size=bench.max_rows),
        lanes=list(bench.curves),
        budget_s=budget_s,
        seed=bench.seed,
    )
    assert record.recommendation is not None
    answer = record.recommendation.candidate
    return 1 - bench.rows_per_s(answer) / bench.rows_per_s(bench.best()), answer, record.spent_s


def print_figures(title: str, values: Sequence[float]) -> None:
    """Print the quantiles of one figure."""
    low, middle, high = np.quantile(values, [0.5, 0.9, 0.95])
    figures = {"median": low, "p90": middle, "p95": high, "max": max(values)}
    print(f"{title:12}" + "".join(f"  {name} {value:8.3f}" for name, value in figures.items()))


def main() -> None:
    """Print the figures."""
    chosen = arguments()
    benches = [machine(chosen.seed + n, chosen) for n in range(chosen.machines)]
    found = [regret_of(bench, chosen.budget) for bench in benches]
    regrets = [regret for regret, _, _ in found]
    within = sum(regret <= NEAR for regret in regrets)
    print(f"within {NEAR:.0%} of the best: {within} of {len(found)}")
    print(f"mean regret: {statistics.fmean(regrets):.4f}")
    print_figures("regret", regrets)
    print_figures("seconds", [seconds for _, _, seconds in found])
    print_figures("probes", [len(bench.tried) for bench in benches])
    print_figures("lanes", [len(bench.curves) for bench in benches])
    mean = statistics.fmean(len(set(bench.tried)) for bench in benches)
    print(f"candidates tried, mean: {mean:.1f}")
    if chosen.mobilenet or chosen.rough or chosen.digits:
        print(Counter(answer for _, answer, _ in found).most_common(6))
    worst = sorted(zip(regrets, benches, found, strict=True), key=lambda row: -row[0])
    for regret, bench, (_, answer, _) in worst[: chosen.worst]:
        print(f"{regret:.3f} seed {bench.seed}: {answer}, best {bench.best()}")


if __name__ == "__main__":
    main()
