"""The live display of a tuning run: what is tried, the best, memory, time, the curve so far.

It is drawn when a probe begins and at no other time, so that drawing disturbs no timing.
"""

from __future__ import annotations

import bisect
import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autotune.confirming import UNSEEN_DRIFT
from autotune.intervals import Speed, speed_from
from autotune.judging import Lane, lane_of, speed_of
from autotune.outcomes import Candidate, Failure, Measurement, Outcome
from autotune.records import Progress
from autotune.report import printable
from autotune.units import format_bytes, format_rate, format_seconds

WIDEST = 100  # characters; longer bars say no more
SIZE_WIDTH, BAR_WIDTH, RATE_WIDTH = 12, 10, 11
LANE_WIDTH = BAR_WIDTH + RATE_WIDTH + 4
FACTS_HEIGHT = 11  # lines besides the curve's rows, when some of them are wrapped
FEWEST_SIZES = 3


class Picture:
    """A tuning run as it stands, for rich to draw; `add` takes in what happens."""

    def __init__(self) -> None:
        self._event: Progress | None = None
        self._tried: dict[Candidate, None] = {}
        self._sides: dict[str, Candidate] = {}  # where two are compared
        self._logs: dict[Candidate | str, list[float]] = {}  # of each block's speed
        self._failed: dict[Candidate | str, str] = {}
        self._peak_bytes: int | None = None

    def add(self, event: Progress) -> None:
        """Take in what `on_event` was told."""
        self._event = event
        outcome = event.outcome
        if outcome is None:
            return
        if event.side:
            self._sides.setdefault(event.side, event.candidate)
        elif event.purpose == "search":  # others may be baselines, which are no part of the curve
            self._tried.setdefault(event.candidate)
        if isinstance(outcome, Failure) and outcome.kind == "stopped":
            return  # by others: it is tried again
        if isinstance(outcome, Measurement):
            self._peak_bytes = outcome.peak_bytes
            logs = self._logs.setdefault(event.side or event.candidate, [])
            logs.append(math.log(speed_of(outcome)))
        else:
            self._failed[event.side or event.candidate] = _trouble(outcome)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it as large as the terminal is."""
        width = min(WIDEST, options.max_width)
        if self._event is None:
            yield Text("loading the model")
            return
        yield Constrain(self._facts(self._event), width)
        if self._tried:
            yield Text()
            yield Constrain(self._curve(width, options.size.height), width)

    def _facts(self, event: Progress) -> Table:
        facts = Table.grid(padding=(0, 2, 0, 0), expand=True)
        facts.add_column(no_wrap=True, style="dim")
        facts.add_column(ratio=1)
        left_s = max(0.0, event.budget_s - event.spent_s)
        time = _bar(event.spent_s, event.budget_s, f"{format_seconds(left_s)} left")
        facts.add_row("time", time)
        if self._peak_bytes:
            facts.add_row("memory", _memory(self._peak_bytes, event.memory_limit_bytes))
        facts.add_row("now", Text(printable(_doing(event))))
        if self._best and (speed := self._speed(self._best)):
            text = f"{_with_interval(speed)} at {self._best}"
            facts.add_row("best", Text(printable(text), style="bold"))
        for side, candidate in sorted(self._sides.items()):
            speed = self._speed(side)
            came = _with_interval(speed) if speed else self._failed.get(side, "")
            facts.add_row(side, Text(printable(f"{came} with {candidate}")))
        return facts

    def _speed(self, key: Candidate | str) -> Speed | None:
        """Rows per second over all blocks of a candidate or side, with an interval from three."""
        logs = self._logs.get(key)
        return speed_from(logs, UNSEEN_DRIFT) if logs and key not in self._failed else None

    def _curve(self, width: int, height: int) -> Table:
        """A row a batch size, a bar for each of the leading lanes, as far as there is room."""
        speeds = {c: speed.rows_per_s for c in self._tried if (speed := self._speed(c))}
        lanes = self._leading(speeds, max(1, (width - SIZE_WIDTH) // LANE_WIDTH))
        there = {(lane_of(c), c.batch_size): c for c in self._tried if lane_of(c) in lanes}
        top = max((speeds.get(candidate, 0.0) for candidate in there.values()), default=0.0)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("batch size", justify="right")
        for lane in lanes:
            name = next(str(c) for c in there.values() if lane_of(c) == lane).partition(", ")[2]
            table.add_column(Text(printable(name)), width=LANE_WIDTH - 2)
        for size in self._sizes_around_best(there, max(FEWEST_SIZES, height - FACTS_HEIGHT)):
            cells = [self._cell(there.get((lane, size)), speeds, top) for lane in lanes]
            table.add_row(str(size), *cells)
        return table

    def _leading(self, speeds: dict[Candidate, float], count: int) -> list[Lane]:
        """The fastest lanes, in the order they were first tried, so that columns stay in place."""
        best: dict[Lane, float] = {}
        for candidate in self._tried:
            lane = lane_of(candidate)
            best[lane] = max(best.get(lane, 0.0), speeds.get(candidate, 0.0))
        leading = sorted(best, key=lambda lane: -best[lane])[:count]
        return [lane for lane in best if lane in leading]

    def _sizes_around_best(self, there: Iterable[tuple[Lane, int]], count: int) -> Sequence[int]:
        sizes = sorted({size for _, size in there})
        middle = bisect.bisect(sizes, self._best.batch_size) if self._best else len(sizes)
        start = max(0, min(middle - count // 2, len(sizes) - count))
        return sizes[start : start + count]

    @property
    def _best(self) -> Candidate | None:
        """What would be the answer now; before anything is judged, what was fastest."""
        if self._event is None:
            return None
        fastest = self._event.best
        return self._event.leading or (fastest.candidate if fastest else None)

    def _cell(
        self, candidate: Candidate | None, speeds: dict[Candidate, float], top: float
    ) -> RenderableType:
        if candidate is None:
            return ""
        if candidate not in speeds:
            return Text(self._failed.get(candidate, ""), style="red")
        cell = Table.grid(padding=(0, 1, 0, 0))
        cell.add_column(width=BAR_WIDTH)
        cell.add_column(width=RATE_WIDTH, justify="right")
        rate = format_rate(speeds[candidate]).removesuffix(" rows/s")
        bar = ProgressBar(total=top, completed=speeds[candidate])
        cell.add_row(bar, Text(rate, style="bold" if candidate == self._best else ""))
        return cell


def _bar(done: float, total: float, text: str) -> Table:
    bar = Table.grid(padding=(0, 2, 0, 0), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True, justify="right")
    bar.add_row(ProgressBar(total=total, completed=min(done, total)), Text(text))
    return bar


def _memory(peak_bytes: int, limit_bytes: int | None) -> RenderableType:
    peak = format_bytes(peak_bytes)
    if not limit_bytes:
        return Text(f"{peak} at the last peak")
    return _bar(peak_bytes, limit_bytes, f"{peak} of {format_bytes(limit_bytes)}")


def _doing(event: Progress) -> str:
    return {
        "search": f"trying {_named(event)}",
        "wait": "waiting for other processes to be quiet",
        "confirm": f"measuring {_named(event)} afresh",
    }[event.purpose]


def _named(event: Progress) -> str:
    return f"{event.side}, {event.candidate}" if event.side else str(event.candidate)


def _with_interval(speed: Speed) -> str:
    text = format_rate(speed.rows_per_s)
    if speed.low is None or speed.high is None:
        return text
    low, high = (format_rate(end).removesuffix(" rows/s") for end in (speed.low, speed.high))
    return f"{text} ({low} to {high})"


def _trouble(outcome: Outcome) -> str:
    return outcome.kind.replace("_", " ") if isinstance(outcome, Failure) else "out of memory"


def probe_line(event: Progress) -> str:
    """Say on one line what came of a probe."""
    outcome = event.outcome
    if isinstance(outcome, Measurement):
        came = f"{format_rate(speed_of(outcome))}, {format_seconds(outcome.latency_s)} a batch"
        if outcome.peak_bytes:
            came += f", {format_bytes(outcome.peak_bytes)} at the peak"
        if outcome.is_disturbed:
            came += ", disturbed by other work"
    elif outcome is None:
        came = "begun"
    else:
        came = ": ".join(filter(None, (_trouble(outcome), outcome.message)))
    spent = format_seconds(event.spent_s)
    return printable(f"{spent}  {event.purpose}  {_named(event)}: {came}")


@contextlib.contextmanager
def shown(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Show a run on a terminal while the block lasts; gives what is to be told each event."""
    screen = _Screen(console)
    try:
        yield screen.show
    finally:
        screen.close()


class _Screen:
    """A picture on a terminal, which may change its size."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._picture = Picture()
        self._open()

    def _open(self) -> None:
        self._size = self._console.size
        self._live = Live(
            self._picture,
            console=self._console,
            auto_refresh=False,
            transient=True,
            vertical_overflow="crop",
        )
        self._live.start(refresh=True)

    def show(self, event: Progress) -> None:
        """Take in an event; draw if a probe begins."""
        self._picture.add(event)
        if event.outcome is not None:
            return
        if self._console.size == self._size:
            self._live.refresh()
            return
        # A terminal that changes its width breaks lines anew, each in its own way: nobody can
        # tell where the picture begins now.
        self._live.stop()
        self._console.clear()
        self._open()

    def close(self) -> None:
        """Take the picture away."""
        self._live.stop()
