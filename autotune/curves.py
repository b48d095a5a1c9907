"""What was found at each batch size: a curve a lane, to be drawn, printed and exported.

Reads records only, and draws nothing: tables, Markdown and plots all tell these figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from autotune.goal import Goal
from autotune.intervals import ENOUGH, speed_from
from autotune.judging import Lane, excesses, lane_of, latency_quantile_s, merged, speed_of
from autotune.outcomes import Candidate, Failure, Measurement, Outcome, OutOfMemory, Purpose
from autotune.records import Forecast, TuningRecord


class Point(Struct, frozen=True, kw_only=True):
    """What is known of one candidate, from all its blocks.

    Speed and latency are those of the blocks that nothing disturbed, where there are at least
    three, else of all. A block's speed is that of the trimmed mean of its calls
    (`judging.speed_of`); of several blocks it is the trimmed mean of their logarithms, with
    Student's t interval of their mean (`intervals.speed_from`). That interval tells what blocks
    scatter within one search; what a machine drifts by over minutes is in the recommendation's.

    Attributes:
        candidate: What was to be tried.
        outcome: "measured", "out_of_memory", "refused" (its forecast was over the limit, so it was
            never run), or the kind of its `Failure`. A candidate that ever failed is not measured.
        rows_per_s: Rows per second; None where it was not measured, as all figures below.
        rows_per_s_low: Lower end of the 95 % interval; None from fewer than three blocks.
        rows_per_s_high: Upper end.
        latency_s: Median seconds of a call.
        latency_quantile_s: Seconds of a call at the goal's quantile.
        peak_bytes: Highest peak of all blocks; None where it could not be read.
        forecast_bytes: Upper bound that was forecast for the peak before the first try.
        calls: How many calls were timed, disturbed ones included.
        blocks: In how many blocks.
        disturbed: Share of the calls that something else on the machine disturbed.
        over: Limits that the figures are over: "latency", "memory".
        message: What is known of the reason, where it was not measured.
    """

    candidate: Candidate
    outcome: str
    rows_per_s: float | None = None
    rows_per_s_low: float | None = None
    rows_per_s_high: float | None = None
    latency_s: float | None = None
    latency_quantile_s: float | None = None
    peak_bytes: int | None = None
    forecast_bytes: int | None = None
    calls: int = 0
    blocks: int = 0
    disturbed: float = 0.0
    over: tuple[str, ...] = ()
    message: str = ""

    @property
    def is_measured(self) -> bool:
        """Whether there are figures of it."""
        return self.outcome == "measured"


class LaneCurve(Struct, frozen=True):
    """The points of one lane: an engine with a number of batches in flight and of threads.

    Attributes:
        lane: Engine, concurrency, threads; see `judging.lane_of`.
        points: By rising batch size, each size once.
    """

    lane: Lane
    points: tuple[Point, ...]

    @property
    def engine(self) -> str:
        """What runs a batch."""
        return self.lane[0]

    @property
    def name(self) -> str:
        """The lane in words, such as "openvino, 2 in flight, 1 thread each"."""
        return lane_name(self.points[0].candidate)


class Step(Struct, frozen=True, kw_only=True):
    """One probe in its place in the search.

    Attributes:
        candidate: What was tried.
        purpose: "search", "wait" or "confirm"; see `Block`.
        start_s: Seconds of probing before it.
        elapsed_s: Seconds that it took.
        outcome: As of a `Point`.
        disturbed: Whether something else on the machine disturbed most of it.
        rows_per_s: Its speed; None where it was not measured.
    """

    candidate: Candidate
    purpose: Purpose
    start_s: float
    elapsed_s: float
    outcome: str
    disturbed: bool
    rows_per_s: float | None


def lane_name(candidate: Candidate) -> str:
    """Return all of a candidate but its batch size, in words.

    Example:
        >>> lane_name(Candidate(512, "openvino", concurrency=2, threads=1))
        'openvino, 2 in flight, 1 thread each'
    """
    return str(candidate).partition(", ")[2]


def curves_of(record: TuningRecord) -> tuple[LaneCurve, ...]:
    """Return the curve of each lane, in the order in which they were first tried."""
    tried: dict[Candidate, list[Outcome]] = {}
    for outcome in searched(record):
        tried.setdefault(outcome.candidate, []).append(outcome)
    forecasts = {forecast.candidate: forecast for forecast in record.forecasts}
    for forecast in record.forecasts:
        if forecast.peak_bytes is None:  # refused, and so among no outcomes
            tried.setdefault(forecast.candidate, [])
    lanes: dict[Lane, list[Point]] = {}
    for candidate, outcomes in tried.items():
        point = _point(candidate, outcomes, forecasts.get(candidate), record)
        lanes.setdefault(lane_of(candidate), []).append(point)
    return tuple(
        LaneCurve(lane, tuple(sorted(points, key=lambda point: point.candidate.batch_size)))
        for lane, points in lanes.items()
    )


def leading(curves: Sequence[LaneCurve], record: TuningRecord) -> tuple[LaneCurve, ...]:
    """Return the best lane of each engine: the chosen one, else by its best point.

    A point within the limits is better than one over them, then more rows per second are better;
    for the goal "latency" fewer seconds. The chosen lane comes first, then the better ones.
    """
    chosen = record.recommendation and lane_of(record.recommendation.candidate)

    def rank(curve: LaneCurve) -> tuple[bool, bool, float]:
        best = best_of(curve, record.goal)
        worth = worth_of(best, record.goal) if best else (False, -math.inf)
        return curve.lane == chosen, *worth

    found: dict[str, LaneCurve] = {}
    for curve in sorted(curves, key=rank, reverse=True):
        found.setdefault(curve.engine, curve)
    return tuple(found.values())


def best_of(curve: LaneCurve, goal: Goal) -> Point | None:
    """Return the point that is worth most; None where none was measured."""
    measured = [point for point in curve.points if point.is_measured]
    return max(measured, key=lambda point: worth_of(point, goal), default=None)


def worth_of(point: Point, goal: Goal) -> tuple[bool, float]:
    """Tell whether a measured point is within the limits, and what it is worth: more is better."""
    by_latency = goal.objective == "latency"
    worth = -(point.latency_quantile_s or 0.0) if by_latency else point.rows_per_s or 0.0
    return not point.over, worth


def steps_of(record: TuningRecord) -> tuple[Step, ...]:
    """Return all probes in the order in which they were made."""
    steps, start_s = [], 0.0
    for outcome, purpose in zip(record.outcomes, _purposes(record), strict=True):
        measured = outcome if isinstance(outcome, Measurement) else None
        step = Step(
            candidate=outcome.candidate,
            purpose=purpose,
            start_s=start_s,
            elapsed_s=outcome.elapsed_s,
            outcome=_kind(outcome),
            disturbed=measured is not None and measured.is_disturbed,
            rows_per_s=speed_of(measured) if measured else None,
        )
        steps.append(step)
        start_s += outcome.elapsed_s
    return tuple(steps)


def searched(record: TuningRecord) -> list[Outcome]:
    """Return the outcomes without those of baselines, which were never candidates."""
    pairs = list(zip(record.outcomes, _purposes(record), strict=True))
    tried = {outcome.candidate for outcome, purpose in pairs if purpose == "search"}
    return [outcome for outcome, _ in pairs if outcome.candidate in tried]


def _purposes(record: TuningRecord) -> list[Purpose]:
    """What each outcome was for; "search" where the rounds do not tell."""
    counts = [a_round.outcomes for a_round in record.rounds]
    if min(counts, default=0) < 0 or sum(counts) != len(record.outcomes):
        return ["search"] * len(record.outcomes)
    return [a_round.purpose for a_round in record.rounds for _ in range(a_round.outcomes)]


def _kind(outcome: Outcome) -> str:
    if isinstance(outcome, Measurement):
        return "measured"
    return "out_of_memory" if isinstance(outcome, OutOfMemory) else outcome.kind


def _point(
    candidate: Candidate,
    outcomes: Sequence[Outcome],
    forecast: Forecast | None,
    record: TuningRecord,
) -> Point:
    bound = forecast.upper_bound_bytes if forecast else None
    parts = [outcome for outcome in outcomes if isinstance(outcome, Measurement)]
    against = _against(outcomes)
    if against is not None or not parts:
        return Point(
            candidate=candidate,
            outcome=_kind(against) if against else "refused",
            forecast_bytes=bound,
            message=against.message if against else "",
        )
    calm = [part for part in parts if not part.is_disturbed]
    believed = calm if len(calm) >= ENOUGH else parts
    whole, together = merged(parts), merged(believed)
    speed = speed_from([math.log(speed_of(part)) for part in believed])
    limits = excesses(together, record.goal, record.memory_limit_bytes)
    return Point(
        candidate=candidate,
        outcome="measured",
        rows_per_s=speed.rows_per_s,
        rows_per_s_low=speed.low,
        rows_per_s_high=speed.high,
        latency_s=together.latency_s,
        latency_quantile_s=latency_quantile_s(together, record.goal.quantile),
        peak_bytes=whole.peak_bytes,
        forecast_bytes=bound,
        calls=len(whole.times_s),
        blocks=len(parts),
        disturbed=whole.disturbed / len(whole.times_s),
        over=tuple(limit for limit, excess in limits.items() if excess > 0),
    )


def _against(outcomes: Sequence[Outcome]) -> OutOfMemory | Failure | None:
    """What speaks against a candidate; that others took the memory only where nothing else is."""
    bad = [outcome for outcome in outcomes if not isinstance(outcome, Measurement)]
    own = [o for o in bad if isinstance(o, OutOfMemory) or o.kind != "stopped"]
    measured = len(bad) < len(outcomes)
    return next(iter(own or ([] if measured else bad)), None)
