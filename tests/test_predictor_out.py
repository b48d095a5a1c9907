"""Arrays for the outputs, and a bar that tells how far they are."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import Candidate, InvalidSample, TunedPredictor
from tests.batchers import numbered
from tests.doubling import cut_at, doubling
from tests.test_mapped import linux, resident_kib
from tests.test_predictor import assert_same, predictor_of


@pytest.fixture(scope="module")
def predictors() -> dict[int, TunedPredictor]:
    """One for each number of batches in flight."""
    return {n: doubling(n) for n in (1, 2, 3)}


# Arrays for the outputs


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 16, 17, 50])
def test_outputs_are_written_where_the_caller_wants(
    predictors: dict[int, TunedPredictor], concurrency: int, count: int
) -> None:
    """`out` is filled and comes back, also with another dtype of the same kind."""
    rows = numbered(0, count)
    for dtype in (np.float32, np.float64, np.float16):
        out = np.full((count, 3), -1, dtype)
        assert predictors[concurrency].predict(rows, out=out) is out
        np.testing.assert_array_equal(out, 2 * rows)


def test_nested_outputs_are_written_to_nested_arrays(two_by_two: Any) -> None:
    """A model with two outputs takes two arrays, nested as the outputs are."""
    rng = np.random.default_rng(1)
    x = {"a": rng.random((21, 4), np.float32), "b": rng.random((21, 3), np.float32)}
    out = {"score": np.empty((21, 1), np.float32), "label": np.empty((21, 5), np.float32)}
    assert predictor_of(two_by_two, Candidate(8)).predict(x, out=out) is out
    assert_same(out, two_by_two.predict(x, verbose=0))


@linux
@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_memmap_goes_into_a_memmap(
    predictors: dict[int, TunedPredictor], concurrency: int, tmp_path: Path
) -> None:
    """What was read and written leaves this process's memory, and is in the file."""
    numbered(0, 2000).tofile(tmp_path / "in")
    x = np.memmap(tmp_path / "in", np.float32, "r", shape=(2000, 3))
    out = np.memmap(tmp_path / "out", np.float32, "w+", shape=(2000, 3))
    assert predictors[concurrency].predict(x, out=out) is out
    assert resident_kib(tmp_path / "in") <= 8
    assert resident_kib(tmp_path / "out") <= 8
    del out
    found = np.fromfile(tmp_path / "out", np.float32).reshape(2000, 3)
    np.testing.assert_array_equal(found, 2 * numbered(0, 2000))


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (np.zeros((49, 3), np.float32), r"input has 50 rows, but out has shape \(49, 3\)"),
        ([np.zeros((51, 3), np.float32)], r"input has 50 rows, but out has shape \(51, 3\)"),
        (5.0, r"input has 50 rows, but out has shape \(\)"),
    ],
)
def test_out_with_other_rows_is_refused_before_anything_runs(out: Any, words: str) -> None:
    """The message has both; no batch was run."""
    predictor = doubling()
    with pytest.raises(InvalidSample, match=words):
        predictor.predict(numbered(0, 50), out=out)
    assert predictor.stats.batches == 0


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (np.zeros((50, 3), np.int32), r"The output is float32\(50, 3\), but out is int32"),
        (np.zeros((50, 1), np.float32), r"but out is float32\(50, 1\)"),
        ({"y": np.zeros((50, 3), np.float32)}, "nested as"),
    ],
)
def test_out_that_cannot_hold_the_outputs_is_refused(
    predictors: dict[int, TunedPredictor], out: Any, words: str
) -> None:
    """Another kind of dtype, shape or nesting: the message has what came and what is wanted."""
    for predictor in predictors.values():
        for x in (numbered(0, 50), iter([numbered(0, 50)])):
            with pytest.raises(InvalidSample, match=words):
                predictor.predict(x, out=out)


# Progress


@linux
@pytest.mark.parametrize("concurrency", [1, 2])
def test_progress_is_a_bar_on_a_terminal(
    predictors: dict[int, TunedPredictor], concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts rows up to all of them, where their number is known, and leaves no line behind."""
    monkeypatch.setenv("TERM", "xterm")
    predictor, rows = predictors[concurrency], numbered(0, 50)
    asks: list[tuple[Callable[[], Any], str]] = [
        (lambda: predictor.predict(rows, progress=True), "50/50"),
        (lambda: predictor.predict(cut_at(rows, [20, 30]), progress=True), "50/?"),
        (lambda: [*predictor.stream(cut_at(rows, [20, 0, 30]), progress=True)], "50/?"),
        (lambda: predictor.predict(rows[:0], progress=True), "0/0"),
    ]
    for ask, words in asks:
        answer, text = on_terminal(monkeypatch, ask)
        assert sum(map(len, answer if isinstance(answer, list) else [answer])) in (0, 50)
        assert words in text
        assert text.rstrip().endswith("\x1b[2K")  # the line is erased


def on_terminal(monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Any]) -> tuple[Any, str]:
    """Return what a call returns, and what it wrote to standard error, a terminal."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        answer = ask()
    text = b""
    with contextlib.suppress(OSError):  # once all is read
        while True:
            text += os.read(ours, 2**16)
    os.close(ours)
    return answer, text.decode()


def test_progress_is_silent_elsewhere(
    predictors: dict[int, TunedPredictor], capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written to a file or a pipe, nor without being asked for."""
    rows = numbered(0, 50)
    for predictor in predictors.values():
        assert_same(predictor.predict(rows, progress=True), 2 * rows)
        predictor.predict(rows)
    assert "rows" not in capfd.readouterr().err
