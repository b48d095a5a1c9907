"""What Python takes of a request beside the model: measured for `autotune.service.MEASURED`.

    python -m tests.benchmarks.plan_overhead    # half a minute

Nothing else should run meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, cast
from unittest import mock

import keras
import numpy as np
from msgspec.structs import replace

from autotune import Candidate, MicroBatcher, TunedPredictor
from autotune.engines.onnxruntime import OnnxRuntimeEngine
from autotune.service import MEASURED, Overhead
from tests.batchers import record_of
from tests.benchmarks.batching import digits, poisson, spare_the_collector
from tests.benchmarks.nets import attention, cnn, following, mobilenet, rows_for, unet


class Instant:
    """A predictor that takes no time, with a gate: what is left is the batcher's own time."""

    def __init__(self, batch_size: int) -> None:
        self.record = record_of(Candidate(batch_size))
        self.recommendation = self.record.recommendation
        self.gate = threading.Event()
        self.gate.set()

    def open(self) -> None:
        """Be ready, as it is."""

    def predict(self, x: Any) -> Any:
        """Return ten numbers of each row, when the gate is open."""
        self.gate.wait()
        return x[:, :10]

    predict_in_turn = predict


def instant(batch_size: int, max_wait_s: float) -> tuple[Instant, MicroBatcher]:
    """A batcher over such a predictor."""
    predictor = Instant(batch_size)
    return predictor, MicroBatcher(
        cast(TunedPredictor, predictor), max_wait_s=max_wait_s, max_queue_rows=10**9
    )


ROW = np.zeros((1, 10), np.float32)
WIDE = np.ones((8_192, 784), np.float32)  # more than a processor's cache
FLOODED = 256  # rows of a batch
SERVED, LOAD = 16, 0.3  # the same in a service, and its share of what one thread could run
NETS = [(digits, 8_192), (cnn, 2_048), (attention, 2_048), (mobilenet, 256), (unet, 128)]


class Timed:
    """A predictor whose calls are timed by the clock of the thread that makes them."""

    def __init__(self, predictor: TunedPredictor) -> None:
        self._predictor = predictor
        self.record, self.recommendation = predictor.record, predictor.recommendation
        self.spent_s = 0.0

    def open(self) -> None:
        """Open the predictor."""
        self._predictor.open()

    def predict(self, x: Any) -> Any:
        """Predict; by one thread at a time."""
        start = time.thread_time()
        outputs = self._predictor.predict(x)
        self.spent_s += time.thread_time() - start
        return outputs

    predict_in_turn = predict


def in_flood(predictor: TunedPredictor, rows: Any, batches: int = 400) -> tuple[float, float]:
    """Seconds of the processor for a request of many, while a model runs: to let in, to answer.

    Both take longer than one after the other: the threads take the interpreter's lock from each
    other, and find each other's work in the processors' caches.
    """
    timed, size = Timed(predictor), predictor.recommendation.batch_size
    with MicroBatcher(cast(TunedPredictor, timed), max_wait_s=0.0, max_queue_rows=10**9) as batcher:
        batcher.submit(rows[:1]).result()
        own_s, sent, start_s, model_s = 0.0, 1, others_s(), timed.spent_s
        while sent < batches * size:
            if sent - batcher.figures.answered > 8 * size:
                time.sleep(0.0005)
                continue
            begin = time.thread_time()
            send(batcher, rows, 4 * size)
            own_s += time.thread_time() - begin
            sent += 4 * size
        batcher.submit(rows[:1]).result()
        answer_s = others_s() - start_s - (timed.spent_s - model_s)
    return own_s / sent, answer_s / sent


def others_s() -> float:
    """Seconds of the processor that all threads but this one had."""
    return time.process_time() - time.thread_time()


@contextlib.contextmanager
def calls_timed() -> Iterator[list[float]]:
    """Give the seconds of the processor of each call of an engine from now on."""
    found: list[float] = []
    call = OnnxRuntimeEngine.__call__

    def timed(engine: OnnxRuntimeEngine, batch: Any) -> Any:
        start = time.thread_time()
        outputs = call(engine, batch)
        found.append(time.thread_time() - start)
        return outputs

    with mock.patch.object(OnnxRuntimeEngine, "__call__", timed):
        yield found


def after_pauses_s(model: keras.Model, rows: Any, warm: Overhead, seconds: float = 2.0) -> float:
    """Seconds of the processor for a batch beside the engine's, and beside what a flood tells.

    Where requests come at a third of what would be too many for it, a thread sleeps before nearly
    each batch.
    """
    predictor = following(model, Candidate(SERVED, "onnxruntime", threads=1))
    predictor.predict(rows[:SERVED])
    start = time.perf_counter()
    for _ in range(20):
        predictor.predict(rows[:1])
    rate = LOAD * 20 / (time.perf_counter() - start)
    with MicroBatcher(predictor, max_queue_rows=10**9) as batcher, calls_timed() as calls_s:
        poisson(batcher, rows, rate, 0.3)
        before, start_s, known_s = batcher.figures, others_s(), sum(calls_s)
        poisson(batcher, rows, rate, seconds)
        spent_s, after = others_s() - start_s - sum(calls_s) + known_s, batcher.figures
    batches, count = after.batches - before.batches, after.rows - before.rows
    row_s = warm.answer_s + (warm.byte_s * rows[0].nbytes if count > batches else 0.0)
    return spent_s / batches - warm.batch_s - count / batches * row_s


