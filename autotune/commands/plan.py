"""autotune plan: how many replicas an arrival rate needs, and how to set them up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autotune.commands.options import Json, print_json, read_option
from autotune.terminal import print_renderable
from autotune.units import parse_rate, parse_seconds, parse_share


def plan(
    path: Annotated[Path, typer.Argument(help="Tuned folder, or a record's JSON file.")],
    rate: Annotated[
        str, typer.Option(metavar="RATE", help="Requests, such as 1000/s, 5k/min, 2000 rows/s.")
    ],
    p99: Annotated[
        str, typer.Option(metavar="TIME", help="Longest time to an answer, at --quantile.")
    ],
    quantile: Annotated[
        str, typer.Option(metavar="SHARE", help="Share of requests that must be answered so soon.")
    ] = "99%",
    rows_per_request: Annotated[int, typer.Option(min=1, help="Rows of each request.")] = 1,
    price: Annotated[float | None, typer.Option(help="Of a replica for an hour.")] = None,
    headroom: Annotated[
        str, typer.Option(metavar="SHARE", help="By which the rate may rise.")
    ] = "20%",
    request_overhead: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Of Python for each request, beside the model's call."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation.")] = 0,
    json: Json = False,
) -> None:
    """Plan how many replicas an arrival rate needs, and how to set their batchers up.

    The exit code is 1 where the time is too short even for a replica with nothing else to do.

    Example: autotune plan tuned/ --rate 1000000/s --p99 50ms --price 0.50
    """
    from autotune import artifact
    from autotune.plan import plan_capacity
    from autotune.plan_report import summary
    from autotune.records import TuningRecord
    from autotune.service import MEASURED

    def read_rate(text: str) -> float:
        return parse_rate(text, rows_per_request)

    request_s = read_option(parse_seconds, "--request-overhead", request_overhead)
    found = plan_capacity(
        artifact.read(path).record if path.is_dir() else TuningRecord.load(path),
        read_option(read_rate, "--rate", rate) or 0.0,
        read_option(parse_seconds, "--p99", p99) or 0.0,
        quantile=read_option(parse_share, "--quantile", quantile) or 0.0,
        rows_per_request=rows_per_request,
        headroom=read_option(parse_share, "--headroom", headroom) or 0.0,
        price_per_hour=price,
        overhead=MEASURED.scaled_to(request_s) if request_s else MEASURED,
        seed=seed,
    )
    if json:
        print_json(found)
    else:
        print_renderable(summary(found))
