"""The report: every figure of the record, and nothing that could play with a terminal."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from autotune.goal import Goal
from autotune.outcomes import Candidate, Failure, Measurement, OutOfMemory
from autotune.recommend import recommend, rounds_of
from autotune.records import Baseline, Machine, ModelInfo, TuningRecord
from autotune.report import comparison, printable, summary
from autotune.report.speeds import Speeds
from autotune.standing import Standing
from tests.blocks import blocks_of
from tests.tunings import MODEL, replaced

HOSTILE = "\x1b[31mred\x1b[0m\r\n\x07over [bold]here[/bold] \u202e\x9b2J"


def shown(renderable: RenderableType, width: int = 1000) -> str:
    """What a terminal would be sent, of great width unless another is asked for."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def model_info(name: str = "mlp", backend: str = "tensorflow") -> ModelInfo:
    """A model's description."""
    return replaced(MODEL, name=name, backend=backend)


def machine_info(device: str = "Some CPU") -> Machine:
    """A machine's description."""
    return Machine(
        device=device,
        device_kind="cpu",
        cpu="Some CPU",
        cpu_count=2,
        memory_bytes=2**33,
        device_memory_bytes=None,
        system="Linux",
        versions={},
    )


def tuned(engine: str = "keras", **fields: Any) -> TuningRecord:
    """A record of four probes."""
    outcomes = (
        Measurement(Candidate(8, engine), (0.01, 0.011), host_peak_bytes=2**28),
        Measurement(Candidate(16, engine), (0.0199, 0.0201), host_peak_bytes=2**29),
        Failure(Candidate(32, engine), kind="model_error"),
        OutOfMemory(Candidate(64, engine, concurrency=2)),
    )
    goal = Goal(tolerance=0.1)
    blocks = blocks_of([outcomes])
    record = TuningRecord(
        goal=goal,
        outcomes=outcomes,
        rounds=rounds_of(blocks),
        recommendation=recommend(Standing(goal, None, blocks), pending=[Candidate(32)]),
        memory_limit_bytes=2**30,
        spent_s=12.5,
        model=model_info(),
        machine=machine_info(),
    )
    return msgspec.structs.replace(record, **fields)


def test_the_answer_comes_first_and_the_figures_after() -> None:
    """The summary begins with the reason and tells speed, latency, memory, ties and effort."""
    lines = shown(summary(tuned())).splitlines()
    assert lines[0].startswith("8 rows, keras: 762 rows/s.")
    assert lines[1].rstrip() == "speed      762 rows/s"
    facts = "\n".join(line.rstrip() for line in lines)
    for fact in (
        "latency    10.5 ms median, 11.0 ms at 95%, a batch",
        "memory     256 MiB at the peak of 1.00 GiB",
        "tied with  16 rows, keras",
        "model      mlp on tensorflow",
        "machine    Some CPU, 2 processors",
        "effort     4 probes, 12.5 s",
    ):
        assert f"\n{fact}\n" in facts


def changed(record: TuningRecord, **fields: Any) -> TuningRecord:
    """The same record with another recommendation."""
    assert record.recommendation is not None
    found = msgspec.structs.replace(record.recommendation, **fields)
    return msgspec.structs.replace(record, recommendation=found)


def test_an_interval_is_told_where_there_is_one() -> None:
    """Speed has its 95 % interval beside it."""
    record = changed(tuned(), rows_per_s=800.0, rows_per_s_low=790.0, rows_per_s_high=810.0)
    assert "speed      800 rows/s (95 % interval 790 rows/s to 810 rows/s)" in shown(
        summary(record)
    )


def test_the_answer_is_compared_with_the_baselines() -> None:
    """Each baseline is named as people call it, with how many times faster the answer is."""
    ends: dict[str, Any] = {"rows_per_s_low": None, "rows_per_s_high": None, "latency_s": 0.1}
    record = changed(tuned(), rows_per_s=800.0)
    record = msgspec.structs.replace(
        record,
        baselines=(
            Baseline(candidate=Candidate(32), rows_per_s=400.0, **ends),
            Baseline(candidate=Candidate(1024, "predict"), rows_per_s=100.0, **ends),
        ),
    )
    text = shown(summary(record))
    assert "2.0 times predict_on_batch of 32 rows, 400 rows/s" in text
    assert "8.0 times model.predict of 1,024 rows, 100 rows/s" in text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"confidence": "high", "more_s": None}, "confidence high: settled at 95 %"),
        ({"more_s": None}, "confidence low: the time budget ended before it was settled"),
        ({"more_s": 90.0}, "confidence low: about 90.0 s more would settle it (--budget)"),
    ],
)
def test_confidence_says_how_to_raise_it(fields: dict[str, Any], words: str) -> None:
    """Where the budget ended first, the summary tells how much more would do."""
    assert words in shown(summary(changed(tuned(), **({"confidence": "low"} | fields))))


def test_disturbed_probes_are_counted() -> None:
    """The summary says how many probes other work on the machine disturbed, if any."""
    disturbed = Measurement(Candidate(8), (0.01, 0.02), disturbed=1)
    blocks = blocks_of([[disturbed, Measurement(Candidate(4), (0.01,))]])
    record = tuned(outcomes=tuple(b.outcome for b in blocks), rounds=rounds_of(blocks))
    assert "2 probes, 12.5 s; other work on the machine disturbed 1 of them" in shown(
        summary(record)
    )
    assert "disturbed" not in shown(summary(tuned()))


def test_the_curve_has_a_row_a_size_and_a_column_a_lane() -> None:
    """The curve tells each outcome at its size, and marks the choice."""
    lines = shown(summary(tuned())).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("batch size"))
    curve = [line.split() for line in lines[start : start + 5]]
    assert curve == [
        ["batch", "size", "keras", "keras,", "2", "in", "flight"],
        ["8", ">", "762", "rows/s"],
        ["16", "800", "rows/s"],
        ["32", "model", "error"],
        ["64", "out", "of", "memory"],
    ]


