"""The right answer on a noisy machine: tuning while a neighbour keeps one core busy in spells.

    python -m tests.benchmarks.neighbour [--runs 10] [--peer-runs 3] [--budget 60] [--model digits]
        [--keep FOLDER]

Each model is tuned again and again while a process of its own is busy for 1 to 5 seconds, then
idle for 1 to 5 seconds. Other policies choose in the same storm. Then, in quiet, all that anybody
chose and all sizes of all ways of running are timed side by side, to find the best few. The truth
comes from rounds after that, of those and of what was chosen: the luckiest of forty candidates
looks better than it is. Regret is the share that a choice gives away of the speed of the best in
those rounds, who may still be a little luckier than good: it is told too large, not too small.
Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from autotune import Candidate, Measurement, OutOfMemory, engines, tune
from autotune.bounds import at
from autotune.comparing import Fit
from autotune.demo import FOLDER
from autotune.judging import speed_of
from autotune.probe import IsolatedProbe
from autotune.ways import lanes_of
from autotune.worker import FileSource, Load, SavedRows
from autotune.workload import Workload
from tests.benchmarks.policies import PEERS

ENGINES = ("keras", "compiled")
CLEARLY_BEHIND = 0.15  # as a log ratio, after the first rounds of the truth
FIRST_ROUNDS, ROUNDS, FRESH_ROUNDS = 2, 8, 60
FINALISTS = 3  # beside the chosen
BLOCK_S = 0.25

STORM = """
import os, random, sys, time
spells, parent = random.Random(int(sys.argv[1])), os.getppid()
while os.getppid() == parent:
    until = time.perf_counter() + spells.uniform(1, 5)
    while time.perf_counter() < until:
        pass
    time.sleep(spells.uniform(1, 5))
"""


@contextlib.contextmanager
def storm(seed: int) -> Iterator[None]:
    """Have a neighbour who comes and goes."""
    neighbour = subprocess.Popen([sys.executable, "-c", STORM, str(seed)])
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


@dataclass
class Subject:
    """A model to be tuned, rows for it, and the largest size that the policies may try."""

    name: str
    path: Path
    rows: Any
    largest: int
    load: Load
    engine: engines.Engine
    seed: int = 0

    def time_calls(
        self, batch_size: int, calls: int, *, warm_up: int = 2
    ) -> Measurement | OutOfMemory:
        """Time so many calls of `predict_on_batch`, for the policies of others."""
        batch, engine = Workload(self.rows).take(batch_size), self.engine
        for _ in range(warm_up):
            engine(batch)
        times = []
        for _ in range(calls):
            start = time.perf_counter()
            engine(batch)
            times.append(time.perf_counter() - start)
        return Measurement(Candidate(batch_size), tuple(times))


def digits(folder: Path) -> Subject:
    """The demo's model."""
    with np.load(FOLDER / "digits.npz") as file:
        rows = file["image"].astype(np.float32)
    return subject("digits", FOLDER / "digits.keras", rows, 32_768, folder)


def mobilenet(folder: Path) -> Subject:
    """MobileNetV2 of 96x96 pixels at half width, with weights drawn at random."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2((96, 96, 3), alpha=0.5, weights=None, classes=10)
    model.save(folder / "mobilenet.keras")
    rows = np.random.default_rng(0).random((256, 96, 96, 3), np.float32)
    return subject("MobileNetV2", folder / "mobilenet.keras", rows, 256, folder)


def subject(name: str, path: Path, rows: Any, largest: int, folder: Path) -> Subject:
    """Say what a child loads for the truth; load the model here for the policies of others."""
    (folder / name).mkdir()
    Workload(rows).save(folder / name)
    model, sample = FileSource(str(path)), SavedRows(str(folder / name))
    load = Load(id=0, model=model, name=name, sample=sample, engines=ENGINES)
    reference = engines.build(engines.REFERENCE, keras.models.load_model(path), rows[:1])
    return Subject(name, path, rows, largest, load, reference)


def choices(
    one: Subject, runs: int, peer_runs: int, budget_s: float, keep: Path | None
) -> dict[str, list[Candidate]]:
    """What everybody chooses in the storm; `keep` gets the tunings, for a look at what they did."""
    found: dict[str, list[Candidate]] = {}
    for number in range(runs):
        with storm(number):
            tuned = tune(one.path, one.rows, engines=ENGINES, budget_s=budget_s, seed=number)
        if keep is not None:
            tuned.save(keep / f"{one.name}-{number}")
        chosen = tuned.recommendation
        note(f"{one.name}: {chosen.candidate}, confidence {chosen.confidence}")
        found.setdefault("autotune", []).append(chosen.candidate)
    for number in range(peer_runs):
        one.seed = number
        for name, policy in PEERS.items():
            with storm(100 + number):
                size = policy(one, one.largest)
            note(f"{one.name}: {name}: {size} rows")
            found.setdefault(name, []).append(Candidate(size))
    return found


def note(text: str) -> None:
    """Tell on standard error how far it is."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Truth:
    """Logarithms of rows per second, timed in quiet, of the best and of what was chosen."""

    levels: dict[Candidate, float]
    best: Candidate
    best_plain: Candidate


