"""Comparing what was timed side by side: levels of candidates, tides of rounds, gaps between.

On a shared machine everything can run at half speed for seconds at a time. Candidates of one
round share that, so their ratio does not show it; two speeds from different times do. So each
value, as a logarithm, is taken for the candidate's level, plus the round's tide, plus noise. That
is what paired log ratios within rounds amount to, when all pairs are used at once: A against B
also tells of C, which met both.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

# 97.5 % points of Student's t for 1 to 9 degrees of freedom; above, a series is exact enough.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

FIRST_GUESS = 0.02  # standard deviation of a block's logarithm, until there are some
LEAST_NOISE = 0.0015  # as a log ratio: clocks and counters are no better
TUNING = 1.5  # Huber's constant: from so many standard deviations on, weights fall
LEAST_FREE = 4  # degrees of freedom before the noise is measured
SWEEPS, LAST_SWEEPS = 5, 3
# Weight of all disturbed blocks of a candidate together: they tell a little, but more of them not
# more, since what a neighbour takes from one candidate and not from another is no noise.
DISTURBED = 0.1
ALWAYS = 0.9  # share of disturbed blocks
RIDGE = 1e-9  # keeps the equations solvable, whatever the weights
# Weight, in blocks, of the guess that a round is like the others: until they have shown it, and at
# most. A machine may be slow for several rounds in a row, which no interval sees.
CALM, MOST_CALM = 0.03, 0.25
LEAST_TIDE = 0.02  # standard deviation of what a machine does over minutes, as a log ratio
LEAST_ROUNDS = 6  # before their spread tells anything
OF_NOISE = 0.5  # of the variance that a candidate shows from round to round; the rest are tides

Name = TypeVar("Name", bound=Hashable)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gap:
    """By how much one candidate is ahead of another.

    Attributes:
        log_ratio: Logarithm of the ratio of their values; 0.02 is 2 %.
        half_width: Half of its 95 % interval.
    """

    log_ratio: float
    half_width: float

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.log_ratio - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.log_ratio + self.half_width


def t_quantile(degrees: int) -> float:
    """97.5 % point of Student's t.

    Source: the Cornish-Fisher series in 1/degrees (Abramowitz and Stegun, 26.7.5).

    Example:
        >>> round(t_quantile(30), 3)
        2.042
    """
    if degrees <= len(_T):
        return _T[degrees - 1]
    return 1.95996 + 2.37227 / degrees + 2.82250 / degrees**2 + 2.55585 / degrees**3


def are_always(disturbed: Sequence[bool]) -> bool:
    """Whether nearly all of some blocks were disturbed: then that is how this machine is now.

    No block is worth less than another then.
    """
    return sum(disturbed) > ALWAYS * len(disturbed)


class Fit(Generic[Name]):
    """Levels and tides that fit all rounds best, blind to the few values that fit in nowhere.

    Huber's estimate (Huber 1964) by iterated least squares, begun from least absolute
    deviations, which have one minimum only; that a tide is like the others is believed the less
    the further it lies from them.

    Args:
        rounds: For each round, each candidate's value as a logarithm, and whether it was
            disturbed.
        alike: Whether rounds tell of each other, as far as their tides are alike. Good for many
            rounds whose candidates come and go; a few, of which the last hold others than the
            first, would take a machine that wanders for a gap.

    Attributes:
        levels: For each candidate, the logarithm of its value in a calm round.
        tides: For each round, how far all its values lie above or below that.
        noise: Standard deviation of the logarithm of a block's value.
        is_guess: Whether that is guessed, for want of blocks to measure it by.

    Example:
        The second round ran at half speed:

        >>> fit = Fit([{"a": (0.0, False), "b": (1.0, False)},
        ...            {"a": (-0.7, False), "b": (0.3, False), "c": (0.8, False)},
        ...            {"b": (1.0, False), "c": (1.5, False)}])
        >>> round(fit.gap("c", "a").log_ratio, 2)
        1.5
    """

    def __init__(
        self, rounds: Sequence[Mapping[Name, tuple[float, bool]]], *, alike: bool = False
    ) -> None:
        self._alike = alike
        self._index: dict[Name, int] = {}
        for values in rounds:
            for name in values:
                self._index.setdefault(name, len(self._index))
        shape = len(rounds), len(self._index)
        self._values, self._believed = np.zeros(shape), np.zeros(shape)
        for row, values in enumerate(rounds):
            for name, (value, disturbed) in values.items():
                column = self._index[name]
                self._values[row, column] = value
                self._believed[row, column] = -1.0 if disturbed else 1.0
        disturbances = np.maximum(1, (self._believed < 0).sum(axis=0))
        self._believed = np.where(self._believed < 0, DISTURBED / disturbances, self._believed)
        self._levels, self._tides = np.zeros(shape[1]), np.zeros(shape[0])
        self.noise, self._free, self.is_guess = FIRST_GUESS, LEAST_FREE, True
        if rounds:
            self._settle()
        self.levels = dict(zip(self._index, self._levels.tolist(), strict=True))
        self.tides: list[float] = self._tides.tolist()

    def _settle(self) -> None:
        # What a neighbour slowed down is like nothing else.
        belief = self._believed.max(axis=1, initial=0.0)
        belief[belief == 0] = 1.0  # a round without values
        weights, calm = self._believed, CALM * belief
        for sweep in range(SWEEPS + LAST_SWEEPS):
            self._solve(weights, calm)
            residuals, tides = np.abs(self._residuals()), np.abs(self._tides)
            likeness, width, far = CALM, LEAST_NOISE, LEAST_NOISE
            if sweep >= SWEEPS:
                width = TUNING * self._measure_noise(residuals, weights, calm)
                likeness = self._measure_likeness(weights, calm)
                far = TUNING * self.noise / math.sqrt(likeness)
            weights = self._believed * np.minimum(1.0, width / np.maximum(residuals, 1e-12))
            calm = likeness * belief * np.minimum(1.0, far / np.maximum(tides, 1e-12)) ** 2
        self._inverse = np.linalg.inv(self._matrix)
        # By how much each round pulls each level: what rounds scatter may be more than the noise.
        self._pulls: Floats = weights * self._residuals()

    def _residuals(self) -> Floats:
        fitted = self._levels[None, :] + self._tides[:, None]
        return np.where(self._believed > 0, self._values - fitted, 0.0)

    def _solve(self, weights: Floats, calm: Floats) -> None:
        """Weighted least squares, the tides eliminated."""
        total = weights.sum(axis=1) + calm
        share = weights / total[:, None]
        self._matrix = np.diag(weights.sum(axis=0) + RIDGE) - weights.T @ share
        right = (weights * self._values).sum(axis=0) - share.T @ (weights * self._values).sum(
            axis=1
        )
        self._levels = np.linalg.solve(self._matrix, right)
        self._tides = (weights * (self._values - self._levels)).sum(axis=1) / total

    @cached_property
    def _guessed_noise(self) -> float:
        """What the noise may be while residuals are too few: by how much each candidate scatters.

        Part of that are tides. But with less noise than there is, each new candidate that was lucky
        would raise the tide of its round, and with it all who are timed beside it.
        """
        shared = (self._believed > 0).sum(axis=1) > 1  # else tides are all that it might be
        far: list[float] = []
        for values, believed in zip(self._values[shared].T, self._believed[shared].T, strict=True):
            own = values[believed == 1.0]
            far += np.sort(np.abs(own - np.median(own)))[1:].tolist() if len(own) > 1 else []
        if len(far) < LEAST_FREE:
            return FIRST_GUESS
        return max(FIRST_GUESS, 1.4826 * math.sqrt(OF_NOISE) * float(np.median(far)))

    def _measure_noise(self, residuals: Floats, weights: Floats, calm: Floats) -> float:
        """Standard deviation of the noise, from the middle of the residuals.

        Of the undisturbed ones; of all, where those are too few to tell.
        """
        # A tide that is guessed in part takes a part of a degree of freedom.
        tides = 1 / (1 + calm / np.maximum(weights.sum(axis=1), 1e-12))
        for telling in (self._believed == 1.0, self._believed > 0):
            telling &= telling.sum(axis=1, keepdims=True) > 1
            found, rounds = np.sort(residuals[telling]), telling.any(axis=1)
            levels, used = int(telling.any(axis=0).sum()), float(tides[rounds].sum())
            free = int(len(found) - used - levels + used / max(1, int(rounds.sum())))
            if free >= max(LEAST_FREE, len(found) / 4):
                # The fit passes through as many values as it has levels and tides: these tell
                # nothing.
                self.noise = max(LEAST_NOISE, 1.4826 * float(np.median(found[-free:])))
                self._free = free
                break
        else:
            if self._alike:
                self.noise, self._free = self._guessed_noise, LEAST_FREE
        self.is_guess = self._free == LEAST_FREE
        return self.noise

    def _measure_likeness(self, weights: Floats, calm: Floats) -> float:
        """Weight of the guess that a round is like the others: a block's variance over the tides'.

        So much do rounds tell of each other that share no candidate (Yates 1940, "The recovery of
        inter-block information").
        """
        total = weights.sum(axis=1)
        told = total > 1
        if not self._alike or self.is_guess or int(told.sum()) < LEAST_ROUNDS:
            return CALM
        total, tides = total[told], self._tides[told]
        tides = tides * (1 + calm[told] / total)  # as they were without the guess
        spread = 1.4826 * float(np.median(np.abs(tides - np.median(tides))))
        own = self.noise**2 * float(np.median(1 / total))
        likeness = self.noise**2 / max(LEAST_TIDE**2, spread**2 - own)
        return min(MOST_CALM, max(CALM, likeness))

    def gap(self, ahead: Name, behind: Name) -> Gap:
        """By how much one candidate is ahead of another, with a 95 % interval."""
        a, b = self._index[ahead], self._index[behind]
        if a == b:
            return Gap(0.0, 0.0)
        direction = self._inverse[a] - self._inverse[b]
        by_noise = self.noise**2 * (direction[a] - direction[b])
        by_scatter = float(((self._pulls @ direction) ** 2).sum())  # White 1980, by rounds
        variance = max(by_noise, by_scatter)
        log_ratio = float(self._levels[a] - self._levels[b])
        return Gap(log_ratio, t_quantile(self._free) * math.sqrt(variance))
