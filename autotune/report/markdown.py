"""Markdown for a pull request: the answer, before and after, the curve, the machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from autotune.curves import LaneCurve, Point, curves_of, leading
from autotune.records import Baseline, Recommendation, TuningRecord
from autotune.report import words
from autotune.report.repeating import command
from autotune.report.text import precision
from autotune.report.words import printable
from autotune.units import format_bytes, format_rate, format_seconds, format_share

MARK = "<!-- keras-autotune report -->"
TIED = 3  # lanes are named

# What Markdown would read as more than text, and what GitHub makes links of. Elsewhere a dot is
# just a dot.
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~!&@$]|:(?=//)|(?<=[wW])\.")
# Mentions, references to issues and names of pictures are found in the text after escapes are gone;
# an invisible space keeps them apart.
_CALLING = re.compile(r"([@#]|\bgh-(?=\d)|:(?=[\w+-]+:))", re.IGNORECASE)


def markdown(record: TuningRecord) -> str:
    """Return what a tuning run found as Markdown, in GitHub's dialect.

    Names from the record are text: they make no link, call nobody and add no line.
    """
    return "\n".join([MARK, *_lines(record), ""])


def prose(text: str, limit: int = 300) -> str:
    """Return text from outside as Markdown that shows it as it is, on one line."""
    return _CALLING.sub("\\1\u200b", _SPECIAL.sub(r"\\\g<0>", printable(text, limit)))


def code(text: str, limit: int = 120) -> str:
    """Return text from outside as Markdown's code, which no bar can cut out of a table."""
    shown = printable(text, limit).replace("|", "\u00a6").strip() or "(no name)"
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence, space = "`" * (longest + 1), " " * (longest > 0)
    return f"{fence}{space}{shown}{space}{fence}"


def _lines(record: TuningRecord) -> Iterator[str]:
    yield f"### autotune: {prose(words.answer(record))}"
    yield ""
    chosen = record.recommendation
    if chosen:
        yield f"Why: {prose(words.why(chosen))}"
        yield ""
        yield from _before_and_after(record, chosen)
    for name, fact in _trust(record):
        yield f"* {name}: {prose(fact)}"
    yield from (f"* Note: {prose(note)}" for note in words.notes(record))
    yield ""
    curves = curves_of(record)
    if curves:
        yield from _folded("Rows per second by batch size", _curve(curves, record))
    yield from _folded("Machine, versions, and how to repeat it", _machine(record))


def _before_and_after(record: TuningRecord, chosen: Recommendation) -> Iterator[str]:
    yield "| | rows/s | 95 % interval | latency of a batch | tuned against it |"
    yield "|---|--:|--:|--:|--:|"
    gains = words.gains(record)
    for baseline in record.baselines:
        size = words.counted(baseline.candidate.batch_size, "row")
        name = f"{words.baseline_name(baseline.candidate)}, {size}"
        yield _way(code(name), baseline, gains.get(baseline.candidate, ""))
    yield _way(f"**tuned**: {code(str(chosen.candidate))}", chosen, "")
    yield ""


def _way(name: str, speed: Baseline | Recommendation, times: str) -> str:
    rate, ends = format_rate(speed.rows_per_s), words.interval(speed)
    latency = format_seconds(speed.latency_s)
    gain = f"{times} times" if times else ""
    return f"| {name} | {rate} | {ends} | {latency} | {gain} |"


def _trust(record: TuningRecord) -> Iterator[tuple[str, str]]:
    """How far to trust the answer, and what it costs."""
    chosen = record.recommendation
    if chosen:
        yield "Confidence", words.confidence(chosen)
        tail, at = format_seconds(chosen.latency_quantile_s), format_share(record.goal.quantile)
        yield "Latency", f"{tail} at the {at} quantile"
        if chosen.peak_bytes:
            limit = record.memory_limit_bytes
            allowed = f" of {format_bytes(limit)}" if limit else ""
            yield "Memory", f"{format_bytes(chosen.peak_bytes)} at the peak{allowed}"
        if chosen.tied:
            yield "Not told apart from", words.listed(chosen.tied, TIED)
    if note := precision(record):
        yield "Precision", note
    yield "Effort", words.effort(record)


def _curve(curves: Sequence[LaneCurve], record: TuningRecord) -> Iterator[str]:
    """A row a batch size, a column the best lane of an engine."""
    best = leading(curves, record)
    yield "| rows in a batch | " + " | ".join(code(curve.name) for curve in best) + " |"
    yield "|--:|" + "--:|" * len(best)
    chosen = record.recommendation and record.recommendation.candidate
    columns = [{point.candidate.batch_size: point for point in curve.points} for curve in best]
    for size in sorted({size for column in columns for size in column}):
        cells = (_cell(column.get(size), chosen) for column in columns)
        yield f"| {size:,} | {' | '.join(cells)} |"
    others = len(curves) - len(best)
    if others:
        yield ""
        lanes = words.counted(others, "lane")
        yield f"Tried besides: {lanes} with other numbers of batches in flight or threads."


def _cell(point: Point | None, chosen: object) -> str:
    if point is None:
        return ""
    if point.rows_per_s is None:
        return point.outcome.replace("_", " ")
    text = format_rate(point.rows_per_s)
    return f"**{text}**" if point.candidate == chosen else text


def _machine(record: TuningRecord) -> Iterator[str]:
    model, machine = record.model, record.machine
    if model:
        yield f"* Model: {code(model.name)} on {code(model.backend)}, SHA-256 {code(model.sha256)}"
    if machine:
        memory = format_bytes(machine.device_memory_bytes or machine.memory_bytes)
        yield f"* Machine: {code(machine.device)}, {machine.cpu_count} processors, {memory}"
        versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
        yield f"* Versions: {prose(versions, 2_000)}"
    if record.created:
        yield f"* Tuned: {prose(record.created)}"
    yield f"* Again: {code(command(record), 1000)}"


def _folded(title: str, lines: Iterator[str]) -> list[str]:
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>", ""]