def find_truth(one: Subject, chosen: Sequence[Candidate]) -> Truth:
    """Find the best of all, and of `predict_on_batch` alone, and time both beside the chosen."""
    with IsolatedProbe(one.load) as probe:
        lanes = lanes_of(probe.load())
        sizes = [2**n * k // 4 for n in range(2, one.largest.bit_length()) for k in (4, 5, 6, 7)]
        sizes = [1, 2, *(size for size in sizes if size <= one.largest)]
        field = {at(lane, size) for lane in lanes for size in sizes} | set(chosen)
        return _find_truth(one, probe, field, chosen)


def _find_truth(
    one: Subject, probe: IsolatedProbe, field: set[Candidate], chosen: Sequence[Candidate]
) -> Truth:
    rounds = [time_round(probe, field, number) for number in range(FIRST_ROUNDS)]
    levels = Fit(rounds).levels
    top = max(levels.values())
    close = {c for c in field if levels[c] > top - CLEARLY_BEHIND} | set(chosen)
    rounds += [time_round(probe, close, number) for number in range(ROUNDS)]
    levels = Fit(rounds).levels
    plain = [c for c in levels if (c.engine, c.concurrency) == (engines.REFERENCE, 1)]
    leading = {c for group in (plain, levels) for c in _best(levels, group, FINALISTS)}
    last = leading | set(chosen)
    fresh = Fit([time_round(probe, last, number) for number in range(FRESH_ROUNDS)])
    levels = fresh.levels
    note(f"{one.name}: noise of the truth {fresh.noise:.1%} a block, {FRESH_ROUNDS} rounds")
    for candidate in _best(levels, levels, len(levels)):
        note(f"{one.name}: {candidate}: {math.exp(levels[candidate]):,.0f} rows/s")
    (best,), (best_plain,) = _best(levels, levels, 1), _best(levels, last & set(plain), 1)
    return Truth(levels, best, best_plain)


def _best(
    levels: dict[Candidate, float], group: Iterable[Candidate], count: int
) -> list[Candidate]:
    return sorted(group, key=lambda candidate: -levels[candidate])[:count]


def time_round(
    probe: IsolatedProbe, field: set[Candidate], number: int
) -> dict[Candidate, tuple[float, bool]]:
    """Time each candidate once, in random order."""
    order = sorted(field, key=str)
    random.Random(number).shuffle(order)  # noqa: S311
    found = {}
    for candidate in order:
        outcome = probe(candidate, BLOCK_S)
        if isinstance(outcome, Measurement):
            found[candidate] = math.log(speed_of(outcome)), outcome.is_disturbed
    return found


def print_table(one: Subject, found: dict[str, list[Candidate]]) -> None:
    """Print the regret of each policy: against the best of all, and of what it could choose."""
    truth = find_truth(one, [candidate for group in found.values() for candidate in group])
    levels, best, best_plain = truth.levels, truth.best, truth.best_plain
    print(
        f"\n{one.name}: best {best}, {math.exp(levels[best]):,.0f} rows/s; with keras alone ",
        end="",
    )
    print(f"{best_plain.batch_size} rows, {math.exp(levels[best_plain]):,.0f} rows/s")
    print(f"{'policy':32}{'runs':>6}{'median':>8}{'max':>8}{'over 5 %':>10}  chosen")
    for name, group in found.items():
        top = levels[best if name == "autotune" else best_plain]
        regrets = [1 - math.exp(levels[candidate] - top) for candidate in group]
        over = sum(regret > 0.05 for regret in regrets)
        sizes = ", ".join(dict.fromkeys(str(candidate) for candidate in group))
        line = f"{name:32}{len(group):6}{np.median(regrets):8.3f}{max(regrets):8.3f}{over:10}"
        print(f"{line}  {sizes}", flush=True)


MODELS = {"digits": digits, "mobilenet": mobilenet}


def main() -> None:
    """Tune both models in a storm, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=10, help="of autotune, for each model")
    parser.add_argument("--peer-runs", type=int, default=3, help="of each other policy")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for a tuning")
    parser.add_argument("--model", choices=MODELS, help="by default each in turn")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="save the tunings there")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in [chosen.model] if chosen.model else MODELS:
            one = MODELS[name](Path(folder))
            found = choices(one, chosen.runs, chosen.peer_runs, chosen.budget, chosen.keep)
            print_table(one, found)


if __name__ == "__main__":
    main()
