"""A crowd of threads and a memory that runs out: no row is lost, doubled, swapped or reordered.

    python -m tests.benchmarks.crowd            # 2 million rows a line: some minutes
    python -m tests.benchmarks.crowd --short    # 100,000

64 threads use one predictor at once, with calls of 1 to some thousand rows, in every way that there
is to call it. Each row carries its number, and its answer must be that number. Meanwhile the engine
runs out of memory: for batches that are larger than what a simulated neighbour leaves free, which
changes all the time, and now and then for any batch of more than one row. The engine counts as well
how often each row was run. First the detectors must find out damage that is done on purpose.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import logging
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from autotune import Candidate, TunedPredictor, engines
from tests.benchmarks.nets import numbering, sharing

ROWS, SHORT_ROWS = 2_000_000, 100_000
THREADS = 64
WIDTH = 10
LARGEST = 5_000  # rows of a call
SIZE = 128  # of a tuned batch
STRAY = 1 / 4_000  # share of batches that run out of memory whatever their size
SPELL = 50  # batches, on average, until as much memory is free as before or another amount
FEW = 16  # rows for which there is room in any spell
PLENTY = 0.6  # share of spells with room for every batch
STUCK_S = 900.0

Tally = collections.Counter[str]

SHORTAGES: list[Callable[[], Exception]] = [
    lambda: MemoryError("Unable to allocate 3.1 GiB"),
    lambda: RuntimeError("CUDA out of memory. Tried to allocate 3.1 GiB"),
    lambda: RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"),
    lambda: RuntimeError("std::bad_alloc"),
    lambda: tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
]


class Echo:
    """A fake engine: the first number of each row. Calls must not meet where it is not safe."""

    def __init__(self, *, thread_safe: bool, compiles_per_shape: bool) -> None:
        self.thread_safe, self.compiles_per_shape = thread_safe, compiles_per_shape
        self.survives_shortage = True
        self._busy = threading.Lock()

    def __call__(self, batch: Any) -> Any:
        """Give other threads a chance in the middle."""
        if self.thread_safe:
            time.sleep(0)
            return batch[:, :1].copy()
        if not self._busy.acquire(blocking=False):
            raise AssertionError("Two calls at once, of an engine that is not safe.")
        try:
            time.sleep(0)
            return batch[:, :1].copy()
        finally:
            self._busy.release()


class Short:
    """An engine that runs out of memory at random, and counts how often it has run each row.

    Args:
        engine: Runs the batches.
        rows: How many rows there are in all.
        seed: Of the random numbers.

    Attributes:
        shortages: How often it ran out.
        times_run: How often each row was run, by its number; 0 is nobody's.
    """

    def __init__(self, engine: engines.Engine, rows: int, seed: int) -> None:
        self.thread_safe = engine.thread_safe
        self.compiles_per_shape = engine.compiles_per_shape
        self.survives_shortage = engine.survives_shortage
        self.shortages = 0
        self.times_run = np.zeros(rows + 1, np.uint8)
        self._engine, self._random = engine, random.Random(seed)  # noqa: S311
        self._room, self._left = SIZE, SPELL
        self._lock = threading.Lock()

    def __call__(self, batch: Any) -> Any:
        """Run a batch, or run out of memory."""
        if len(batch) > 1 and self._is_short(len(batch)):
            raise self._random.choice(SHORTAGES)()
        outputs = self._engine(batch)
        with self._lock:
            np.add.at(self.times_run, batch[:, 0].astype(np.int64), 1)
        return outputs

    def _is_short(self, rows: int) -> bool:
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                self._left = int(self._random.expovariate(1 / SPELL))
                few = self._random.randrange(FEW, SIZE)
                self._room = SIZE if self._random.random() < PLENTY else few
            is_short = rows > self._room or self._random.random() < STRAY
            self.shortages += is_short
            return is_short


def faults_in(got: Any, numbers: Any) -> Tally:
    """Say what is wrong with the answer to rows that carry these numbers, each of them once."""
    if np.array_equal(got, numbers):
        return Tally()
    its_own = np.isin(got, numbers)
    found, times = np.unique(got[its_own], return_counts=True)
    wrong = Tally(
        lost=len(numbers) - len(found),
        doubled=int(np.sum(times - 1)),
        swapped=int(np.count_nonzero(~its_own)),
    )
    in_order = np.array_equal(found, np.sort(numbers)) and len(got) == len(numbers)
    wrong["reordered"] = int(np.count_nonzero(got != numbers)) if in_order else 0
    return +wrong


def prove_detectors() -> None:
    """Damage answers in every way: each must be called what it is."""
    numbers = np.arange(100, 120, dtype=np.float32)
    damaged = {
        "lost": numbers[:-1],
        "doubled": np.append(numbers, numbers[3]),
        "swapped": np.append(numbers, np.float32(7)),
        "reordered": np.concatenate([numbers[10:], numbers[:10]]),
    }
    assert not faults_in(numbers, numbers)
    for what, got in damaged.items():
        assert set(faults_in(got, numbers)) == {what}, what
    another = np.where(numbers == 105, np.float32(7), numbers)
    assert faults_in(another, numbers) == Tally(lost=1, swapped=1)


def rows_of(start: int, count: int) -> Any:
    """Rows that carry the numbers from `start` on."""
    rows = np.zeros((count, WIDTH), np.float32)
    rows[:, 0] = np.arange(start, start + count)
    return rows


def cut(rows: Any, chance: random.Random) -> Iterator[Any]:
    """Pieces of any number of rows, none among them."""
    start = 0
    while start < len(rows):
        size = chance.choice([0, 1, 7, SIZE, chance.randrange(1, LARGEST)])
        yield rows[start : start + size]
        start += size


def ask(predictor: TunedPredictor, rows: Any, chance: random.Random) -> Any:
    """Have rows answered, in one of the ways there are."""
    way = chance.choice(["predict", "predict", "predict", "out", "source", "stream"])
    if way == "out":
        out = np.full((len(rows), 1), -1, np.float32)
        return predictor.predict(rows, out=out)
    if way == "source":
        return predictor.predict(cut(rows, chance))
    if way == "stream":
        return np.concatenate(list(predictor.stream(cut(rows, chance))))
    return predictor.predict(rows)


def calls(rows: int, chance: random.Random) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each call: as often a handful as thousands."""
    start = 1
    while start <= rows:
        count = min(rows + 1 - start, int(LARGEST ** chance.random()))
        yield start, count
        start += count


