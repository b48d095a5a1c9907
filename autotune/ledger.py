"""What a search writes into its Optuna study, a trial a probe, and reads again when it goes on."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from autotune.errors import InvalidInput
from autotune.judging import Lane, speed_of
from autotune.outcomes import Block, Candidate, Failure, Measurement

if TYPE_CHECKING:
    import optuna

_CANDIDATE, _BLOCK, _ABANDONED = "candidate", "block", "abandoned"
_FATAL_TRIES = 2  # a candidate that ended the tuner itself this often is not tried again


class Ledger:
    """Writes probes to a study as trials, and reads them back.

    Args:
        study: The study; its one direction must be "maximize".
        lanes: Engines, batches in flight and threads that may be tried; of each engine and number
            in flight, the threads of the first.
        bounds: Smallest and largest batch size that may be tried.
        value_name: What a trial's value is, for people; see `judging.value_name`.

    Raises:
        InvalidInput: The study minimises, or has several objectives.
    """

    def __init__(
        self,
        study: optuna.Study,
        lanes: Sequence[Lane],
        bounds: tuple[int, int],
        value_name: str = "",
    ) -> None:
        import optuna

        if [direction.name for direction in study.directions] != ["MAXIMIZE"]:
            raise InvalidInput('The study must have one objective, with direction="maximize".')
        self._study = study
        self._trial: optuna.Trial | None = None
        self._aside: optuna.Trial | None = None
        self._engines = list(dict.fromkeys(engine for engine, _, _ in lanes))
        self._flights = sorted({flights for _, flights, _ in lanes})
        self._threads = {(engine, flights): threads for engine, flights, threads in reversed(lanes)}
        self._bounds = bounds
        if value_name and study.metric_names is None:
            with warnings.catch_warnings():  # Optuna may yet change how a name is given
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names([value_name])

    def blocks(self) -> list[Block]:
        """Return all finished probes, in their order."""
        trials = self._study.get_trials(deepcopy=False)
        read = [
            msgspec.json.decode(trial.user_attrs[_BLOCK], type=Block)
            for trial in trials
            if _BLOCK in trial.user_attrs
        ]
        in_order = sorted(read, key=lambda block: block.round)  # a proposal may have had to wait
        survived = {b.outcome.candidate for b in read if isinstance(b.outcome, Measurement)}
        return [*self._fatal(trials, survived), *in_order]

    def _fatal(
        self, trials: Sequence[optuna.trial.FrozenTrial], survived: set[Candidate]
    ) -> Iterator[Block]:
        """A failure for each candidate that the tuner did not survive, twice and never once."""
        import optuna

        lost = [
            msgspec.convert(trial.user_attrs[_CANDIDATE], Candidate)
            for trial in trials
            if trial.state == optuna.trial.TrialState.FAIL
            and _CANDIDATE in trial.user_attrs
            and not trial.user_attrs.keys() & {_ABANDONED, _BLOCK}
        ]
        for candidate in dict.fromkeys(lost):
            if lost.count(candidate) >= _FATAL_TRIES and candidate not in survived:
                message = f"The tuner itself ended {lost.count(candidate)} times while trying this."
                yield Block(Failure(candidate, kind="crash", message=message), 0)

    def wish(self) -> Candidate | None:
        """Take up a trial that waits in the study, if there is one, and return what it asks for.

        It is one that the caller has enqueued, or that a run which was killed did not come to.
        """
        import optuna

        waiting_state = (optuna.trial.TrialState.WAITING,)
        while waiting := self._study.get_trials(deepcopy=False, states=waiting_state):
            if self._may_be_tried(waiting[0].system_attrs.get("fixed_params", {})):
                wish = self.propose()
                self.start(wish)
                return wish
            self._study.tell(self._study.ask(), state=optuna.trial.TrialState.FAIL)
        return None

    def begin(self, planned: Candidate) -> None:
        """Write down what is about to be tried."""
        parameters = {
            "batch_size": planned.batch_size,
            "engine": planned.engine,
            "concurrency": planned.concurrency,
        }
        if self._may_be_tried(parameters):
            self._study.enqueue_trial(parameters)
            self.propose()
        else:  # a baseline outside the space that is searched: no sampler shall learn from it
            self._trial = self._study.ask()
        self.start(planned)

    def _may_be_tried(self, parameters: dict[str, Any]) -> bool:
        lowest, highest = self._bounds
        return (
            lowest <= parameters.get("batch_size", lowest) <= highest
            and parameters.get("engine", self._engines[0]) in self._engines
            and parameters.get("concurrency", self._flights[0]) in self._flights
        )

    def propose(self) -> Candidate:
        """Have the study propose a candidate: an enqueued one, or what its sampler thinks."""
        trial = self._study.ask()
        self._trial = trial
        with warnings.catch_warnings():  # a grid may go beyond the bounds; that is seen later
            warnings.filterwarnings("ignore", "The value .* is out of range", UserWarning)
            size = trial.suggest_int("batch_size", *self._bounds, log=True)
            engine = trial.suggest_categorical("engine", self._engines)
            flights = trial.suggest_int("concurrency", 1, self._flights[-1])
        threads = self._threads.get((engine, flights))
        return Candidate(size, engine, concurrency=flights, threads=threads)

    def start(self, candidate: Candidate) -> None:
        """Write down that the proposed candidate is tried now: the tuner may not survive it."""
        assert self._trial is not None  # noqa: S101  propose set it
        self._trial.set_user_attr(_CANDIDATE, msgspec.to_builtins(candidate))

    def set_aside(self) -> None:
        """Keep the proposal for later, and others may be tried before it."""
        self._aside, self._trial = self._trial, None

    def take_up(self) -> None:
        """Go back to the proposal that was set aside."""
        self._trial, self._aside = self._aside, None

    def abandon(self) -> None:
        """Write down that the trial was broken off, as by Ctrl-C: that is not its fault."""
        import optuna

        if self._trial is not None:
            self._trial.set_user_attr(_ABANDONED, True)
            self._study.tell(self._trial, state=optuna.trial.TrialState.FAIL)
            self._trial = None

    def refuse(self, excesses: dict[str, float]) -> None:
        """Write down that the proposal is not tried, because it would exceed these limits."""
        assert self._trial is not None  # noqa: S101  propose set it
        self._constrain({"latency": 0.0, "memory": 0.0, "runs": 0.0} | excesses)
        self._tell(0.0)

    def _constrain(self, excesses: dict[str, float]) -> None:
        assert self._trial is not None  # noqa: S101  begin and propose set it
        for key, excess in excesses.items():
            if not math.isfinite(excess):
                raise InvalidInput(f"The constraint {key!r} is {excess}, not a number.")
            self._trial.set_constraint(key, excess)
        # Told twice: optuna-dashboard knows the list of Optuna 4 only, by which it tells trials
        # that are within the limits from others.
        self._trial.storage.set_trial_system_attr(
            self._trial._trial_id, "constraints", list(excesses.values())
        )

    def finish(self, block: Block, value: float, excesses: dict[str, float]) -> None:
        """Write down what came of it.

        Args:
            block: What the probe brought back, and in which round.
            value: What the objective says; more is better, 0 where it did not run.
            excesses: Log ratios to the limits; above 0 is over.
        """
        assert self._trial is not None  # noqa: S101  begin and propose set it
        self._constrain(excesses)
        for name, figure in figures_of(block, excesses).items():
            self._trial.set_user_attr(name, figure)
        # As text: Optuna copies attributes often, and a thousand numbers take it a while.
        self._trial.set_user_attr(_BLOCK, msgspec.json.encode(block).decode())
        self._tell(value)

    def _tell(self, value: float) -> None:
        import optuna

        assert self._trial is not None  # noqa: S101  whoever tells has asked
        failed = optuna.trial.TrialState.FAIL
        # GridSampler stops the study when its space is used up, which raises outside
        # Study.optimize, and looks for a mark that enqueued trials lack. The trial is stored.
        with contextlib.suppress(RuntimeError, KeyError):
            if self._trial.params:
                self._study.tell(self._trial, value)
            else:
                self._study.tell(self._trial, state=failed)
        self._trial = None


def figures_of(block: Block, excesses: dict[str, float]) -> dict[str, str | float]:
    """What a person who looks at a trial wants to know of it, by name and unit.

    Example:
        >>> from autotune import Measurement
        >>> block = Block(Measurement(Candidate(8), (0.01, 0.01)), 3, "search")
        >>> figures_of(block, {"latency": 0.2, "memory": -1.0, "runs": 0.0})
        {'came_of_it': 'over the limit of latency', 'rows_per_s': 800.0, 'latency_s': 0.01}
    """
    outcome = block.outcome
    if not isinstance(outcome, Measurement):
        failed = outcome.kind.replace("_", " ") if isinstance(outcome, Failure) else "out of memory"
        return {"came_of_it": failed, **({"why": outcome.message} if outcome.message else {})}
    over = [limit for limit, excess in excesses.items() if excess > 0]
    figures: dict[str, str | float] = {
        "came_of_it": f"over the limit of {' and '.join(over)}" if over else "within the limits",
        "rows_per_s": round(speed_of(outcome), 3),
        "latency_s": outcome.latency_s,
    }
    if outcome.peak_bytes is not None:
        figures["peak_bytes"] = outcome.peak_bytes
    return figures
