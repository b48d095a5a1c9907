"""Records for reports: one of a real tuning, one with every text hostile, one as long as any."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import autotune
from autotune import Candidate, Failure, Goal, Measurement, OutOfMemory, TuningRecord
from autotune.demo import FOLDER
from autotune.engines import NAMES
from autotune.records import Baseline, Forecast, Input, Round
from tests.tunings import MODEL, XEON, recommending, replaced, tuned_on

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "closing": "</script></style></title><img src=x onerror=hit()>",
    "svg": '<svg onload="hit()">',
    "quotes": "\" onmouseover=hit() x='",
    "comment": "<!-- <script>",
    "entity": "&lt;b&gt;&#60;b&#62;",
    "colour": "\x1b[31mred\x1b[0m",
    "bidi": "safe\u202egnp.exe\u2066",
    "lines": "one\r\n\n# two\n| three |\u2028four",
    "path": "../../etc/passwd",
    "long": "x" * 5_000,
    "formula": "=cmd|' /C calc'!A0",
    "template": "{{7*7}}{% raw %}${x}%s%n",
    "markdown": "[x](https://evil.example) ![y](z) **b** `c` ~~d~~ @octocat #1 www.evil.example",
    "ticks": "``` `` `",
    "backslash": "a\\|b\\",
    "nul": "\x00",
    "foreign": "\u6a21\u578b \U0001d54f",
}


@functools.cache
def real_record() -> TuningRecord:
    """A record of a real tuning, of the demo's model with two engines, in this process."""
    with np.load(FOLDER / "digits.npz") as digits:
        images = digits["image"][:200].astype(np.float32)
    predictor = autotune.tune(
        FOLDER / "digits.keras",
        images,
        Goal(max_batch_size=64, latency_budget_s=5.0),
        engines=["keras", "compiled"],
        concurrency=[1, 2],
        budget_s=1.5,
        isolation="none",
    )
    return predictor.record


def hostile_record(text: str) -> TuningRecord:
    """A record with outcomes of each kind that has one text wherever there is text."""
    way, baseline = Candidate(8, text), Candidate(32, f"predict{text}")
    outcomes = (
        *[Measurement(Candidate(4, text), (0.1, 0.1), host_peak_bytes=2**20)] * 3,
        *[Measurement(way, (0.1, 0.1), host_peak_bytes=2**21, warnings=(text,))] * 3,
        Failure(Candidate(16, text), kind="model_error", message=text),
        OutOfMemory(Candidate(32, text, concurrency=2), message=text),
    )
    refused = Forecast(
        candidate=Candidate(64, text), upper_bound_bytes=2**30, peak_bytes=None, limit_bytes=2**29
    )
    record = tuned_on(
        replaced(XEON, device=text, cpu=text, system=text, versions={text: text}),
        replaced(MODEL, name=text, source=text, backend=text, inputs=(Input(text, (3,), text),)),
        outcomes=outcomes,
        forecasts=(refused,),
        baselines=(_baseline(baseline),),
        memory_limit_bytes=2**29,
        unavailable={text: text},
        precision=text,
        warnings=(text,),
        created=text,
    )
    record = recommending(record, way)
    assert record.recommendation is not None
    chosen = replaced(record.recommendation, reason=text, tied=(Candidate(4, text),))
    found: TuningRecord = replaced(record, recommendation=chosen)
    return found


def _baseline(candidate: Candidate) -> Baseline:
    return Baseline(
        candidate=candidate,
        rows_per_s=40.0,
        rows_per_s_low=39.0,
        rows_per_s_high=41.0,
        latency_s=0.8,
    )


def long_record(probes: int = 2_000) -> TuningRecord:
    """A record with as many probes as any search makes, over many lanes and sizes."""
    ways = [
        Candidate(2**power, engine, concurrency=flights, threads=threads)
        for power in range(13)
        for engine in NAMES
        for flights, threads in ((1, None), (2, 1), (4, 1))
    ]
    outcomes: list[Any] = []
    for n in range(probes):
        way = ways[n % len(ways)]
        seconds = 1e-3 + 1e-6 * way.batch_size * (1 + n % 7 / 50)
        peak = 2**20 * (64 + way.batch_size)
        outcomes.append(
            Measurement(
                way, (seconds,) * 20, elapsed_s=0.1, device_peak_bytes=peak, disturbed=n % 21
            )
        )
    rounds = (Round("search", probes - 100, 3), Round("wait", 40, 0), Round("confirm", 60, 1))
    return recommending(tuned_on(XEON, outcomes=tuple(outcomes), rounds=rounds), ways[-1])
