"""The terminal: records printed for people or as JSON, progress, what is logged, interrupts."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

    from autotune.records import Progress, TuningRecord

_log = logging.getLogger("autotune")


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


def _raise_if_interrupted() -> None:
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


class _Lines(logging.Handler):
    """Writes what is logged to standard error, a line each, wherever that leads just then."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        from autotune.report import printable

        sys.stderr.write(printable(record.getMessage(), limit=4000) + "\n")


@contextlib.contextmanager
def telling(level: int) -> Iterator[None]:
    """Write what autotune logs, from a level on, to standard error while the block lasts."""
    before, lines = _log.level, _Lines()
    _log.addHandler(lines)
    _log.setLevel(level)
    try:
        yield
    finally:
        _log.setLevel(before)
        _log.removeHandler(lines)


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
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = _standard_error()
    shown = console.is_interactive or console.is_jupyter  # elsewhere it would leave an empty line
    with Bar(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("", total=total)
        for part in parts:
            bar.advance(task, part.rows)
            yield part


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Show a tuning run on a terminal, unless that is not wanted, and log each probe."""
    with contextlib.ExitStack() as stack:
        shows: list[Callable[[Progress], None]] = [_log_probe]
        console = _standard_error()
        if not quiet and console.is_interactive:
            from autotune.live import shown

            shows.append(stack.enter_context(shown(console)))

        def tell(event: Progress) -> None:
            _raise_if_interrupted()
            for show in shows:
                show(event)

        yield tell


def _standard_error() -> Console:
    from rich.console import Console

    # FORCE_COLOR makes rich take a pipe for a terminal, where a picture that is drawn again and
    # again would be thousands of lines.
    return Console(stderr=True, force_terminal=None if sys.stderr.isatty() else False)


def _log_probe(event: Progress) -> None:
    if event.outcome is not None and _log.isEnabledFor(logging.INFO):
        from autotune.live import probe_line

        _log.info("%s", probe_line(event))
