"""The MicroBatcher: each caller's own answers, and batches as full as they can be."""

from __future__ import annotations

import asyncio
import math
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune import Candidate, InvalidInput, InvalidSample, MicroBatcher, TunedPredictor
from autotune.answers import Rows, join
from autotune.scheduling import MOST_BATCHES
from tests.batchers import (
    answer_queued,
    behind_door,
    doubler,
    numbered,
    record_of,
    serve,
    timed,
    together,
)

SERVING = Path(__file__).parents[1] / "docs" / "serving.md"
MODEL = doubler()


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    batch_size=st.integers(1, 16),
    flights=st.integers(1, 3),
    wait_s=st.sampled_from([None, 0.0, 0.002]),
)
def test_each_request_has_its_own_rows_in_their_order(
    sizes: list[int], batch_size: int, flights: int, wait_s: float | None
) -> None:
    """For any sizes of requests and batches no row is lost, doubled, swapped or reordered."""
    candidate = Candidate(batch_size, "compiled", concurrency=flights)
    watched, batcher = serve(candidate, model=MODEL, max_wait_s=wait_s)
    starts = np.cumsum([0, *sizes]).tolist()
    with batcher:
        futures = [batcher.submit(numbered(*each)) for each in zip(starts, sizes, strict=False)]
        for future, start, size in zip(futures, starts, sizes, strict=False):
            np.testing.assert_array_equal(future.result(60), 2 * numbered(start, size))
    ran = [number for batch in watched.batches for number in batch]
    assert sorted(ran) == list(range(starts[-1]))
    together = batch_size * (MOST_BATCHES if wait_s is None else 1)
    assert all(len(batch) <= max(together, *sizes) for batch in watched.batches)
    figures = batcher.figures
    assert (figures.requests, figures.answered) == (len(sizes), len(sizes))
    assert figures.rows == starts[-1] == figures.batch_rows.total
    assert figures.batches == len(watched.batches) == figures.batch_rows.count
    assert (figures.queue_rows, figures.flying_rows) == (0, 0)


def test_threads_get_their_own_answers() -> None:
    """Sixteen threads with requests of mixed sizes each get the rows that they sent."""
    _, batcher = serve(Candidate(16, "compiled", concurrency=2))

    def call(thread: int) -> None:
        rng = np.random.default_rng(thread)
        for turn in range(40):
            rows = numbered(10_000 * thread + 20 * turn, int(rng.integers(1, 21)))
            np.testing.assert_array_equal(batcher.submit(rows).result(60), 2 * rows)

    with batcher:
        together(call, range(16))
    assert batcher.figures.answered == 16 * 40


def test_tasks_of_several_loops_get_their_own_answers() -> None:
    """Tasks of two event loops, on two threads, share batches and get what is theirs."""
    _, batcher = serve(Candidate(16, "compiled"))

    async def call(number: int) -> None:
        rows = numbered(number, 1 + number % 3)
        np.testing.assert_array_equal(await batcher.abatch(rows), 2 * rows)

    async def calls(first: int) -> None:
        await asyncio.gather(*(call(first + 3 * n) for n in range(100)))

    with batcher:
        together(lambda first: asyncio.run(calls(first)), (0, 1_000))
    assert batcher.figures.answered == 200


def test_waiting_rows_fill_batches_in_order() -> None:
    """What comes while the model is busy is run in full batches, first come first served."""
    watched, batcher = serve(Candidate(4))
    with batcher:
        answer_queued(watched, batcher, 10)
    assert watched.batches[1:] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_batch_starts_when_it_is_full() -> None:
    """With a wait of an hour a full batch is answered; the rest is, on closing."""
    watched, batcher = serve(Candidate(4), max_wait_s=3600)
    with batcher:
        futures = [batcher.submit(numbered(n)) for n in range(6)]
        for future in futures[:4]:
            future.result(60)
        assert not futures[4].done()
    assert all(future.done() for future in futures)
    assert watched.batches == [[0, 1, 2, 3], [4, 5]]


def test_a_batch_that_is_not_full_starts_after_the_wait() -> None:
    """With nobody else to come, a request is answered after max_wait_s."""
    watched, batcher = serve(Candidate(1_000), max_wait_s=0.05)
    with batcher:
        batcher.submit(numbered(7)).result(60)
    assert watched.batches == [[7]]
    assert batcher.figures.wait_s.total >= 0.05


def test_a_lone_caller_never_waits() -> None:
    """With a chosen wait of an hour a caller without company is answered at once."""
    record = record_of(Candidate(64), call_s=3600)
    _, batcher = serve(Candidate(64), record=record)
    assert batcher.max_wait_s == 3600
    with batcher:
        for number in range(20):
            batcher.submit(numbered(number)).result(60)
    assert batcher.figures.batch_rows.mean == 1


