"""Predictors that double rows which carry their numbers, and pieces of such rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from autotune import Candidate, TunedPredictor
from tests.batchers import doubler, record_of


def doubling(concurrency: int = 1) -> TunedPredictor:
    """A predictor that doubles its rows in batches of 16."""
    candidate, model = Candidate(16, "compiled", concurrency=concurrency), doubler()
    return TunedPredictor(record_of(candidate), lambda: model, model.save)


def cut_at(rows: Any, counts: list[int]) -> Iterator[Any]:
    """Pieces of so many rows."""
    for start, end in itertools.pairwise(itertools.accumulate([0, *counts])):
        yield rows[start:end]
