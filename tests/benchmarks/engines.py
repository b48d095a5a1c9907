"""All engines, batches in flight and sizes on seven nets, and what the tuner makes of them.

    python -m tests.benchmarks.engines [--net mlp ...] [--budget 60] [--rounds 10] [--json FILE]

Each net is tuned; then every candidate is timed once, and those that may be the best of something
round after round in random order. The best of each engine is timed once more side by side with
the choice, with the choice among `keras` alone, and with `model.predict`. The tuned predictor runs
in a process of its own, in turn with the others, on as many rows as take it about half a second.
Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from autotune import Candidate, Goal, Measurement, Recommendation, engines, tune
from autotune.bounds import at
from autotune.comparing import Fit
from autotune.judging import Lane, speed_of
from autotune.probe import IsolatedProbe
from autotune.ways import lanes_of
from autotune.worker import FileSource, Load, SavedRows
from autotune.workload import Workload
from tests.benchmarks import nets
from tests.benchmarks.served import Server

NETS: dict[str, tuple[Callable[[], keras.Model], int, int]] = {  # largest size, rows of the sample
    "mlp": (nets.mlp, 65_536, 65_536),
    "cnn": (nets.cnn, 2_048, 4_096),
    "mobilenet": (nets.mobilenet, 256, 256),
    "gru": (nets.gru, 8_192, 8_192),
    "text": (nets.text, 1_024, 1_024),
    "attention": (nets.attention, 1_024, 1_024),
    "resnet50": (nets.resnet, 32, 32),
}
BLOCK_S = 0.1
SERVED_S = 0.5
BEHIND = 0.2  # as a log ratio, after one round
FRESH_ROUNDS = 12
PREDICT_ROWS = 1024  # or as many as the sample has
RESNET_FLOP = 7.7e9  # a row: 3.86 billion multiplications, each with an addition


@dataclass
class Row:
    """One net: rows per second of each way, as measured in the last rounds.

    Attributes:
        net: Its name.
        engines: Of each engine its best way, and rows per second.
        refused: Engines that cannot run it, and why.
        chosen: What the tuner chose, and rows per second of it in a probe.
        keras_alone: The same, with `keras` as the only engine.
        one_at_a_time: The best `predict_on_batch` with one batch at a time.
        predict: `model.predict(x)`.
        predictor: The tuned predictor, in its own process.
        cold_start_s: Seconds from import to its first answer, of one row.
        best: The best of all in the sweep.
        tuning_s: Seconds of the probes of the tuning.
        sweep_s: Seconds that a sweep of all candidates in every round would have taken.
    """

    net: str
    engines: dict[str, tuple[str, float]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    chosen: tuple[str, float] = ("", 0.0)
    keras_alone: tuple[str, float] = ("", 0.0)
    one_at_a_time: tuple[str, float] = ("", 0.0)
    predict: float = 0.0
    predictor: float = 0.0
    cold_start_s: float = 0.0
    best: tuple[str, float] = ("", 0.0)
    tuning_s: float = 0.0
    sweep_s: float = 0.0


def measure(net: str, folder: Path, budget_s: float, rounds: int) -> Row:
    """Tune one net, sweep it, and time the best of each side by side."""
    make, largest, count = NETS[net]
    keras.utils.set_random_seed(0)
    model, path = make(), folder / "model.keras"
    model.save(path)
    rows = nets.rows_for(model, count)
    goal = Goal(max_batch_size=largest)
    predictor = tune(path, rows, goal, budget_s=budget_s)
    predictor.save(folder / "tuned")
    np.save(folder / "x.npy", many(rows, predictor.recommendation))
    plain = tune(path, rows, goal, engines=["keras"], budget_s=budget_s / 2)
    row = Row(net, refused=dict(predictor.record.unavailable), tuning_s=predictor.record.spent_s)
    with IsolatedProbe(load_of(folder, rows)) as probe:
        lanes = lanes_of(probe.load())
        levels, row.sweep_s = sweep(probe, lanes, largest, rounds)
        fill_in(row, probe, levels, predictor.recommendation, plain.recommendation, folder)
    return row


def many(rows: Any, chosen: Recommendation) -> Any:
    """As many rows as take the choice half a second, but no more than 64 batches."""
    wanted = min(SERVED_S * chosen.rows_per_s, 64 * chosen.batch_size)
    return np.concatenate([rows] * math.ceil(wanted / len(rows)))


def load_of(folder: Path, rows: Any) -> Load:
    """What a child loads."""
    (folder / "rows").mkdir()
    Workload(rows).save(folder / "rows")
    model, sample = FileSource(str(folder / "model.keras")), SavedRows(str(folder / "rows"))
    exports = str(folder / "exports")
    return Load(id=0, model=model, name="", sample=sample, engines=None, exports=exports)


def sweep(
    probe: IsolatedProbe, lanes: Sequence[Lane], largest: int, rounds: int
) -> tuple[dict[Candidate, float], float]:
    """Time every candidate, and in further rounds those that may be the best of something.

    Returns:
        The levels, and the seconds that so many rounds of all candidates would have taken.
    """
    sizes = [2**power for power in range(largest.bit_length())]
    first, seconds = time_round(probe, [at(lane, size) for lane in lanes for size in sizes], 0)
    levels = Fit([first]).levels
    hopeful = {c for c, level in levels.items() if level > max(levels.values()) - BEHIND}
    for lane in lanes:
        mine = only(levels, engine=lane[0], concurrency=lane[1])
        hopeful.update(sorted(mine, key=mine.__getitem__)[-2:])
    found = [first, *(time_round(probe, hopeful, number)[0] for number in range(1, rounds))]
    fit = Fit(found).levels
    return {candidate: fit[candidate] for candidate in hopeful}, rounds * seconds


def time_round(
    probe: IsolatedProbe, candidates: Iterable[Candidate], number: int
) -> tuple[dict[Candidate, tuple[float, bool]], float]:
    """Time each candidate once; leave out what fails.

    The order is random, but for the threads of a call: for each number of these there is a
    process, and one that was ended to make room would have to compile all anew.
    """
    chance = random.Random(number)  # noqa: S311
    rank = {candidate: chance.random() for candidate in sorted(candidates, key=str)}
    group = {threads: chance.random() for threads in (None, 1, 2, 3, 4)}
    found, spent_s = {}, 0.0
    for candidate in sorted(rank, key=lambda c: (group[c.threads], rank[c])):
        outcome = probe(candidate, BLOCK_S)
        spent_s += outcome.elapsed_s
        if isinstance(outcome, Measurement):
            found[candidate] = math.log(speed_of(outcome)), outcome.is_disturbed
    return found, spent_s


def fill_in(
    row: Row,
    probe: IsolatedProbe,
    levels: dict[Candidate, float],
    chosen: Recommendation,
    plain: Recommendation,
    folder: Path,
) -> None:
    """Time what stands in the table afresh, side by side."""
    best = best_of(levels)
    alone = best_of(only(levels, engine=engines.REFERENCE, concurrency=1))
    names = dict.fromkeys(candidate.engine for candidate in levels)
    of_engine = {name: best_of(only(levels, engine=name)) for name in names}
    predict = Candidate(min(PREDICT_ROWS, NETS[row.net][2]), engines.BASELINE)
    timed = {best, alone, chosen.candidate, plain.candidate, predict, *of_engine.values()}
    server = Server(folder / "tuned", folder / "x.npy")
    served, rounds = [], []
    try:
        server.rows_per_s(SERVED_S)
        for number in range(FRESH_ROUNDS):
            rounds.append(time_round(probe, timed, number)[0])
            served.append(server.rows_per_s(SERVED_S))
    finally:
        server.close()
    fresh = {c: math.exp(level) for c, level in Fit(rounds).levels.items()}
    row.engines = {name: (str(c), fresh[c]) for name, c in of_engine.items()}
    row.best, row.one_at_a_time = (str(best), fresh[best]), (str(alone), fresh[alone])
    row.chosen = str(chosen.candidate), fresh[chosen.candidate]
    row.keras_alone = str(plain.candidate), fresh[plain.candidate]
    row.predict, row.predictor = fresh[predict], statistics.median(served)
    row.cold_start_s = server.cold_start_s


def only(levels: dict[Candidate, float], **fields: Any) -> dict[Candidate, float]:
    """Those with certain fields."""
    return {
        candidate: level
        for candidate, level in levels.items()
        if all(getattr(candidate, name) == value for name, value in fields.items())
    }


def best_of(levels: dict[Candidate, float]) -> Candidate:
    """The fastest."""
    return max(levels, key=levels.__getitem__)


def peak_flop_per_s() -> float:
    """Floating-point operations a second of a float32 matrix product, the best of some."""
    a, times = np.ones((2048, 2048), np.float32), []
    for _ in range(10):
        began = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - began)
    return 2 * len(a) ** 3 / min(times)


def print_row(row: Row) -> None:
    """Print what is known of one net."""
    print(f"\n{row.net}: tuned in {row.tuning_s:.0f} s, a sweep takes {row.sweep_s:.0f} s")
    lines = {
        "model.predict(x)": ("", row.predict),
        "best predict_on_batch": row.one_at_a_time,
        **{f"  {name}": found for name, found in row.engines.items()},
        "best of all": row.best,
        "chosen": row.chosen,
        "chosen, keras alone": row.keras_alone,
        "tuned predictor": ("", row.predictor),
    }
    for name, (what, speed) in lines.items():
        times = speed / row.one_at_a_time[1]
        print(f"{name:24}{speed:14,.0f} rows/s{times:8.2f} x  {what}")
    print(f"the tuned predictor's first answer after {row.cold_start_s:.2f} s")
    for name, why in row.refused.items():
        print(f"  {name}: {why}")
    if row.net == "resnet50":
        print(f"share of the processor's peak: {row.best[1] * RESNET_FLOP / peak_flop_per_s():.2f}")
    sys.stdout.flush()


def print_figures(rows: Sequence[Row]) -> None:
    """Print the figures over all nets."""

    def mean(ratios: Iterable[float]) -> str:
        values = list(ratios)
        return f"{statistics.geometric_mean(values):6.2f}   least {min(values):.2f}"

    print("\ngeometric means over the nets")
    for title, ratios in {
        "predictor / best predict_on_batch": [r.predictor / r.one_at_a_time[1] for r in rows],
        "predictor / model.predict": [r.predictor / r.predict for r in rows],
        "keras alone / best predict_on_batch": [
            r.keras_alone[1] / r.one_at_a_time[1] for r in rows
        ],
        "chosen / best of all": [r.chosen[1] / r.best[1] for r in rows],
        "sweep / tuning, seconds": [r.sweep_s / r.tuning_s for r in rows],
    }.items():
        print(f"{title:40}{mean(ratios)}")


def main() -> None:
    """Measure each net, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--net", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for a tuning")
    parser.add_argument("--rounds", type=int, default=10, help="of the sweep")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    chosen = parser.parse_args()
    rows = []
    for net in chosen.net:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(net, Path(folder), chosen.budget, chosen.rounds))
        print_row(rows[-1])
        if chosen.json:
            chosen.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print_figures(rows)


if __name__ == "__main__":
    main()
