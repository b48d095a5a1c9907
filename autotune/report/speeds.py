"""For people: the speed of each batch size and lane, as far as a terminal is wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autotune.curves import LaneCurve, Point, curves_of
from autotune.records import TuningRecord
from autotune.report.words import printable
from autotune.units import format_rate, format_seconds

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

GAP = 2
SIZE = "batch size"


class Speeds:
    """A row a batch size, a column a lane; of those that do not fit, a line each with their best.

    Where not all fit, the lane of the answer is a column, and of the others the fastest are. A rich
    renderable.

    Args:
        record: What was found.
    """

    def __init__(self, record: TuningRecord) -> None:
        self._curves = curves_of(record)
        self._chosen = record.recommendation.candidate if record.recommendation else None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the tables."""
        columns = self._fitting(options.max_width)
        yield self._by_size(columns)
        others = [curve for curve in self._ranked() if curve not in columns]
        if others:
            yield ""
            yield self._at_their_best(others)

    def _ranked(self) -> list[LaneCurve]:
        """The answer's lane, then the fastest first."""

        def rank(curve: LaneCurve) -> tuple[bool, float]:
            is_chosen = any(point.candidate == self._chosen for point in curve.points)
            return not is_chosen, -(_best(curve).rows_per_s or 0.0)

        return sorted(self._curves, key=rank)

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

    def _at_their_best(self, curves: Sequence[LaneCurve]) -> Table:
        from rich.text import Text

        table = _table()
        table.add_column("also tried, each at its best")
        for name in (SIZE, "speed", "latency"):
            table.add_column(name, justify="right")
        for curve in curves:
            best = _best(curve)
            latency = "" if best.latency_s is None else format_seconds(best.latency_s)
            size, speed = str(best.candidate.batch_size), self._cell(best)[0]
            table.add_row(Text(printable(curve.name)), size, speed, latency)
        return table


def _table() -> Table:
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))


def _best(curve: LaneCurve) -> Point:
    """The fastest point; where none was measured, the first."""
    return max(curve.points, key=lambda point: point.rows_per_s or 0.0)
