"""The live display: what it shows, on terminals of any size, and how it leaves them."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest
from rich.cells import cell_len
from rich.console import Console

from autotune import Candidate, Failure, Goal, Measurement, OutOfMemory, Progress, search
from autotune.live import Picture, probe_line, shown
from autotune.outcomes import Outcome
from autotune.terminal import progress, telling
from tests.simulated import SimulatedDevice
from tests.test_report import HOSTILE

LIMIT = 300 * 2**20


@functools.cache
def events(*engines: str) -> Sequence[Progress]:
    """All that is told of a search on a simulated device with little memory."""
    told: list[Progress] = []
    device = SimulatedDevice(memory_bytes=LIMIT, engine_speed={"compiled": 2.0}, noise=0.01)
    search(
        device,
        Goal(),
        engines=engines or ("keras", "compiled"),
        budget_s=2,
        memory_limit_bytes=LIMIT,
        on_event=told.append,
        baselines=[Candidate(1024, "predict")],
    )
    return tuple(told)


def drawn(picture: Picture, width: int, height: int = 40) -> list[str]:
    """The lines that a terminal of that size is sent, without colours."""
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(picture)
    return [line.rstrip() for line in capture.get().splitlines()]


def picture_of(told: Sequence[Progress]) -> Picture:
    """The picture after all that was told."""
    picture = Picture()
    for event in told:
        picture.add(event)
    return picture


def test_it_shows_time_memory_what_is_tried_the_best_and_the_curve() -> None:
    """The best has its interval, memory its limit, and each lane that was tried its column."""
    told = events()
    text = drawn(picture_of(told), 100)
    facts = {line.split()[0]: line for line in text if line}
    assert facts["time"].endswith("s left")
    assert facts["memory"].endswith("of 300 MiB")
    assert "afresh" in facts["now"]
    best = told[-1].leading
    assert best is not None
    assert f") at {best}" in facts["best"]
    assert " to " in facts["best"]
    header = next(line for line in text if line.startswith("batch size"))
    assert header.split()[2:] == ["keras", "compiled"]
    sizes = [int(line.split()[0]) for line in text[text.index(header) + 1 :]]
    assert sizes == sorted(sizes)
    assert {1, 2, 4, best.batch_size} <= set(sizes)
    assert not any("predict" in line for line in text[text.index(header) :])


def test_before_the_first_probe_the_model_is_loaded() -> None:
    """There is a line to look at while nothing is known yet."""
    assert drawn(Picture(), 40) == ["loading the model"]


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 120, 300])
@pytest.mark.parametrize("height", [1, 10, 24, 60])
def test_no_line_is_longer_than_the_terminal(width: int, height: int) -> None:
    """Whatever the size, and however strange the names, each line fits."""
    told = events()
    lost = Failure(Candidate(8, HOSTILE), kind="crash", message=HOSTILE)
    end = Progress(candidate=lost.candidate, outcome=lost, best=None, spent_s=1, budget_s=5)
    for part in (told[:1], told[: len(told) // 2], (*told, end)):
        lines = drawn(picture_of(part), width, height)
        assert max(map(cell_len, lines)) <= width
        assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("height", [24, 30])
def test_the_curve_fits_the_height_around_the_best(height: int) -> None:
    """A small window shows fewer sizes, the best of them among these."""
    told = events()
    best = told[-1].leading
    assert best is not None
    lines = drawn(picture_of(told), 100, height)
    assert len(lines) < height
    assert any(line.split()[:1] == [str(best.batch_size)] for line in lines)


def test_what_failed_is_named_in_the_curve() -> None:
    """A size that ran out of memory, and one that crashed, stand beside those that ran."""
    best = Measurement(Candidate(1), (0.1,))
    outcomes: list[Outcome] = [
        best,
        OutOfMemory(Candidate(2)),
        Failure(Candidate(4), kind="model_error"),
    ]
    told = [
        Progress(candidate=o.candidate, outcome=o, best=best, spent_s=1, budget_s=5)
        for o in outcomes
    ]
    lines = [line.split() for line in drawn(picture_of(told), 80)]
    assert ["2", "out", "of", "memory"] in lines
    assert ["4", "model", "error"] in lines


def test_two_that_are_compared_are_kept_apart() -> None:
    """The same candidate of two models has a line of speed for each, and a name in each."""
    plain = Candidate(32)
    fast, slow = Measurement(plain, (0.001,) * 9), Measurement(plain, (0.01,) * 9)
    told = [
        Progress(candidate=plain, outcome=outcome, best=None, spent_s=1, budget_s=5, side=side)
        for side, outcome in (("A", fast), ("B", slow))
    ]
    lines = [line.split() for line in drawn(picture_of(told), 80)]
    assert ["A", "32,000", "rows/s", "with", "32", "rows,", "keras"] in lines
    assert ["B", "3,200", "rows/s", "with", "32", "rows,", "keras"] in lines
    assert probe_line(told[1]).startswith("1.00 s  search  B, 32 rows, keras: 3,200 rows/s")


def test_a_line_tells_what_came_of_a_probe() -> None:
    """With -v each probe is a line: what was tried, and how fast it was or why it failed."""
    ran = Measurement(Candidate(8), (0.01, 0.01), device_peak_bytes=2**20, disturbed=2)
    lost = Failure(Candidate(8, HOSTILE), kind="crash", message=HOSTILE)
    told = [
        Progress(candidate=o.candidate, outcome=o, best=None, spent_s=2.5, budget_s=5)
        for o in (ran, OutOfMemory(Candidate(16)), lost)
    ]
    assert probe_line(told[0]) == (
        "2.50 s  search  8 rows, keras: 800 rows/s, 10.0 ms a batch, 1.00 MiB at the peak, "
        "disturbed by other work"
    )
    assert probe_line(told[1]) == "2.50 s  search  16 rows, keras: out of memory"
    assert probe_line(told[2]).isprintable()


class Window(Console):
    """A terminal whose size is set by hand."""

    def __init__(self) -> None:
        super().__init__(
            file=io.StringIO(), force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"}
        )

    @property
    def sent(self) -> str:
        """What it was sent since that was last asked for."""
        assert isinstance(self.file, io.StringIO)
        text = self.file.getvalue()
        self.file.seek(0)
        self.file.truncate()
        return text


CLEAR = "\x1b[2J"


def test_it_is_drawn_when_a_probe_begins_and_at_no_other_time() -> None:
    """Drawing takes time, so nothing is drawn while something is timed or has just been."""
    window = Window()
    with shown(window) as show:
        assert "loading the model" in window.sent
        for event in events():
            show(event)
            assert bool(window.sent) == (event.outcome is None)
    assert window.sent.endswith("\x1b[2K")  # the last line is erased


def test_a_terminal_that_changes_its_size_is_begun_anew() -> None:
    """Nobody knows where the picture is then: the screen is cleared, once."""
    window, told = Window(), [event for event in events() if event.outcome is None]
    with shown(window) as show:
        show(told[0])
        assert CLEAR not in window.sent
        window.size = (40, 10)
        show(told[1])
        assert CLEAR in window.sent
        show(told[2])
        assert CLEAR not in window.sent


SCRIPT = """
import os, signal, sys
from autotune import search, Goal
from autotune.terminal import listen_for_interrupts, progress
from tests.simulated import SimulatedDevice

