"""What stands on the page beside the charts: the answer, how far to trust it, tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from autotune.curves import LaneCurve, Point, curves_of, lane_name
from autotune.records import Recommendation, TuningRecord
from autotune.report import words
from autotune.report.repeating import MODEL, SAMPLE, command
from autotune.report.series import described
from autotune.report.text import precision
from autotune.units import format_bytes, format_rate, format_seconds, format_share

TIED = 3  # lanes are named
SPEED = 3  # number of the column by which the table is sorted at first
COLUMNS = (
    *("batch size", "lane", "outcome", "rows/s", "95 % interval", "median", "quantile"),
    *("peak", "forecast", "calls", "disturbed"),
)
TEXTS = ("lane", "outcome")  # the other columns are numbers


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the table.

    Attributes:
        text: What it shows.
        value: What it is sorted by; "" comes last.
        number: Whether it is a number, which stands at the right.
        badge: A word that sets it apart.
        more: What is known beside it.
    """

    text: str
    value: str | float
    number: bool = True
    badge: str = ""
    more: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure that the page begins with."""

    label: str
    value: str
    unit: str = ""
    note: str = ""


def facts(record: TuningRecord) -> dict[str, Any]:
    """Return what the page says in words."""
    model, chosen = record.model, record.recommendation
    return {
        "subject": f"{model.name} on {model.backend}" if model else "a model",
        "answer": words.answer(record),
        "reason": words.why(chosen) if chosen else "",
        "confidence": chosen.confidence if chosen else "",
        "tiles": list(_tiles(record, chosen)) if chosen else [],
        "trust": list(_trust(record)),
        "notes": words.notes(record),
        "machine": list(_machine(record)),
        "created": record.created,
        "command": command(record),
        "command_hint": _hint(record),
    }


def _tiles(record: TuningRecord, chosen: Recommendation) -> Iterator[Tile]:
    size, _, rows = words.counted(chosen.batch_size, "row").partition(" ")
    yield Tile("Batch size", size, rows, lane_name(chosen.candidate))
    ends = words.interval(chosen).replace(" rows/s", "")
    note = f"95 % interval {ends}" if ends else "timed too seldom for an interval"
    yield _tile("Speed", format_rate(chosen.rows_per_s), note)
    gains = [(times, words.baseline_name(b)) for b, times in words.gains(record).items()]
    if gains:
        (times, name), others = gains[-1], gains[:-1]
        note = ", ".join([f"as {name}", *(f"{t} as {n}" for t, n in others)])
        yield Tile("Times as fast", times, "", note)
    tail, at = format_seconds(chosen.latency_quantile_s), format_share(record.goal.quantile)
    note = f"{tail} at {at}"
    if record.goal.latency_budget_s is not None:
        note += f", budget {format_seconds(record.goal.latency_budget_s)}"
    yield _tile("Latency of a batch", format_seconds(chosen.latency_s), note)
    if chosen.peak_bytes:
        limit = record.memory_limit_bytes
        note = f"at the peak, of {format_bytes(limit)}" if limit else "at the peak"
        yield _tile("Memory", format_bytes(chosen.peak_bytes), note)


def _tile(label: str, quantity: str, note: str) -> Tile:
    value, _, unit = quantity.partition(" ")
    return Tile(label, value, unit, note)


def _trust(record: TuningRecord) -> Iterator[tuple[str, str]]:
    chosen = record.recommendation
    if chosen:
        yield "Confidence", words.confidence(chosen)
        ends = words.interval(chosen)
        yield "Speed, 95 % interval", ends or "none: it was timed in fewer than three blocks"
        tied = words.listed(chosen.tied, TIED)
        yield "Not told apart from", tied or f"none: {_apart(record, chosen)}"
    if note := precision(record):
        yield "Precision", note
    yield "Effort", words.effort(record)


def _apart(record: TuningRecord, chosen: Recommendation) -> str:
    """Why there are no ties."""
    points = [point for curve in curves_of(record) for point in curve.points]
    allowed = [point for point in points if point.is_measured and not point.over]
    if all(point.candidate == chosen.candidate for point in allowed):
        return "no other is within the limits"
    share = format_share(record.goal.tolerance)
    return f"every other within the limits was worse by more than {share}"


def _machine(record: TuningRecord) -> Iterator[tuple[str, str]]:
    model, machine = record.model, record.machine
    if model:
        yield "Model", f"{model.name}, {model.parameters:,} weights, {model.dtype_policy}"
        inputs = (
            f"{i.name} (rows, {', '.join(map(_axis, i.shape))}) {i.dtype}" for i in model.inputs
        )
        yield "Inputs", "; ".join(inputs)
        yield "SHA-256", model.sha256
        yield "Backend", model.backend
    if record.sample_rows:
        yield "Sample", f"{record.sample_rows:,} rows"
    if machine:
        yield "Device", machine.device
        quota = "" if machine.cpu_quota is None else f", a quota of {machine.cpu_quota:g}"
        yield "Processor", f"{machine.cpu}, {machine.cpu_count} to be used{quota}"
        yield "Memory", format_bytes(machine.memory_bytes)
        if machine.device_memory_bytes:
            yield "Memory of the device", format_bytes(machine.device_memory_bytes)
        yield "System", machine.system
        yield "Versions", ", ".join(f"{name} {text}" for name, text in machine.versions.items())


def _axis(length: int | None) -> str:
    return "free" if length is None else str(length)


def _hint(record: TuningRecord) -> str:
    if record.model is None or record.model.source == "object":
        return f"{MODEL} stands for the model, and {SAMPLE} for the sample: save both first."
    return f"{SAMPLE} stands for the sample, whose file the record does not know."


def candidates(record: TuningRecord) -> dict[str, Any]:
    """Return the table of all candidates, the fastest first."""
    points = [(curve, point) for curve in curves_of(record) for point in curve.points]
    points.sort(key=lambda pair: pair[1].rows_per_s or 0.0, reverse=True)
    at = format_share(record.goal.quantile)
    names = [f"at {at}" if name == "quantile" else name for name in COLUMNS]
    return {
        "columns": [{"name": n, "number": n not in TEXTS} for n in names],
        "sorted_by": SPEED,
        "rows": [_line(curve, point, record.recommendation) for curve, point in points],
    }


def _line(curve: LaneCurve, point: Point, chosen: Recommendation | None) -> dict[str, Any]:
    text, candidate = described(point), point.candidate
    is_chosen = chosen is not None and candidate == chosen.candidate
    badge = "chosen" if is_chosen else ""
    if chosen is not None and candidate in chosen.tied:
        badge = "tied"
    more = "; ".join(
        [text["message"]] * bool(text["message"]) + [f"over the {o} limit" for o in point.over]
    )
    values = {
        "speed": point.rows_per_s,
        "interval": point.rows_per_s_low,
        "median_text": point.latency_s,
        "tail_text": point.latency_quantile_s,
        "peak_text": point.peak_bytes,
        "bound_text": point.forecast_bytes,
    }
    cells = [
        Cell(f"{candidate.batch_size:,}", candidate.batch_size, badge=badge),
        Cell(curve.name, curve.name, number=False),
        Cell(text["outcome"], text["outcome"], number=False, more=more),
        *(Cell(_short(text[name]), "" if v is None else v) for name, v in values.items()),
        Cell(f"{point.calls:,}" if point.calls else "", point.calls or ""),
        Cell(
            f"{point.disturbed:.0%}" if point.calls else "", point.disturbed if point.calls else ""
        ),
    ]
    return {"chosen": is_chosen, "cells": cells}


def _short(text: str) -> str:
    """A figure without the unit that its column has."""
    return text.replace(" rows/s", "")
