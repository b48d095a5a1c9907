"""The figures of a record as rows for charts: plain numbers, and names that are safe to show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from autotune.curves import Point, curves_of, leading, steps_of
from autotune.records import Baseline, Recommendation, TuningRecord
from autotune.report import words
from autotune.report.words import printable
from autotune.units import format_bytes, format_rate, format_seconds

MIB = 2**20
NAME_LENGTH = 60  # of a lane in a legend
LONGEST_S = 1e9  # that a chart shows

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A lane in a legend.

    Attributes:
        id: What its rows call it.
        engine: Its engine.
        name: The lane in words.
        lead: Whether it is the best of its engine, and so stands for it: in its colour.
    """

    id: str
    engine: str
    name: str
    lead: bool


class Series:
    """All rows that the charts of one record are drawn from.

    Attributes:
        lanes: All lanes: the best of each engine first, the chosen one before all.
        points: A row for each measured candidate, those of the engines' best lanes last, so that
            they are drawn on top.
        failures: A row for each candidate that was not measured.
        probes: A row for each probe, in the order they were made.
        ways: What the answer is compared with, and the answer.
        chosen: The figures that the answer was published with.
    """

    def __init__(self, record: TuningRecord) -> None:
        self.record = record
        curves = curves_of(record)
        best = leading(curves, record)
        number = {curve.lane: f"L{n}" for n, curve in enumerate(curves)}
        self.lanes = [
            Entry(number[curve.lane], curve.engine, printable(curve.name, NAME_LENGTH), lead)
            for lead, some in ((True, best), (False, [c for c in curves if c not in best]))
            for curve in some
        ]
        self._family = {entry.engine: entry.name for entry in self.families}
        self.points: list[Row] = []
        self.failures: list[Row] = []
        entries = {entry.id: entry for entry in self.lanes}
        for curve in curves:
            for point in curve.points:
                of_kind = self.points if point.is_measured else self.failures
                of_kind.append(self._row(entries[number[curve.lane]], point))
        self.points.sort(key=lambda row: row["lead"])
        self.probes = self._probes()
        self.ways = _ways(record)
        self.chosen = _chosen(record)

    @property
    def families(self) -> list[Entry]:
        """The engines, each by its best lane: what has a colour."""
        return [entry for entry in self.lanes if entry.lead]

    def _row(self, entry: Entry, point: Point) -> Row:
        return {
            "lane": entry.id,
            "name": entry.name,
            "family": self._family[entry.engine],
            "lead": entry.lead,
            "size": point.candidate.batch_size,
            "rate": _drawable(point.rows_per_s),
            "low": _drawable(point.rows_per_s_low),
            "high": _drawable(point.rows_per_s_high),
            "median": _drawable(point.latency_s, 1e3),
            "tail": _drawable(point.latency_quantile_s, 1e3),
            "peak": _drawable(point.peak_bytes, 1 / MIB),
            "bound": _drawable(point.forecast_bytes, 1 / MIB),
            **described(point),
        }

    def _probes(self) -> list[Row]:
        return [
            {
                "start": round(min(step.start_s, LONGEST_S), 3),
                "end": round(min(step.start_s + step.elapsed_s, LONGEST_S), 3),
                "size": step.candidate.batch_size,
                "family": self._family.get(step.candidate.engine, ""),  # baselines have none
                "name": printable(str(step.candidate), NAME_LENGTH + 20),
                "purpose": step.purpose,
                "outcome": "disturbed" if step.disturbed else step.outcome.replace("_", " "),
                "state": _state(step.outcome, step.disturbed),
                "speed": format_rate(step.rows_per_s) if step.rows_per_s else "",
            }
            for step in steps_of(self.record)
        ]


def described(point: Point) -> Row:
    """Return a point's figures as text, for tooltips and tables."""
    ends = ""
    if point.rows_per_s_low is not None and point.rows_per_s_high is not None:
        ends = f"{format_rate(point.rows_per_s_low)} to {format_rate(point.rows_per_s_high)}"
    return {
        "speed": format_rate(point.rows_per_s) if point.rows_per_s else "",
        "interval": ends.replace(" rows/s to", " to"),
        "median_text": format_seconds(point.latency_s) if point.latency_s else "",
        "tail_text": format_seconds(point.latency_quantile_s) if point.latency_quantile_s else "",
        "peak_text": format_bytes(point.peak_bytes) if point.peak_bytes else "",
        "bound_text": format_bytes(point.forecast_bytes) if point.forecast_bytes else "",
        "outcome": point.outcome.replace("_", " "),
        "message": printable(point.message, 200),
    }


def _state(outcome: str, disturbed: bool) -> str:
    if outcome != "measured":
        return "failed"
    return "disturbed" if disturbed else "calm"


def _drawable(value: float | None, scale: float = 1.0) -> float | None:
    """A number that a logarithmic axis can show; None for one that it cannot."""
    if value is None or not 0 < value * scale < math.inf:
        return None
    return float(f"{value * scale:.6g}")


def _chosen(record: TuningRecord) -> Row:
    """The answer's own figures, which were measured afresh; empty where there is none."""
    chosen = record.recommendation
    if chosen is None:
        return {}
    return {
        "size": chosen.batch_size,
        "rate": _drawable(chosen.rows_per_s),
        "median": _drawable(chosen.latency_s, 1e3),
        "peak": _drawable(chosen.peak_bytes, 1 / MIB),
    }


def _ways(record: TuningRecord) -> list[Row]:
    chosen = record.recommendation
    if chosen is None:
        return []
    tuned = f"tuned, {chosen.batch_size:,} rows a batch"
    rows = [
        _way(f"{words.baseline_name(b.candidate)}, {b.candidate.batch_size:,} rows", b)
        for b in record.baselines
    ]
    return [*rows, _way(tuned, chosen, tuned=True)] if rows else []


def _way(name: str, speed: Baseline | Recommendation, *, tuned: bool = False) -> Row:
    return {
        "name": name,
        "rate": _drawable(speed.rows_per_s),
        "low": _drawable(speed.rows_per_s_low),
        "high": _drawable(speed.rows_per_s_high),
        "text": format_rate(speed.rows_per_s),
        "tuned": tuned,
    }