def crowd(predictor: TunedPredictor, rows: int, seed: int) -> Tally:
    """Let the threads ask for all rows, and return what was wrong."""
    wanted = list(calls(rows, random.Random(seed)))  # noqa: S311
    random.Random(seed).shuffle(wanted)  # noqa: S311
    waiting, tally, lock = collections.deque(wanted), Tally(), threading.Lock()

    def caller(number: int) -> None:
        chance = random.Random(1_000 * seed + number)  # noqa: S311
        while waiting:
            try:
                start, count = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                got = ask(predictor, rows_of(start, count), chance)
                wrong = faults_in(got[:, 0], rows_of(start, count)[:, 0])
            except Exception as error:
                wrong = Tally({f"{type(error).__name__}: {error}"[:100]: 1})
            with lock:
                tally.update({"calls": 1}), tally.update(wrong)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


@dataclass(frozen=True, slots=True)
class Case:
    """An engine, and how many batches are in flight."""

    name: str
    make: Callable[[], engines.Engine]
    flights: int = 1


def real(name: str) -> engines.Engine:
    """An engine over a real model."""
    return engines.build(name, numbering(), rows_of(0, 1))


CASES = [
    Case("fake", lambda: Echo(thread_safe=True, compiles_per_shape=False)),
    Case("fake, one call at a time", lambda: Echo(thread_safe=False, compiles_per_shape=True), 2),
    Case("keras", lambda: real("keras")),
    Case("compiled", lambda: real("compiled"), 2),
]


def campaign(case: Case, rows: int, seed: int) -> bool:
    """Run a crowd, print a line, and return whether all was right."""
    engine = Short(case.make(), rows, seed)
    candidate = Candidate(SIZE, concurrency=case.flights)
    predictor = sharing(numbering(), candidate, engine, rows_of(0, 1))
    before = predictor.stats
    start = time.perf_counter()
    tally = crowd(predictor, rows, seed)
    seconds, stats = time.perf_counter() - start, predictor.stats
    times = engine.times_run[1:]
    if engine.compiles_per_shape:  # rows that fill a batch are run as well
        times = np.minimum(times, 1)
    tally["not run once"] = int(np.count_nonzero(times != 1))
    count = tally.pop("calls")
    faults = sum(tally.values()) + abs(stats.rows - before.rows - rows)
    print(
        f"{case.name:26}{case.flights:8}{rows:10}{count:8}{engine.shortages:10}"
        f"{stats.steps_down:7}{stats.steps_up:6}{stats.batch_size:6}{faults:8}{seconds:9.1f}",
        flush=True,
    )
    for what, how_often in (+tally).items():
        print(f"    {how_often} times: {what}")
    return not faults and stats.steps_down > 0 and stats.steps_up > 0


def main() -> None:
    """Run the campaigns, and fail where a row went wrong or the batch size never changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help=f"{SHORT_ROWS} rows a line")
    chosen = parser.parse_args()
    faulthandler.dump_traceback_later(STUCK_S, exit=True)
    logging.getLogger("autotune").setLevel(logging.ERROR)
    prove_detectors()
    print(
        f"{'engine':26}{'flights':>8}{'rows':>10}{'calls':>8}{'shortages':>10}{'down':>7}{'up':>6}"
        f"{'size':>6}{'faults':>8}{'seconds':>9}"
    )
    rows = SHORT_ROWS if chosen.short else ROWS
    good = [campaign(case, rows, chosen.seed) for case in CASES]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