listen_for_interrupts()
device, count = SimulatedDevice(), 0

def probe(*ask):
    global count
    count += 1
    if count == 20:
        os.kill(os.getpid(), signal.SIGINT)
    return device(*ask)

with progress(quiet=False) as tell:
    search(probe, Goal(), on_event=tell)
"""


def on_terminal(**environment: str) -> str:
    """What a run that is interrupted leaves on a terminal."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"} | environment,
    )
    os.close(theirs)
    text = b""
    with contextlib.suppress(OSError):  # once the other end is closed
        while part := os.read(ours, 2**16):
            text += part
    os.close(ours)
    assert process.wait() in (1, -signal.SIGINT)
    return text.decode()


def test_an_interrupted_run_leaves_the_terminal_as_it_was() -> None:
    """After Ctrl-C the picture is gone and the cursor is there again."""
    text = on_terminal()
    picture, _, rest = text.partition("Traceback")
    assert "trying" in picture
    assert picture.rindex("\x1b[?25h") > picture.rindex("\x1b[?25l")
    assert "\x1b[" not in rest.replace("\x1b[?25h", "")


def test_colours_are_left_out_where_they_are_not_wanted() -> None:
    """NO_COLOR takes away colours, and a dumb terminal gets no picture at all."""
    assert "\x1b[38" not in on_terminal(NO_COLOR="1")
    assert "trying" in on_terminal(NO_COLOR="1")
    assert "\x1b" not in on_terminal(TERM="dumb")


@pytest.mark.parametrize("force", ["", "1"])
def test_without_a_terminal_there_are_lines_if_they_are_asked_for(
    force: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing goes into a pipe, whatever FORCE_COLOR says; with -v one line a probe does."""
    monkeypatch.setenv("FORCE_COLOR", force)
    told = events("keras")
    lines: dict[int, list[str]] = {}
    for level in (logging.WARNING, logging.INFO):
        with telling(level), progress(quiet=False) as tell:
            for event in told:
                tell(event)
        lines[level] = capsys.readouterr().err.splitlines()
    assert lines[logging.WARNING] == []
    probes = [event for event in told if event.outcome is not None]
    assert lines[logging.INFO] == [probe_line(event) for event in probes]


def test_who_was_stopped_for_others_keeps_its_figures() -> None:
    """It is tried again: neither its cell nor the best line is lost meanwhile."""
    ran = Measurement(Candidate(8), (0.01,) * 5)
    stopped = Failure(Candidate(8), kind="stopped", message="Others took the memory.")
    told = [
        Progress(candidate=Candidate(8), outcome=outcome, best=ran, spent_s=1, budget_s=5)
        for outcome in (ran, stopped)
    ]
    lines = drawn(picture_of(told), 80)
    assert not any("stopped" in line for line in lines)
    assert "best  800 rows/s at 8 rows, keras" in lines
    assert lines[-1].split()[::2] == ["8", "800"]
