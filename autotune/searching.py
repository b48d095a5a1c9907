"""`search`: ask the driver what to try, probe it, tell what came of it, until it is settled.

`search` reads no clock and knows no model: given the same seed and the same outcomes it tries
the same candidates, on a GPU as on a simulated device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, get_args

from autotune.driver import Driver, Strategy
from autotune.errors import InvalidInput
from autotune.goal import MOST_ROWS_PER_SECOND, Goal
from autotune.judging import Lane
from autotune.outcomes import Candidate, Probe
from autotune.records import Progress, TuningRecord
from autotune.studies import study_in_memory

if TYPE_CHECKING:
    import optuna

MOST_IN_FLIGHT = 256  # threads; far more than any machine gains from


def search(
    probe: Probe,
    goal: Goal = MOST_ROWS_PER_SECOND,
    *,
    engines: Sequence[str] = ("keras",),
    concurrency: Sequence[int] = (1,),
    budget_s: float = 60.0,
    memory_limit_bytes: int | None = None,
    study: optuna.Study | None = None,
    strategy: Strategy = "ladder",
    seed: int = 0,
    on_event: Callable[[Progress], None] | None = None,
    baselines: Sequence[Candidate] = (),
    lanes: Sequence[Lane] | None = None,
) -> TuningRecord:
    """Find the candidate that serves a goal best, by trying candidates with a probe.

    Args:
        probe: Tries one candidate; the float is the seconds to spend on timed calls. Time is
            counted by the `elapsed_s` of what it returns.
        goal: What to maximise, and under which limits.
        engines: Engines to try.
        concurrency: Numbers of batches in flight to try.
        budget_s: Seconds for all probes; the last one begun may exceed it.
        memory_limit_bytes: Most memory a candidate may use; a size whose forecast is above it
            is not tried. The goal's memory budget holds as well.
        study: An Optuna study to write to and go on from; by default one in memory.
        strategy: "ladder" doubles and refines; "sampler" tries what the study's own sampler
            proposes. Both then time the best side by side until one is the answer.
        seed: Seed for the order of probes.
        on_event: Called before and after each probe.
        baselines: Measured afresh beside the answer, to compare it with; never the answer.
        lanes: What to try, each an engine, a number of batches in flight and the threads of one
            call (None for the engine's own choice), in place of each engine with each
            concurrency. The first is climbed from the smallest size up; the others are looked at.

    Returns:
        The record, with `recommendation` set.

    Raises:
        NoFeasibleBatchSize: Nothing that was tried is within the limits; the error carries the
            record.
        InvalidInput: An argument is out of range.

    Example:
        A device on which a batch takes 1 ms and 10 µs a row:

        >>> from autotune import Measurement
        >>> def probe(candidate, seconds):
        ...     call_s = 0.001 + 0.00001 * candidate.batch_size
        ...     return Measurement(candidate, (call_s,) * 5, elapsed_s=seconds)
        >>> record = search(probe, Goal(max_batch_size=512))
        >>> record.recommendation.batch_size
        512
    """
    check_arguments(engines, concurrency, budget_s, strategy)
    lanes = lanes or [(engine, n, None) for engine in engines for n in concurrency]
    if len({lane[:2] for lane in lanes}) < len(lanes):
        raise InvalidInput(
            "lanes must hold each engine with each concurrency once, with one number of threads."
        )
    driver = Driver(
        goal,
        lanes=lanes,
        budget_s=budget_s,
        memory_limit_bytes=memory_limit_bytes,
        study=study or study_in_memory(sampled=strategy == "sampler", seed=seed),
        strategy=strategy,
        seed=seed,
        baselines=baselines,
    )
    tell = on_event or (lambda _: None)
    while (ask := driver.ask()) is not None:
        try:
            tell(driver.progress(ask[0], None))
            outcome = probe(*ask)
        except BaseException:
            driver.abandon()
            raise
        driver.tell(outcome)
        tell(driver.progress(ask[0], outcome))
    return driver.record()


def check_arguments(
    engines: Sequence[str], concurrency: Sequence[int], budget_s: float, strategy: str
) -> None:
    """Check arguments of `search`, before anything slow begins.

    Raises:
        InvalidInput: One is out of range; the message names it.
    """
    if isinstance(engines, str) or not engines:
        raise InvalidInput(f"engines must be a sequence of names, but got {engines!r}.")
    if not concurrency or any(
        not isinstance(n, int) or not 1 <= n <= MOST_IN_FLIGHT for n in concurrency
    ):
        raise InvalidInput(
            f"concurrency must hold whole numbers from 1 to {MOST_IN_FLIGHT}, "
            f"but got {list(concurrency)}."
        )
    if not 0 < budget_s < float("inf"):
        raise InvalidInput(f"budget_s must be a positive number of seconds, but got {budget_s!r}.")
    if strategy not in get_args(Strategy):
        known = ", ".join(get_args(Strategy))
        raise InvalidInput(f"strategy must be one of {known}, but got {strategy!r}.")