def test_a_crowd_that_comes_back_is_served_together() -> None:
    """With a chosen wait of an hour callers who come back are waited for: all in each batch."""
    watched, batcher = serve(Candidate(64), record=record_of(Candidate(64), call_s=3600))
    with batcher:
        (flying,) = behind_door(watched, batcher)
        waiting = [batcher.submit(numbered(n)) for n in range(7)]
        watched.door.set()
        flying.result(60)
        for _ in range(4):
            waiting.append(batcher.submit(numbered(99)))  # the last of the eight
            for future in waiting:
                future.result(60)
            waiting = [batcher.submit(numbered(n)) for n in range(7)]
    assert [len(batch) for batch in watched.batches] == [1, 8, 8, 8, 8, 7]


def test_a_crowd_that_went_home_is_soon_forgotten() -> None:
    """Once a wait was in vain, those who are left are served without one."""
    watched, batcher = serve(Candidate(64), record=record_of(Candidate(64), call_s=1.0))
    with batcher:
        behind_door(watched, batcher)
        crowd = [batcher.submit(numbered(n)) for n in range(20)]
        watched.door.set()
        for future in crowd:
            future.result(60)
        for number in range(50):
            batcher.submit(numbered(number)).result(60)
    waited = sum(batcher.figures.wait_s.counts[12:])  # more than half a second
    assert waited <= len(crowd) + 1


def test_workers_share_what_waits() -> None:
    """Where two batches may be in flight, the one that is free first does not take all."""
    watched, batcher = serve(Candidate(64, concurrency=2))
    with batcher:
        answer_queued(watched, batcher, 18)
    assert watched.ran == {*range(18), 900, 901}
    assert max(len(batch) for batch in watched.batches) < 18


def test_workers_do_not_share_what_takes_next_to_no_time() -> None:
    """Rows of a microsecond each that wait are one batch, though two may be in flight."""
    way = Candidate(64, concurrency=2)
    watched, batcher = serve(way, record=record_of(way, call_s=64e-6))
    with batcher:
        answer_queued(watched, batcher, 18)
    assert [len(batch) for batch in watched.batches] == [1, 1, 18]


@pytest.mark.parametrize("flights", [1, 2])
def test_a_crowd_is_served_several_batches_at_once(flights: int) -> None:
    """Short batches are taken together, one such load for each worker and one that waits.

    At first 48 rows wait, and a row is in flight on each worker; only full batches are taken.
    """
    watched, batcher = serve(Candidate(4, concurrency=flights))
    with batcher:
        behind_door(watched, batcher)
        futures = [batcher.submit(numbered(n)) for n in range(48)]
        watched.door.set()
        for number, future in enumerate(futures):
            assert future.result(60).tolist() == (2 * numbered(number)).tolist()
    load = (48 + flights) // (flights + 1) // 4 * 4
    assert len(watched.batches[flights]) == load
    assert max(map(len, watched.batches)) == load
    assert all(len(batch) % 4 == 0 for batch in watched.batches[flights:])
    assert watched.ran == {*range(48), *range(900, 900 + flights)}


def test_no_load_is_taken_where_the_batch_was_wished_for() -> None:
    """With max_batch_size answers come sooner: one batch after the other."""
    watched, batcher = serve(Candidate(8), max_batch_size=4)
    with batcher:
        answer_queued(watched, batcher, 48)
    assert max(map(len, watched.batches)) == 4


def test_a_request_larger_than_a_batch_runs_alone() -> None:
    """Fifty rows in batches of four: one answer of fifty, and nobody shares it."""
    watched, batcher = serve(Candidate(4))
    with batcher:
        behind_door(watched, batcher)
        futures = [batcher.submit(numbered(*each)) for each in ((0, 1), (100, 50), (1, 1))]
        watched.door.set()
        np.testing.assert_array_equal(futures[1].result(60), 2 * numbered(100, 50))
    assert [len(batch) for batch in watched.batches[1:]] == [1, 50, 1]


def test_rows_of_other_shapes_and_dtypes_never_share_a_batch() -> None:
    """Sequences of two lengths and two dtypes are run apart, each right."""
    watched, batcher = serve(Candidate(64), model=doubler((None, 2)))
    kinds = [np.ones((1, 3, 2), "f4"), np.ones((1, 5, 2), "f4"), np.ones((1, 3, 2), "f8")]
    with batcher:
        for kind in kinds:
            batcher.submit(kind).result(60)
        seen = len(watched.batches)
        watched.door.clear()
        watched.at_door.clear()
        held = batcher.submit(kinds[0] * 7)
        assert watched.at_door.wait(60)
        rows = [kinds[n % 3] * n for n in range(30)]
        futures = [batcher.submit(row) for row in rows]
        watched.door.set()
        held.result(60)
        for row, future in zip(rows, futures, strict=True):
            np.testing.assert_array_equal(future.result(60), 2 * row.astype("f4"))
    sharing = [{number % 3 for number in batch} for batch in watched.batches[seen + 1 :]]
    assert sharing
    assert all(len(kinds_of_batch) == 1 for kinds_of_batch in sharing)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "int32", "uint8", "bool", "bfloat16", "U9"]
)
@pytest.mark.parametrize("shape", [(3,), (501,), (20, 30), (0,)])
def test_rows_are_joined_as_they_are(dtype: str, shape: tuple[int, ...]) -> None:
    """Few numbers or many, next to each other or not, what NumPy knows and what it does not."""
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    whole = np.arange(6 * math.prod(shape)).reshape(6, *shape).astype(kind)
    for parts in ((whole[:1], whole[1:3], whole[3:]), (whole[::2], whole[1::2])):
        joined = join([Rows(part) for part in parts])
        np.testing.assert_array_equal(joined, np.concatenate(parts))
        assert joined.dtype == whole.dtype
        assert joined.flags.writeable
        assert not any(np.shares_memory(joined, part) for part in parts)


