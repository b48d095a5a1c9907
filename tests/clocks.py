"""A clock on the wall, and that of a machine which stands still at times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Clocks:
    """Goes back and forth between the two.

    Attributes:
        wall_s: Moments of the one at which a standstill begins or ends.
        running_s: The same of the other, which goes on between them alone.
    """

    wall_s: Floats
    running_s: Floats

    @classmethod
    def of(cls, per_s: float, lengths_s: Sequence[float], count: int) -> Clocks:
        """Let standstills come at random, one in each `1 / per_s` seconds that it runs."""
        random = np.random.default_rng(0)
        begins_s = (np.arange(count) + random.random(count)) / per_s
        each_s = random.permutation(np.resize(lengths_s, count))
        before_s = np.cumsum(each_s) - each_s
        wall_s = np.stack([begins_s + before_s, begins_s + before_s + each_s], axis=1).ravel()
        return cls(np.append(0.0, wall_s), np.append(0.0, np.repeat(begins_s, 2)))

    def to_running(self, wall_s: Floats) -> Floats:
        """What the machine has run at each moment, the last standstill not over."""
        found: Floats = np.interp(wall_s, self.wall_s, self.running_s)
        return found

    def to_wall(self, running_s: Floats) -> Floats:
        """When the machine has run so long."""
        found: Floats = np.interp(running_s, self.running_s, self.wall_s)
        return found
