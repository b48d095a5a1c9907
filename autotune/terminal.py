"""The terminal: a record printed for people or as JSON, and a line that shows progress."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from autotune.records import Progress, TuningRecord


def print_record(record: TuningRecord, json: bool) -> None:
    """Print a record to standard output."""
    if json:
        sys.stdout.buffer.write(record.to_json())
        return
    from autotune.report import summary

    print_renderable(summary(record))


def print_renderable(renderable: Any) -> None:
    """Print what `report` made: in colour on a terminal, plain elsewhere."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120  # a pipe has no width, and a log is read in a wide window
    console.print(renderable, soft_wrap=True)


_interrupted = threading.Event()


def listen_for_interrupts() -> None:
    """Take Ctrl-C, and requests to end, as KeyboardInterrupt, and remember that one came.

    Python drops an exception that is raised while garbage is collected. What was remembered is
    raised again by `progress`, with the next event.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores the last
            signal.signal(number, _interrupt)


def _interrupt(*_: object) -> None:
    _interrupted.set()
    raise KeyboardInterrupt


def _raise_if_interrupted(_: object = None) -> None:
    if _interrupted.is_set():
        raise KeyboardInterrupt


def hush_native_code() -> None:
    """Keep what native code writes to standard error from the terminal; Python's text stays.

    TensorFlow logs a screenful when it is imported, and no setting of its own prevents it.
    """
    terminal = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = os.fdopen(terminal, "w", buffering=1, encoding="utf-8", errors="replace")


class Rows(Protocol):
    """Something with a number of rows."""

    @property
    def rows(self) -> int:
        """How many."""
        ...


_Done = TypeVar("_Done", bound=Rows)


def count_rows_done(parts: Iterable[_Done], total: int | None = None) -> Iterator[_Done]:
    """Pass on what is done, with a bar on standard error, if that is a terminal.

    Args:
        parts: What comes, with its number of rows.
        total: Rows in all; None where that is not known.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        for part in parts:
            bar.advance(task, part.rows)
            yield part


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A line on a terminal that says what is tried and what is best; nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield _raise_if_interrupted
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    from autotune.report import progress_line

    columns = BarColumn(20), TextColumn("{task.description}", markup=False)
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("loading the model", total=None)

        def show_progress(event: Progress) -> None:
            _raise_if_interrupted()
            bar.update(
                task,
                description=progress_line(event),
                total=event.budget_s,
                completed=min(event.spent_s, event.budget_s),
            )

        yield show_progress
