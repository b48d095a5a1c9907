"""What a search writes into its Optuna study, a trial a probe, and reads again when it goes on."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from autotune.errors import InvalidInput
from autotune.outcomes import Candidate, Failure, Outcome

if TYPE_CHECKING:
    import optuna

_CANDIDATE, _OUTCOME, _ABANDONED = "candidate", "outcome", "abandoned"
_FATAL_TRIES = 2  # a candidate that ended the tuner itself this often is not tried again


class Ledger:
    """Writes probes to a study as trials, and reads them back.

    Args:
        study: The study; its one direction must be "maximize".
        engines: Engines that may be tried.
        max_concurrency: Most batches in flight that may be tried.
        bounds: Smallest and largest batch size that may be tried.

    Raises:
        InvalidInput: The study minimises, or has several objectives.
    """

    def __init__(
        self,
        study: optuna.Study,
        engines: Sequence[str],
        max_concurrency: int,
        bounds: tuple[int, int],
    ) -> None:
        if [direction.name for direction in study.directions] != ["MAXIMIZE"]:
            raise InvalidInput('The study must have one objective, with direction="maximize".')
        self._study = study
        self._trial: optuna.Trial | None = None
        self._engines = list(engines)
        self._max_concurrency = max_concurrency
        self._bounds = bounds

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes of all finished probes, in their order."""
        import optuna

        trials = self._study.get_trials(deepcopy=False)
        read = [
            msgspec.convert(trial.user_attrs[_OUTCOME], Outcome)
            for trial in trials
            if _OUTCOME in trial.user_attrs and trial.state == optuna.trial.TrialState.COMPLETE
        ]
        return [*read, *self._fatal(trials)]

    def _fatal(self, trials: Sequence[optuna.trial.FrozenTrial]) -> Iterator[Outcome]:
        """A failure for each candidate that the tuner did not survive, more than once."""
        import optuna

        lost = [
            msgspec.convert(trial.user_attrs[_CANDIDATE], Candidate)
            for trial in trials
            if trial.state == optuna.trial.TrialState.FAIL
            and _CANDIDATE in trial.user_attrs
            and _ABANDONED not in trial.user_attrs
        ]
        for candidate in dict.fromkeys(lost):
            if lost.count(candidate) >= _FATAL_TRIES:
                message = f"The tuner itself ended {lost.count(candidate)} times while trying this."
                yield Failure(candidate, kind="crash", message=message)

    def begin(self, planned: Candidate) -> Candidate:
        """Write down what is about to be tried, and return it.

        That is what was planned, unless a trial already waits in the study: one that the caller
        has enqueued, or that a run which was killed did not come to.
        """
        import optuna

        while True:
            waiting = self._study.get_trials(
                deepcopy=False, states=(optuna.trial.TrialState.WAITING,)
            )
            if not waiting:
                self._study.enqueue_trial(
                    {
                        "batch_size": planned.batch_size,
                        "engine": planned.engine,
                        "concurrency": planned.concurrency,
                    }
                )
            elif not self._may_be_tried(waiting[0].system_attrs.get("fixed_params", {})):
                self._study.tell(self._study.ask(), state=optuna.trial.TrialState.FAIL)
                continue
            return self.propose(*self._bounds)

    def _may_be_tried(self, parameters: dict[str, Any]) -> bool:
        lowest, highest = self._bounds
        return (
            lowest <= parameters.get("batch_size", lowest) <= highest
            and parameters.get("engine", self._engines[0]) in self._engines
            and 1 <= parameters.get("concurrency", 1) <= self._max_concurrency
        )

    def propose(self, lowest: int, highest: int) -> Candidate:
        """Have the study propose a candidate with a batch size in a range: enqueued, or sampled."""
        trial = self._study.ask()
        candidate = Candidate(
            trial.suggest_int("batch_size", lowest, highest, log=True),
            trial.suggest_categorical("engine", self._engines),
            concurrency=trial.suggest_int("concurrency", 1, self._max_concurrency),
        )
        trial.set_user_attr(_CANDIDATE, msgspec.to_builtins(candidate))
        self._trial = trial
        return candidate

    def abandon(self) -> None:
        """Write down that the trial was broken off, as by Ctrl-C: that is not its fault."""
        import optuna

        if self._trial is not None:
            self._trial.set_user_attr(_ABANDONED, True)
            self._study.tell(self._trial, state=optuna.trial.TrialState.FAIL)
            self._trial = None

    def finish(self, outcome: Outcome, value: float, excesses: dict[str, float]) -> None:
        """Write down what came of it.

        Args:
            outcome: What the probe brought back.
            value: What the objective says; more is better, 0 where it did not run.
            excesses: Log ratios to the limits; above 0 is over.
        """
        assert self._trial is not None  # noqa: S101  begin and propose set it
        for key, excess in excesses.items():
            if not math.isfinite(excess):
                raise InvalidInput(f"The constraint {key!r} is {excess}, not a number.")
            self._trial.set_constraint(key, excess)
            # Told twice: optuna-dashboard does not read Optuna 5's constraints.
            self._trial.set_user_attr(f"constraint.{key}", excess)
        self._trial.set_user_attr(_OUTCOME, msgspec.to_builtins(outcome))
        # A sampler such as GridSampler stops the study when its space is used up, and that
        # raises outside Study.optimize; the trial is stored all the same.
        with contextlib.suppress(RuntimeError):
            self._study.tell(self._trial, value)
        self._trial = None
