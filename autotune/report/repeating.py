"""The command that repeats a tuning run, as far as its record knows it."""

from __future__ import annotations

import shlex

from autotune.curves import searched
from autotune.engines import NAMES
from autotune.goal import Goal
from autotune.records import TuningRecord
from autotune.report.words import printable

SAMPLE = "rows.npy"  # the record does not know the sample's file
MODEL = "model.keras"  # nor that of a model that was handed over as an object
EXACT = 17  # digits that tell any two numbers apart


def command(record: TuningRecord) -> str:
    """Return the command line that tunes the same model in the same way.

    The file of the sample is not in the record: `rows.npy` stands for it.
    """
    source = record.model.source if record.model else "object"
    model = MODEL if source == "object" else printable(source)
    words = ["autotune", "tune", model, "--sample", SAMPLE, *_goal(record.goal), *_lanes(record)]
    if record.budget_s > 0:
        words += ["--budget", f"{record.budget_s:.{EXACT}g}s"]
    if record.precision:
        words += ["--precision", printable(record.precision)]
    return shlex.join([*words, "--seed", str(record.seed)])


def _goal(goal: Goal) -> list[str]:
    usual = Goal()
    budget_s, budget_bytes = goal.latency_budget_s, goal.memory_budget_bytes
    given: dict[str, object] = {
        "--objective": goal.objective if goal.objective != usual.objective else None,
        "--rows": goal.rows,
        "--latency-budget": None if budget_s is None else f"{1e3 * budget_s:.12g}ms",
        "--quantile": goal.quantile if goal.quantile != usual.quantile else None,
        "--memory-budget": None if budget_bytes is None else f"{budget_bytes}B",
        "--min-batch-size": goal.min_batch_size if goal.min_batch_size > 1 else None,
        "--max-batch-size": goal.max_batch_size,
        "--tolerance": goal.tolerance if goal.tolerance != usual.tolerance else None,
    }
    options = ((name, str(value)) for name, value in given.items() if value is not None)
    return [word for option in options for word in option]


def _lanes(record: TuningRecord) -> list[str]:
    """The engines, where others could have been tried, and the numbers of batches in flight."""
    tried = [outcome.candidate for outcome in searched(record)]
    engines = dict.fromkeys(candidate.engine for candidate in tried)
    flights = sorted({candidate.concurrency for candidate in tried})
    words = [word for n in flights for word in ("--concurrency", str(n))]
    if set(NAMES) - set(engines) - set(record.unavailable):
        words = [word for name in engines for word in ("--engine", printable(name))] + words
    return words