def let_in_alone_s(requests: int = 20_000) -> float:
    """Seconds of the processor to put a request in the queue, while nobody else computes."""
    _, batcher = instant(10**8, 3600.0)
    start = time.thread_time()
    send(batcher, ROW, requests)
    spent = time.thread_time() - start
    batcher.close(drain=False)
    return spent / requests


def backlog_s(batch_size: int, batches: int, rows: Any = ROW) -> float:
    """Seconds of the processor for a batch out of many that wait."""
    predictor, batcher = instant(batch_size, 0.0)
    batcher.submit(rows[:1]).result()
    predictor.gate.clear()
    held = batcher.submit(rows[:1])
    time.sleep(0.05)
    done = threading.Event()
    send(batcher, rows, batches * batch_size - 1)
    batcher.submit(rows[:1]).add_done_callback(lambda _: done.set())
    start = time.process_time()
    predictor.gate.set()
    done.wait()
    spent = time.process_time() - start
    held.result()
    batcher.close()
    return spent / batches


def alone_s(requests: int = 300) -> float:
    """Seconds from a request to its answer where the thread slept and nothing disturbs."""
    _, batcher = instant(1, 0.0)
    took: list[float] = []
    for _ in range(requests):
        time.sleep(0.0005)
        done = threading.Event()
        start = time.perf_counter()

        def note(_: object, start: float = start, done: threading.Event = done) -> None:
            took.append(time.perf_counter() - start)
            done.set()

        batcher.submit(ROW).add_done_callback(note)
        done.wait()
    batcher.close()
    return float(np.quantile(took, 0.25))


def measure_overhead(rounds: int = 7) -> Overhead:
    """What Python takes here: medians of rounds. So many requests never wait in a service."""
    model = digits()
    images = rows_for(model, len(WIDE))
    predictor = following(model, Candidate(FLOODED, "onnxruntime", threads=1))
    predictor.predict(images[:FLOODED])
    spare_the_collector()
    gc.disable()  # their number is what the collector would take its time for
    found = []
    for _ in range(rounds):
        small, large, wide = backlog_s(1, 2_000), backlog_s(256, 40), backlog_s(256, 40, WIDE)
        batch_s = small - (large - small) / 255
        byte_s = (wide - large) / (256 * WIDE[0].nbytes)
        let_in_s, all_s = in_flood(predictor, images)
        let_in_s -= sender_s(images)
        answer_s = all_s - batch_s / FLOODED - byte_s * images[0].nbytes
        wake_s = max(0.0, alone_s(100) - let_in_alone_s() - small)
        found.append((let_in_s, answer_s, batch_s, wake_s, byte_s))
    let_in, answer, batch, wake, byte = (median(each) for each in zip(*found, strict=True))
    gc.enable()
    warm = Overhead(let_in_s=let_in, answer_s=answer, batch_s=batch, wake_s=wake, byte_s=byte)
    nets = [(make(), count) for make, count in NETS]
    colds = [after_pauses_s(net, rows_for(net, count), warm) for net, count in nets]
    print("cold, by net:", [f"{1e6 * cold:.0f} us" for cold in colds])
    return replace(warm, cold_s=median(colds))


class Nowhere:
    """A batcher, and a future, that have the answer at once: what is left is the sender's time."""

    def submit(self, _: Any) -> Nowhere:
        """Take rows."""
        return self

    def add_done_callback(self, call: Callable[[Any], object]) -> None:
        """Call back at once."""
        call(self)

    def result(self) -> None:
        """Return nothing."""


def with_sender(rows: Any, requests_per_s: float = 20_000.0) -> Overhead:
    """What Python takes for a request that is sent from here: the sender's time is in it.

    The more there are, the less each takes: the sender has no need to sleep.
    """
    nowhere = cast(MicroBatcher, Nowhere())
    start = time.thread_time()
    took, _ = poisson(nowhere, rows, requests_per_s, 1.0)
    own_s = (time.thread_time() - start) / len(took)
    return replace(MEASURED, let_in_s=MEASURED.let_in_s + own_s)


def with_flood(rows: Any) -> Overhead:
    """The same for a sender who never sleeps, and looks at no clock."""
    return replace(MEASURED, let_in_s=MEASURED.let_in_s + sender_s(rows))


def sender_s(rows: Any, requests: int = 200_000) -> float:
    """Seconds of such a sender's own for a request."""
    start = time.thread_time()
    send(cast(MicroBatcher, Nowhere()), rows, requests)
    return (time.thread_time() - start) / requests


def send(batcher: MicroBatcher, rows: Any, requests: int) -> None:
    """Send requests as fast as can be."""
    for index in range(requests):
        batcher.submit(rows[index % len(rows)][None])


if __name__ == "__main__":
    print(measure_overhead())
