"""The tuned predictor against a loop by hand, its engine alone, and `model.predict`.

    python -m tests.benchmarks.predictor            # under ten minutes
    python -m tests.benchmarks.predictor --short    # some seconds: a look whether it works

Three tables of calls made in turn in one run: on a shared machine only their ratios and differences
can be compared. Each is a median, with its 95 % interval. A figure is missed where the whole
interval is on the wrong side of what is asked; then the exit status is 1, but for the short form,
which is too short to tell. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from autotune import Candidate, Goal, TunedPredictor, engines, tune
from tests.benchmarks import nets

ENGINES = ("keras", "compiled")  # those that run the very calls of the loop by hand
BY_HAND, BY_HAND_ALL = 0.98, 1.0  # seconds by hand over seconds of the predictor
ON_TOP_US = 20.0
FASTER = {"keras": 100.0, "compiled": 150.0}  # seconds of model.predict over those of the predictor
FEWEST = 12  # rounds, so that there is an interval
LINE_S, TUNING_S, PAIRS = 16.0, 15.0, 5_000
SPELL = 100  # calls of the predictor to one of model.predict
SHORT_LINE_S, SHORT_PAIRS = 0.2, 300

# A net, rows of a batch, rows of a call: the last batch is a short one.
NETS: list[tuple[Callable[[], keras.Model], int, int]] = [
    (nets.mlp, 1_024, 10_000),
    (nets.cnn, 256, 2_000),
    (nets.gru, 256, 2_000),
    (nets.autoencoder, 1_024, 10_000),
    (nets.wide, 128, 500),
    (nets.text, 64, 500),
    (nets.attention, 64, 500),
    (nets.unet, 16, 40),
    (nets.mobilenet, 32, 80),
    (nets.resnet, 8, 12),
]
QUICK = NETS[:1]


@dataclass(frozen=True, slots=True)
class Figure:
    """A median and its 95 % interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:8.3f}  {self.low:8.3f} to {self.high:8.3f}"

    def against(self, asked: float, *, at_most: bool = False) -> str:
        """Tell whether what is asked was reached, missed, or is within the interval."""
        sign = -1 if at_most else 1
        if max(sign * self.low, sign * self.high) < sign * asked:
            return "MISSED"
        return "reached" if sign * self.median >= sign * asked else "within the noise"


def figure(values: Any) -> Figure:
    """Median of samples; its interval lies between two of them, whatever they come from."""
    values = np.sort(values)
    spread = 1.96 * np.sqrt(len(values)) / 2  # of the number of samples below the median
    low, high = int((len(values) - 1) / 2 - spread), int(np.ceil((len(values) - 1) / 2 + spread))
    return Figure(np.median(values), values[max(0, low)], values[min(high, len(values) - 1)])


def in_turn(
    first: Callable[[], Any], second: Callable[[], Any], seconds: float, fewest: int = FEWEST
) -> Any:
    """Seconds of each of two calls, round after round in changing order: shape (rounds, 2)."""
    found, turn, ends = [], 0, time.perf_counter() + seconds
    for call in (first, second):
        call()
    while turn < fewest or time.perf_counter() < ends:
        took = {}
        for call in (first, second) if turn % 2 else (second, first):
            start = time.perf_counter()
            call()
            took[call] = time.perf_counter() - start
        found.append((took[first], took[second]))
        turn += 1
    return np.array(found)


def by_hand(engine: engines.Engine, rows: Any, size: int) -> Callable[[], Any]:
    """The loop that people write."""
    if len(rows) <= size:
        return lambda: engine(rows)
    starts = range(0, len(rows), size)
    return lambda: np.concatenate([engine(rows[start : start + size]) for start in starts])


def against_hand(model: keras.Model, candidate: Candidate, count: int, seconds: float) -> Any:
    """Seconds by hand over seconds of the predictor, for one candidate and one engine."""
    rows = nets.rows_for(model, count)
    engine = engines.build(candidate.engine, model, rows[:1])
    predictor = nets.sharing(model, candidate, engine, rows[:1])
    hand = by_hand(engine, rows, candidate.batch_size)
    np.testing.assert_array_equal(predictor.predict(rows), hand())
    found = in_turn(hand, lambda: predictor.predict(rows), seconds)
    return found[:, 0] / found[:, 1]


