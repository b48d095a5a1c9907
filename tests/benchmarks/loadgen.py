"""MLPerf's LoadGen as an outside judge of the predictor and the MicroBatcher.

    pip install mlcommons-loadgen
    python -m tests.benchmarks.loadgen             # some ten minutes
    python -m tests.benchmarks.loadgen --short     # a minute or two, without the slow ways

Drives four ways of running one model through LoadGen's scenarios, and prints its own figures:

* SingleStream: one row, and the next when it is answered; the 90 % quantile of the latency.
* MultiStream: eight rows at once, and the next eight when they are answered; the 99 % quantile.
* Offline: all rows at once; rows per second.
* Server: Poisson arrivals of one row; the highest rate, to a tenth, that LoadGen calls VALID: 99 %
  are answered within the latency budget.

`model.predict`, `predict_on_batch` and the predictor answer a query where it comes, as a plain
service would; the MicroBatcher takes it and answers later.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import mlperf_loadgen as lg

from autotune import Goal, MicroBatcher, tune
from tests.benchmarks.batching import digits
from tests.benchmarks.nets import rows_for

BUDGET_S = 0.02
QUANTILE = 0.99
ROWS = 4_096
LEAST_QUERIES = 700  # fewer, and LoadGen cannot tell the 99 % quantile
FIGURES = {  # what LoadGen's summary calls the result of a scenario, and what makes it readable
    "SingleStream": (r"90\.00 percentile latency \(ns\)\s*: (\d+)", 1e-6, "ms"),
    "MultiStream": (r"99\.00 percentile latency \(ns\)\s*: (\d+)", 1e-6, "ms"),
    "Offline": (r"Samples per second: ([\d.e+]+)", 1.0, "rows/s"),
    "Server": (r"Scheduled samples per second\s*: ([\d.e+]+)", 1.0, "rows/s"),
}
Answer = Callable[[Any], Any]
Issue = Callable[[Sequence[Any]], None]


def at_once(answer: Answer, rows: Any) -> Issue:
    """Answer each query where it comes."""

    def issue(samples: Sequence[Any]) -> None:
        answer(rows[[sample.index for sample in samples]])
        complete(samples)

    return issue


def later(batcher: MicroBatcher, rows: Any) -> Issue:
    """Hand each query to a batcher."""

    def issue(samples: Sequence[Any]) -> None:
        ids = [lg.QuerySampleResponse(sample.id, 0, 0) for sample in samples]
        future = batcher.submit(rows[[sample.index for sample in samples]])
        future.add_done_callback(lambda done: (done.result(), lg.QuerySamplesComplete(ids)))

    return issue


def complete(samples: Sequence[Any]) -> None:
    """Tell LoadGen that a query is answered; the answers themselves are not its business."""
    lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0) for sample in samples])


def settings_for(scenario: str, seconds: float, rate: float) -> Any:
    """LoadGen's settings for a run of about so many seconds."""
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = round(1e3 * seconds)
    settings.min_query_count = LEAST_QUERIES if scenario == "Server" else 64
    settings.offline_expected_qps = rate
    settings.server_target_qps = rate
    settings.server_target_latency_ns = round(1e9 * BUDGET_S)
    settings.server_target_latency_percentile = QUANTILE
    return settings


def judge(issue: Issue, scenario: str, seconds: float, rate: float = 1_000.0) -> tuple[float, bool]:
    """Run one scenario; return LoadGen's figure, and whether it calls the run valid."""
    sut = lg.ConstructSUT(issue, lambda: None)
    library = lg.ConstructQSL(ROWS, ROWS, lambda _: None, lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        output = lg.LogOutputSettings()
        output.outdir = folder
        log = lg.LogSettings()
        log.log_output = output
        log.enable_trace = False
        try:
            lg.StartTestWithLogSettings(sut, library, settings_for(scenario, seconds, rate), log)
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(sut)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    pattern, unit, _ = FIGURES[scenario]
    found = re.search(pattern, summary)
    assert found, summary
    return float(found[1]) * unit, "Result is : VALID" in summary


def highest_rate(issue: Issue, start: float, seconds: float) -> float:
    """The highest Poisson rate that LoadGen calls valid, to a tenth; 0 where it finds none."""
    valid, invalid, rate = 0.0, float("inf"), start
    while invalid > 1.1 * valid and rate > 2:
        if judge(issue, "Server", seconds, rate)[1]:
            valid = rate
        else:
            invalid = rate
        if not valid:
            rate = invalid / 2
        elif invalid == float("inf"):
            rate = valid * 2
        else:
            rate = (valid * invalid) ** 0.5
    return valid


def judge_all(issue: Issue, seconds: float) -> dict[str, float]:
    """The figures of the four scenarios."""
    figures = {
        scenario: judge(issue, scenario, seconds)[0] for scenario in ("SingleStream", "MultiStream")
    }
    rough, _ = judge(issue, "Offline", 0.1, 1_000)
    figures["Offline"], _ = judge(issue, "Offline", seconds, rough)
    figures["Server"] = highest_rate(issue, 1e3 / figures["SingleStream"] / 2, seconds)
    return figures


def main() -> None:
    """Print the four results of each way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    seconds, tuning_s = (1.0, 6.0) if short else (10.0, 60.0)
    model: keras.Model = digits()
    rows = rows_for(model, ROWS)
    predictor = tune(model, rows, Goal(latency_budget_s=BUDGET_S), budget_s=tuning_s)
    print(f"{model.name}, {predictor.recommendation.candidate}, budget {1e3 * BUDGET_S:.0f} ms")
    print(f"{'':20}" + "".join(f"{f'{name}, {unit}':>22}" for name, (*_, unit) in FIGURES.items()))
    with MicroBatcher(predictor, max_queue_rows=10**9) as batcher:
        ways = {
            "model.predict": at_once(lambda x: model.predict(x, verbose=0), rows),
            "predict_on_batch": at_once(model.predict_on_batch, rows),
            "predictor": at_once(predictor.predict, rows),
            "MicroBatcher": later(batcher, rows),
        }
        if short:
            del ways["model.predict"]
        for name, issue in ways.items():
            figures = judge_all(issue, seconds)
            print(f"{name:20}" + "".join(f"{figures[each]:22,.3f}" for each in FIGURES), flush=True)


if __name__ == "__main__":
    main()