def test_nested_rows_come_back_nested(two_by_two: Any) -> None:
    """Dicts of two inputs go in and dicts of two outputs come out, each caller's own."""
    _, batcher = serve(Candidate(8, "compiled"), model=two_by_two)
    rng = np.random.default_rng(0)
    x = {"a": rng.random((20, 4), dtype="f4"), "b": rng.random((20, 3), dtype="f4")}
    expected = two_by_two.predict(x, verbose=0)
    with batcher:
        spans = [(n, n + 1 + n % 2) for n in range(0, 18, 2)]
        futures = [batcher.submit({k: v[a:b] for k, v in x.items()}) for a, b in spans]
        for future, (a, b) in zip(futures, spans, strict=True):
            got = future.result(60)
            assert got.keys() == expected.keys()
            for name in expected:
                np.testing.assert_allclose(got[name], expected[name][a:b], rtol=1e-5)


def test_an_answer_is_nobody_elses() -> None:
    """Outputs own their memory: who keeps one keeps no batch, who changes one harms nobody."""
    watched, batcher = serve(Candidate(8))
    with batcher:
        behind_door(watched, batcher)
        futures = [batcher.submit(numbered(n)) for n in range(4)]
        watched.door.set()
        answers = [future.result(60) for future in futures]
    assert all(answer.base is None for answer in answers)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((1, 4), "f4"), r"Input 'x' has shape \(rows, 4\)"),
        (numbered(0)[0], r"Input 'x' has shape .*rows\[None\]"),
        (numbered(0).astype("c8"), "complex64"),
        ([numbered(0), numbered(0)], "has 2 inputs"),
        ({"a": numbered(0), "b": numbered(0, 2)}, "disagree on the number of rows"),
        ([[1.0, 2.0, 3.0]], "not an array"),
        (numbered(0, 0), "no rows"),
    ],
)
def test_rows_that_do_not_fit_are_refused_at_the_door(rows: Any, words: str) -> None:
    """Their own caller gets the error at once, in threads and in loops, and no row is run."""
    _, batcher = serve(Candidate(4), model=MODEL)
    with batcher:
        with pytest.raises(InvalidSample, match=words):
            batcher.submit(rows)
        with pytest.raises(InvalidSample, match=words):
            asyncio.run(batcher.abatch(rows))
        batcher.submit(numbered(1)).result(60)
    assert (batcher.figures.requests, batcher.figures.batches) == (1, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"max_wait_s": -1},
        {"max_wait_s": float("nan")},
        {"max_queue_rows": 0},
        {"max_batch_size": 0},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    """The message names the option and what came, and no thread is left behind."""
    before = threading.active_count()
    with pytest.raises(InvalidInput, match=next(iter(options))):
        serve(Candidate(4), model=MODEL, **options)
    assert threading.active_count() == before


def test_the_pace_comes_from_the_record() -> None:
    """The batcher shows what was read from the curve, or what its maker wished."""
    record = record_of(Candidate(64), call_s=0.064, outcomes=[timed(16, 0.017)])
    _, chosen = serve(Candidate(64), record=record)
    _, wished = serve(Candidate(64), record=record, max_wait_s=0.5, max_queue_rows=3)
    with chosen, wished:
        assert (chosen.batch_size, chosen.max_wait_s, chosen.max_queue_rows) == (64, 0.017, 1000)
        assert (wished.batch_size, wished.max_wait_s, wished.max_queue_rows) == (64, 0.5, 3)


def test_the_examples_of_the_page_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of docs/serving.md runs, in turn."""
    predictor = TunedPredictor(record_of(Candidate(8)), lambda: MODEL, MODEL.save)
    monkeypatch.setattr("autotune.load", lambda _: predictor)
    blocks = re.findall(r"```python\n(.*?)```", SERVING.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    names: dict[str, Any] = {"rows": numbered(0, 20)}
    for block in blocks:
        exec(compile(block, SERVING.name, "exec"), names)  # noqa: S102
    assert isinstance(names["batcher"], MicroBatcher)
