"""CSV: everything that was measured, one line a probe, for a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from autotune.handover.order import Order
from autotune.judging import latency_quantile_s
from autotune.outcomes import Measurement, Outcome
from autotune.records import TuningRecord
from autotune.report import printable
from autotune.serving import ServingLimits

COLUMNS = (
    *("batch_size", "engine", "concurrency", "threads", "purpose", "outcome", "calls"),
    *("rows_per_s", "latency_median_s", "latency_quantile_s", "quantile"),
    *("peak_bytes", "disturbed_calls", "recommended", "message"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of one


def write(order: Order, folder: Path) -> ServingLimits:
    """Write `curve.csv`."""
    with (folder / "curve.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_lines(order.record))
    return order.limits()


def _lines(record: TuningRecord) -> Iterator[list[object]]:
    purposes = [a_round.purpose for a_round in record.rounds for _ in range(a_round.outcomes)]
    purposes += ["search"] * (len(record.outcomes) - len(purposes))
    chosen = record.recommendation.candidate if record.recommendation else None
    for outcome, purpose in zip(record.outcomes, purposes, strict=True):
        way = outcome.candidate
        yield [
            *(way.batch_size, cell(way.engine), way.concurrency, way.threads, purpose),
            *_figures(outcome, record.goal.quantile),
            way == chosen,
            "" if isinstance(outcome, Measurement) else cell(outcome.message),
        ]


def _figures(outcome: Outcome, quantile: float) -> list[object]:
    if not isinstance(outcome, Measurement):
        kind = getattr(outcome, "kind", "out_of_memory")
        return [kind, *[None] * 7]
    return [
        *("measured", len(outcome.times_s), outcome.rows_per_s, outcome.latency_s),
        *(latency_quantile_s(outcome, quantile), quantile),
        *(outcome.peak_bytes, outcome.disturbed),
    ]


def cell(text: str) -> str:
    """Return text that no spreadsheet runs as a formula.

    Example:
        >>> cell("=cmd|calc"), cell("keras")
        ("'=cmd|calc", 'keras')
    """
    plain = printable(text)
    return f"'{plain}" if text.startswith(_FORMULA) or plain.startswith(_FORMULA) else plain
