"""What a record says, in sentences: the same on the terminal, on the page and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from autotune.curves import lane_name
from autotune.outcomes import Candidate, Failure
from autotune.records import Baseline, Forecast, Recommendation, TuningRecord
from autotune.shortfall import why_nothing
from autotune.units import format_bytes, format_rate, format_seconds

NAMED = 3  # failures
LEAST_TIMES = 0.95  # from here on a digit behind the point is enough


def printable(text: str, limit: int = 300) -> str:
    """Return text from outside as one line that cannot move the cursor or change a colour."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


def answer(record: TuningRecord) -> str:
    """Say in one sentence what to run, and what it is worth."""
    chosen = record.recommendation
    if chosen is None:
        refused = {f.candidate: f.upper_bound_bytes for f in refused_of(record)}
        limit = record.memory_limit_bytes
        return printable(why_nothing(record.outcomes, record.goal, limit, refused), 1_000)
    compared = gains(record).items()
    told = [f"{times} times {baseline_name(baseline)}" for baseline, times in compared]
    worth = format_rate(chosen.rows_per_s)
    if record.goal.objective == "latency":
        worth = f"{format_seconds(chosen.latency_s)} a batch"
    elif chosen.makespan_s is not None and record.goal.rows:
        worth = f"all {record.goal.rows:,} rows in {format_seconds(chosen.makespan_s)}, {worth}"
    size, lane = chosen.batch_size, lane_name(chosen.candidate)
    sentence = f"Batches of {counted(size, 'row')} with {lane}: {worth}"
    return f"{', '.join([sentence, ' and '.join(told)] if told else [sentence])}."


def gains(record: TuningRecord) -> dict[Candidate, str]:
    """How many times as many rows a second the answer runs, by baseline.

    Nothing where the smallest latency was asked for: it is had by running fewer rows a second.
    """
    chosen = record.recommendation
    if chosen is None or record.goal.objective == "latency":
        return {}
    found = {baseline.candidate: times_faster(chosen, baseline) for baseline in record.baselines}
    return {candidate: times for candidate, times in found.items() if times}


def why(chosen: Recommendation) -> str:
    """Why this candidate and no larger one: the reason without its first sentence, the answer."""
    return chosen.reason.partition(". ")[2] or chosen.reason


def baseline_name(candidate: Candidate) -> str:
    """Name a baseline as people call it.

    Example:
        >>> baseline_name(Candidate(1024, "predict")), baseline_name(Candidate(32))
        ('model.predict', 'predict_on_batch')
    """
    is_reference = candidate.engine == "keras"
    return "predict_on_batch" if is_reference else printable(f"model.{candidate.engine}")


def times_faster(chosen: Recommendation, baseline: Baseline) -> str:
    """By which factor the answer is faster, as "9.5"; "" where the record makes no sense."""
    if not (chosen.rows_per_s > 0 and baseline.rows_per_s > 0):
        return ""
    times = chosen.rows_per_s / baseline.rows_per_s
    return f"{times:.1f}" if times >= LEAST_TIMES else f"{times:.2g}"


def interval(speed: Recommendation | Baseline) -> str:
    """The 95 % interval of a speed; "" where there is none."""
    if speed.rows_per_s_low is None or speed.rows_per_s_high is None:
        return ""
    return f"{format_rate(speed.rows_per_s_low)} to {format_rate(speed.rows_per_s_high)}"


def confidence(chosen: Recommendation) -> str:
    """How sure the choice is, and how it can be made surer."""
    if chosen.confidence == "high":
        return "high: settled at 95 %"
    if chosen.more_s is None:
        return "low: the time budget ended before it was settled"
    return f"low: about {format_seconds(chosen.more_s)} more would settle it (--budget)"


def listed(candidates: Sequence[Candidate], most: int) -> str:
    """Name some candidates, those of a lane together, and count what is more than so many lanes.

    Example:
        >>> listed([Candidate(8), Candidate(16), Candidate(32, "xla")], most=1)
        'keras: 8, 16 rows; and 1 more'
    """
    lanes: dict[str, list[str]] = {}
    for candidate in candidates:
        lanes.setdefault(lane_name(candidate), []).append(f"{candidate.batch_size:,}")
    named = [
        f"{lane}: {', '.join(sizes)} row{'s' * (sizes != ['1'])}"
        for lane, sizes in list(lanes.items())[:most]
    ]
    more = sum(len(sizes) for sizes in list(lanes.values())[most:])
    return "; ".join([*named, f"and {more} more"] if more else named)


def forecasts_kept(record: TuningRecord) -> str:
    """How the forecasts of memory came out; "" where there were none."""
    met = [f for f in record.forecasts if f.peak_bytes is not None]
    above = sum((f.peak_bytes or 0) > f.upper_bound_bytes for f in met)
    return f"{above or 'none'} of {len(met)} peaks above the forecast's bound" if met else ""


def refused_of(record: TuningRecord) -> list[Forecast]:
    """Forecasts of the candidates that were not tried for want of memory."""
    return [f for f in record.forecasts if f.peak_bytes is None]


def least_refused(record: TuningRecord) -> str:
    """The least that was not tried for want of memory; "" where everything was."""
    refused = refused_of(record)
    if not refused:
        return ""
    least = min(refused, key=lambda f: f.upper_bound_bytes)
    return f"{printable(str(least.candidate))}: it may need {format_bytes(least.upper_bound_bytes)}"


def effort(record: TuningRecord) -> str:
    """What the search took, and how much of it something else disturbed."""
    probes = counted(len(record.outcomes), "probe")
    text = f"{probes}, {format_seconds(record.spent_s)}"
    disturbed = sum(a_round.disturbed for a_round in record.rounds)
    if disturbed:
        text += f"; other work on the machine disturbed {disturbed} of them"
    return text


def notes(record: TuningRecord) -> list[str]:
    """What a reader should know before trusting the figures."""
    unavailable = [f"Not tried: {name}. {why}" for name, why in record.unavailable.items()]
    failed = [] if record.recommendation else failures(record)
    return [*record.warnings, *unavailable, *failed]


def failures(record: TuningRecord) -> list[str]:
    """What failed, those of a lane that failed alike together; the first few, and how many more."""
    alike: dict[tuple[str, str], list[Candidate]] = {}
    for outcome in record.outcomes:
        if isinstance(outcome, Failure):
            why = ": ".join(filter(None, (outcome.kind.replace("_", " "), outcome.message)))
            same = alike.setdefault((lane_name(outcome.candidate), why), [])
            if outcome.candidate not in same:
                same.append(outcome.candidate)
    told = [f"Failed: {listed(same, 1)}: {why}" for (_, why), same in list(alike.items())[:NAMED]]
    more = sum(len(same) for same in list(alike.values())[NAMED:])
    return [*told, f"{more} more failed."] if more else told


def counted(number: int, thing: str) -> str:
    """Return a number of things.

    Example:
        >>> counted(1, "row"), counted(2_000, "row")
        ('1 row', '2,000 rows')
    """
    return f"{number:,} {thing}{'s' * (number != 1)}"
