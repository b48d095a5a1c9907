"""For people: what a plan says, as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotune.plan import Load, Plan
from autotune.units import format_rate, format_seconds, format_share

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def summary(plan: Plan) -> RenderableType:
    """Return the answer in a sentence, how to set it, and a table over rates."""
    from rich.console import Group
    from rich.text import Text

    facts = [
        f"setting    {_call(plan)}",
        f"a replica  {_replica(plan)}",
        f"first      {_first(plan)}",
        *_machine(plan),
        f"Python     {format_seconds(plan.overhead.request_s)} a request assumed beside the model "
        "(--request-overhead)",
    ]
    notes = [Text(f"Note: {note}", style="yellow") for note in plan.warnings]
    lines = [Text(fact) for fact in facts]
    return Group(Text(_answer(plan), style="bold"), *lines, Text(), _table(plan), *notes)


def _answer(plan: Plan) -> str:
    load, limit = plan.load, format_seconds(plan.limit_s)
    replicas = f"{load.replicas:,} replica" + "s" * (load.replicas > 1)
    cost = "" if load.cost_per_hour is None else f" for {load.cost_per_hour:,.2f} an hour"
    answer = "answers" if load.replicas == 1 else "answer"
    late = format_seconds(load.latency_quantile_s)
    return (
        f"{replicas} {answer} {format_rate(load.rate_per_s, 'requests')} with {_share(plan)} of "
        f"them within {limit}{cost}: {late} is expected, {load.utilisation:.0%} busy."
    )


def _call(plan: Plan) -> str:
    """What to write, to set the batcher up so."""
    given = {**plan.arguments}
    if "max_wait_s" in given:
        given["max_wait_s"] = float(f"{given['max_wait_s']:.3g}")
    passed = ", ".join(f"{name}={value:_}" for name, value in given.items())
    return f"MicroBatcher(predictor, {passed}): batches of at most {plan.batch_size:,} rows"


def _replica(plan: Plan) -> str:
    within = format_rate(plan.requests_per_s, "requests")
    return (
        f"{within} within the limit, {format_rate(plan.rows_per_s_limit)} at all; planned for "
        f"{format_share(plan.headroom)} more than the rate"
    )


def _first(plan: Plan) -> str:
    return {
        "latency": "the limit is missed first, while there is time left for more requests",
        "model": "the model saturates first: its calls fill the time",
        "requests": "Python saturates first: letting in and answering fill the time, so that "
        "more rows a request, or more processes, help and a faster model does not",
    }[plan.saturates_first]


def _machine(plan: Plan) -> list[str]:
    if not plan.standstills_per_s:
        return []
    return [
        f"machine    stood still {plan.standstills_per_s:.2g} times a second when it was tuned, "
        f"for {format_seconds(plan.standstill_s)} in the mean"
    ]


def _table(plan: Plan) -> Table:
    """A line a rate."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    names = ["requests/s", "replicas", "rows a batch", "busy", "median", f"at {_share(plan)}"]
    priced = plan.load.cost_per_hour is not None
    for name in [*names, *["cost an hour"] * priced]:
        table.add_column(name, justify="right")
    for load in plan.loads:
        asked = load.rate_per_s == plan.load.rate_per_s
        table.add_row(*_cells(load), style="bold" if asked else "")
    return table


def _cells(load: Load) -> list[str]:
    cells = [
        format_rate(load.rate_per_s, "").removesuffix(" /s"),
        f"{load.replicas:,}",
        f"{load.batch_rows:.1f}",
        f"{load.utilisation:.0%}",
        format_seconds(load.latency_s),
        format_seconds(load.latency_quantile_s),
    ]
    return cells if load.cost_per_hour is None else [*cells, f"{load.cost_per_hour:,.2f}"]


def _share(plan: Plan) -> str:
    return f"{100 * plan.quantile:g} %"