def many_lanes() -> TuningRecord:
    """Six engines, the last the fastest and the first the answer, and one that fails."""
    measured = tuple(
        Measurement(Candidate(size, f"engine{i}", concurrency=2), (size / 1e6 / (1 + i), 1e-3))
        for i in range(6)
        for size in (8, 1024)
    )
    record = tuned(outcomes=(*measured, Failure(Candidate(8, "slow"), kind="timeout")))
    return changed(record, batch_size=8, engine="engine0", concurrency=2)


@pytest.mark.parametrize("width", [70, 80, 81, 100, 120, 200, 1000])
def test_lanes_that_do_not_fit_have_a_line_each(width: int) -> None:
    """Nothing is cut off: the answer's lane and the fastest are columns, the others told below."""
    text = shown(Speeds(many_lanes()), width)
    by_size, _, below = text.partition("also tried, each at its best")
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert "> " in by_size
    inside = {i for i in range(6) if f"engine{i}" in by_size}
    assert inside == {0, *range(7 - len(inside), 6)}
    listed = [line.split()[0].rstrip(",") for line in below.splitlines()[1:]]
    missing = [f"engine{i}" for i in reversed(range(6)) if i not in inside]
    assert listed == [*missing, *(["slow"] if "slow" not in by_size else [])]
    assert ("timeout" in by_size) == ("slow" in by_size)
    assert (below == "") == (width >= 200)


def test_repeated_probes_are_one_figure() -> None:
    """Several probes of one candidate are one figure: the mean of their logarithms."""
    again = (Measurement(Candidate(8), (0.1,)), Measurement(Candidate(8), (0.3,)))
    record = TuningRecord(goal=Goal(), outcomes=again, recommendation=None)
    assert "8  46.2 rows/s" in shown(summary(record))  # the mean of 80 and 26.7


def test_without_an_answer_the_rest_is_told() -> None:
    """A record in which nothing fits still has its curve and its notes."""
    record = tuned(recommendation=None, warnings=("Noisy.",), unavailable={"onnxruntime": "No."})
    text = shown(summary(record))
    assert "speed" not in text
    assert "out of memory" in text
    assert "Note: Noisy." in text
    assert "Note: Not tried: onnxruntime. No." in text


@pytest.mark.parametrize(
    "fields",
    [
        {"model": model_info(name=HOSTILE)},
        {"model": model_info(backend=HOSTILE)},
        {"machine": machine_info(device=HOSTILE)},
        {"warnings": (HOSTILE,)},
        {"unavailable": {HOSTILE: HOSTILE}},
        {"engine": HOSTILE},
    ],
)
def test_hostile_names_stay_on_their_line(fields: dict[str, Any]) -> None:
    """Names from outside add no line, send no control character, and are no markup."""
    text = shown(summary(tuned(**fields)))
    plain: dict[str, Any] = {"warnings": ("x",), "unavailable": {"x": "x"}}
    usual = shown(summary(tuned(**{key: plain[key] for key in fields if key in plain})))
    assert text.count("\n") == usual.count("\n")
    assert all(char.isprintable() for char in text.replace("\n", ""))
    assert "[bold]here[/bold]" in text


@dataclass(frozen=True)
class Timing:
    """A timing with the shape of the real one."""

    name: str
    seconds: float
    slowest_s: float
    accuracy: float


def test_a_comparison_is_measured_by_its_first_row() -> None:
    """The first way is 1.0 times as fast as itself, the others so many times."""
    timings = [Timing("model(x[0])", 2.0, 2.5, 0.97), Timing("model(x[i:j])", 0.5, 0.6, 0.97)]
    lines = [line.split() for line in shown(comparison(1000, timings)).splitlines()]
    assert lines[1] == ["model(x[0])", "2.00", "s", "2.50", "s", "500", "1.0", "97.0%"]
    assert lines[2] == ["model(x[i:j])", "500", "ms", "600", "ms", "2,000", "4.0", "97.0%"]


@given(st.text(st.characters()), st.integers(3, 400))
def test_printable_text_is_one_line_within_its_limit(text: str, limit: int) -> None:
    """Any text comes out printable, and cut with dots where it is too long."""
    line = printable(text, limit)
    assert line.isprintable()
    assert len(line) == min(len(text), limit)
    assert line.endswith("...") or len(text) <= limit


@pytest.mark.parametrize("width", [20, 35, 59, 75, 90])
def test_a_lane_is_at_its_best_within_the_limits(width: int) -> None:
    """A faster size that is over the budget is told only where there is no other."""
    outcomes = (
        Measurement(Candidate(8), (0.001,) * 4),
        Measurement(Candidate(8, "xla"), (0.002,) * 4),
        Measurement(Candidate(1024, "xla"), (0.1,) * 4),
        Measurement(Candidate(512, "compiled"), (0.2,) * 4),
        *(Measurement(Candidate(8, f"engine{i}"), (0.0015,) * 4) for i in range(3)),
    )
    record = tuned(outcomes=outcomes, goal=Goal(latency_budget_s=0.01))
    below = shown(Speeds(changed(record, batch_size=8)), width).partition("also tried")[2]
    told = " ".join(below.split())
    if width >= 60:
        assert "compiled (over the limit of latency) 512 2,560 rows/s 200 ms" in told
    else:
        assert "compiled (over the limit of latency): 2,560 rows/s with 512 rows" in told
    if width < 30:
        assert "xla: 4,000 rows/s with 8 rows" in told
    assert "1024" not in told