def hand_table(short: bool) -> list[str]:
    """Print the first table, and return its verdicts."""
    print("against a loop by hand, same engine and batch size: times as fast")
    print(f"{'net':14}{'engine':10}{'rows':>7}{'by':>7}{'rounds':>8}{'median':>9}  95 % interval")
    verdicts: list[str] = []
    samples: list[Any] = []
    for make, size, count in QUICK if short else NETS:
        model = make()
        for name in ENGINES:
            found = against_hand(model, Candidate(size, name), count, line_s(short))
            told = figure(found)
            samples.append(found)
            verdicts.append(told.against(BY_HAND))
            print(f"{model.name:14}{name:10}{count:7}{size:7}{len(found):8} {told}  {verdicts[-1]}")
    mean = geometric_mean(samples)
    verdicts.append(mean.against(BY_HAND_ALL))
    print(f"{'geometric mean':46} {mean}  {verdicts[-1]}\n", flush=True)
    return verdicts


def geometric_mean(samples: list[Any]) -> Figure:
    """Geometric mean of medians, with a bootstrap's 95 % interval."""
    random = np.random.default_rng(0)
    again = [
        np.mean([np.log(np.median(random.choice(found, len(found)))) for found in samples])
        for _ in range(500)
    ]
    mean = np.mean([np.log(np.median(found)) for found in samples])
    return Figure(*np.exp([mean, *np.quantile(again, [0.025, 0.975])]))


def top_table(short: bool) -> list[str]:
    """Print the second table: what one row costs on top of the engine's own call."""
    print("one row, on top of the engine's own call: microseconds")
    print(f"{'net':14}{'engine':10}{'engine, us':>14}{'pairs':>8}{'median':>9}  95 % interval")
    verdicts = []
    for make in (nets.mlp, nets.two_inputs):
        model = make()
        each = {spec.name: np.ones((1, *spec.shape[1:]), np.float32) for spec in model.inputs}
        row: Any = each if len(each) > 1 else next(iter(each.values()))
        for name in ENGINES:
            engine = engines.build(name, model, row)
            predictor = nets.sharing(model, Candidate(64, name), engine, row)
            took = 1e6 * one_row(engine, predictor, row, SHORT_PAIRS if short else PAIRS)
            told = figure(took[:, 1] - took[:, 0])
            verdicts.append(told.against(ON_TOP_US, at_most=True))
            alone = f"{np.median(took[:, 0]):14.1f}{len(took):8}"
            print(f"{model.name:14}{name:10}{alone} {told}  {verdicts[-1]}", flush=True)
    print()
    return verdicts


def one_row(engine: engines.Engine, predictor: TunedPredictor, row: Any, pairs: int) -> Any:
    """Seconds of the engine's call and of the predictor's."""
    for _ in range(50):
        engine(row), predictor.predict(row)
    return in_turn(lambda: engine(row), lambda: predictor.predict(row), 0, pairs)


def predict_table(short: bool) -> list[str]:
    """Print the third table: the seed's MLP and 1,000 rows, against `model.predict`."""
    print("model.predict(x) to the predictor, the seed's MLP, 1,000 rows: times as fast")
    verdicts = []
    for name in ENGINES:
        model = nets.mlp()
        rows = nets.rows_for(model, 1_000)
        if short:
            predictor = nets.following(model, Candidate(1_024, name))
        else:
            goal = Goal("makespan", rows=len(rows))
            predictor = tune(model, rows, goal, engines=[name], budget_s=TUNING_S)
        found = model_predict(model, predictor, rows, line_s(short))
        told, candidate = figure(found), str(predictor.recommendation.candidate)
        verdicts.append(told.against(FASTER[name]))
        print(f"{candidate:40}{len(found):6} rounds {told}  {verdicts[-1]}", flush=True)
    return verdicts


def model_predict(model: keras.Model, predictor: TunedPredictor, rows: Any, seconds: float) -> Any:
    """Seconds of `model.predict` over seconds of the predictor.

    A call of the one lasts as long as a hundred of the other. So many are timed in a turn: a single
    one, after so much else, would be one that finds nothing in the processor's caches.
    """
    usual = model.predict(rows, verbose=0)
    np.testing.assert_allclose(predictor.predict(rows), usual, rtol=1e-5, atol=1e-5)
    for _ in range(20):  # the second and all calls after it take a hundredth of the first
        predictor.predict(rows)

    def spell() -> None:
        for _ in range(SPELL):
            predictor.predict(rows)

    took = in_turn(lambda: model.predict(rows, verbose=0), spell, seconds)
    return SPELL * took[:, 0] / took[:, 1]


def line_s(short: bool) -> float:
    """Seconds that a line of a table is measured for."""
    return SHORT_LINE_S if short else LINE_S


def main() -> None:
    """Print the tables, and fail where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--short", action="store_true", help="see that it works; judge nothing")
    short = parser.parse_args().short
    verdicts = [*hand_table(short), *top_table(short), *predict_table(short)]
    print(f"{len(verdicts)} figures, {verdicts.count('MISSED')} missed")
    sys.exit(not short and "MISSED" in verdicts)


if __name__ == "__main__":
    main()
