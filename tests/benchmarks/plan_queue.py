"""The simulated queue against the real one, with calls that sleep in place of a model.

    python -m tests.benchmarks.plan_queue             # six minutes
    python -m tests.benchmarks.plan_queue --short     # three and a half

Calls take 50 to 150 ms and no processor, so that the table tells of the queue alone: when batches
start, how large they are, who waits how long.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any, cast

import numpy as np

from autotune import Candidate, Measurement, MicroBatcher, TunedPredictor, TuningRecord
from autotune.calltimes import LEVELS
from autotune.replica import Replica
from autotune.scheduling import schedule_for
from autotune.service import MEASURED, Service
from autotune.units import format_seconds
from tests.batchers import record_of
from tests.benchmarks.batching import poisson, spare_the_collector
from tests.benchmarks.plan_against import SIMULATED, ms
from tests.benchmarks.plan_overhead import Instant


class Sleeping(Instant):
    """A predictor that sleeps for as long as a record's calls took: only the queue is tried."""

    def __init__(self, record: TuningRecord) -> None:
        super().__init__(1)
        assert record.recommendation is not None
        self.record, self.recommendation = record, record.recommendation
        self._times = Service(record).times(record.recommendation.concurrency)
        self._random = np.random.default_rng(1)

    def predict(self, x: Any) -> Any:
        """Return the rows, after a while."""
        if len(x):
            time.sleep(self._times.seconds(len(x), int(self._random.integers(LEVELS))))
        return x


def sleeper(flights: int) -> TuningRecord:
    """A record of calls of 50 to 150 ms, whose larger batches take little longer."""
    noise = np.random.default_rng(0).gamma(16, 1 / 16, 500)
    way = Candidate(32, concurrency=flights)
    outcomes = [
        Measurement(
            Candidate(size, concurrency=flights), tuple(((0.1 + 2e-4 * size) * noise).tolist())
        )
        for size in (1, 32)
    ]
    return record_of(way, call_s=0.1064, outcomes=outcomes)


def against_queue(seconds: float) -> None:
    """Print the table."""
    print(
        "| in flight | wait | load | p50 predicted | measured | p99 predicted | measured | off "
        "| rows a batch predicted | measured |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows = np.zeros((64, 10), np.float32)
    spare_the_collector()
    for flights, wait_s, share in itertools.product((1, 2), (None, 0.0, 0.05), (0.3, 0.8)):
        record = sleeper(flights)
        predictor = cast(TunedPredictor, Sleeping(record))
        schedule = schedule_for(predictor.recommendation, record, wait_s)
        replica = Replica(Service(record), schedule, MEASURED)
        rate = share * replica.capacity_per_s
        run = replica.run(rate, SIMULATED)
        with MicroBatcher(predictor, max_wait_s=wait_s) as batcher:
            took, _ = poisson(batcher, rows, rate, seconds)
            size = batcher.figures.batch_rows.mean
        middle, late = np.quantile(took, [0.5, 0.99])
        expected = run.quantile(0.99).value
        wait = "its own" if wait_s is None else format_seconds(wait_s)
        print(
            f"| {flights} | {wait} | {share:.0%} "
            f"| {ms(run.quantile(0.5).value)} | {ms(middle)} | {ms(expected)} | {ms(late)} "
            f"| {late / expected - 1:+.0%} | {run.batch_rows:.1f} | {size:.1f} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    against_queue(15.0 if parser.parse_args().short else 30.0)


if __name__ == "__main__":
    main()
