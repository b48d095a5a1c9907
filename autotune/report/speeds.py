"""For people: the speed of each batch size and lane, as far as a terminal is wide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autotune.curves import LaneCurve, Point, best_of, curves_of, worth_of
from autotune.records import TuningRecord
from autotune.report.words import printable
from autotune.units import format_rate, format_seconds

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

GAP = 2
SIZE, OTHERS = "batch size", "also tried, each at its best"
NARROW = 60  # columns: in fewer a table would have no room for names


class Speeds:
    """A row a batch size, a column a lane; of those that do not fit, a line each with their best.

    Where not all fit, the lane of the answer is a column, and those that are worth most within the
    limits. A rich renderable.

    Args:
        record: What was found.
    """

    def __init__(self, record: TuningRecord) -> None:
        self._curves = curves_of(record)
        self._goal = record.goal
        self._chosen = record.recommendation.candidate if record.recommendation else None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the tables."""
        columns = self._fitting(options.max_width)
        yield self._by_size(columns)
        others = [curve for curve in self._ranked() if curve not in columns]
        if others:
            yield ""
            rows = [self._told(curve) for curve in others]
            yield _lines(rows) if options.max_width < NARROW else _at_their_best(rows)

    def _ranked(self) -> list[LaneCurve]:
        """The answer's lane, then those that are worth most."""

        def rank(curve: LaneCurve) -> tuple[bool, bool, float]:
            is_chosen = any(point.candidate == self._chosen for point in curve.points)
            best = best_of(curve, self._goal)
            return is_chosen, *(worth_of(best, self._goal) if best else (False, -math.inf))

        return sorted(self._curves, key=rank, reverse=True)

    def _fitting(self, width: int) -> list[LaneCurve]:
        """The lanes that are columns, in the order in which they were tried."""
        left, found = width - len(SIZE), list[LaneCurve]()
        for curve in self._ranked():
            left -= GAP + self._width_of(curve)
            if found and left < 0:
                break
            found.append(curve)
        return [curve for curve in self._curves if curve in found]

    def _width_of(self, curve: LaneCurve) -> int:
        cells = [self._cell(point)[0] for point in curve.points]
        return max(map(len, [*cells, *printable(curve.name).split()]))

    def _by_size(self, columns: Sequence[LaneCurve]) -> Table:
        from rich.text import Text

        table = _table()
        table.add_column(SIZE, justify="right")
        for curve in columns:
            name, width = Text(printable(curve.name)), self._width_of(curve)
            table.add_column(name, justify="right", min_width=width)
        points = [{point.candidate.batch_size: point for point in c.points} for c in columns]
        for size in sorted(set().union(*points)):
            cells = [self._cell(of_lane.get(size)) for of_lane in points]
            texts = (Text(text, style="bold" * is_chosen) for text, is_chosen in cells)
            table.add_row(str(size), *texts)
        return table

    def _cell(self, point: Point | None) -> tuple[str, bool]:
        """What is said of a candidate, and whether it is the answer."""
        if point is None:
            return "", False
        text = point.outcome.replace("_", " ")
        if point.rows_per_s is not None:
            text = format_rate(point.rows_per_s)
        is_chosen = point.candidate == self._chosen
        return f"> {text}" if is_chosen else text, is_chosen

    def _told(self, curve: LaneCurve) -> tuple[str, str, str, str]:
        """A lane at its best: its name, the batch size, the speed, the latency."""
        best = best_of(curve, self._goal) or curve.points[0]
        latency = "" if best.latency_s is None else format_seconds(best.latency_s)
        over = f" (over the limit of {' and '.join(best.over)})" if best.over else ""
        size, speed = str(best.candidate.batch_size), self._cell(best)[0]
        return printable(curve.name + over), size, speed, latency


def _at_their_best(rows: Sequence[tuple[str, str, str, str]]) -> Table:
    from rich.text import Text

    table = _table()
    table.add_column(OTHERS)
    for name in (SIZE, "speed", "latency"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, *figures in rows:
        table.add_row(Text(name), *figures)
    return table


def _lines(rows: Sequence[tuple[str, str, str, str]]) -> Text:
    from rich.text import Text

    lines = [f"{name}: {speed} with {size} rows" for name, size, speed, _ in rows]
    return Text("\n".join([f"{OTHERS}:", *lines]))


def _table() -> Table:
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
