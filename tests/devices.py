"""Simulated devices with the troubles of real ones: the shape of a probe, and free time.

What is true is known, so a search can be judged: `Device.truth`, `Device.smallest`,
`Device.regret`. `tests/families.py` draws devices of many kinds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from autotune import Candidate, Measurement, Outcome, OutOfMemory

Floats = npt.NDArray[np.float64]
Sizes = npt.NDArray[np.int64]

SHORTEST_S = 20e-6  # no call returns sooner
FEWEST_CALLS, MOST_CALLS = 3, 1000  # timed calls of a probe
WARM_UP_CALLS = 2
MAX_ROWS = 65_536


@dataclass(frozen=True)
class Latency:
    """Seconds of a batch, when nothing disturbs it.

    Attributes:
        call_s: Seconds of an empty call.
        row_s: Seconds a row.
        tile: Rows are computed in groups of so many; a group begun is paid for in full.
        cliff_at: From this batch size on, rows take `cliff` times as long.
        cliff: See `cliff_at`.
        switches: Batch sizes from which another algorithm is used, each with the factor on
            `row_s` and the factor on `call_s` that hold from there on.
        floor_s: No batch takes less.
    """

    call_s: float
    row_s: float
    tile: int = 1
    cliff_at: int | None = None
    cliff: float = 1.0
    switches: tuple[tuple[int, float, float], ...] = ()
    floor_s: float = SHORTEST_S

    def __call__(self, sizes: Sizes) -> Floats:
        """Seconds of a batch of each of these sizes."""
        call_s = np.full(sizes.shape, self.call_s)
        row_s = np.full(sizes.shape, self.row_s)
        for begins, row_factor, call_factor in self.switches:
            row_s[sizes >= begins] = self.row_s * row_factor
            call_s[sizes >= begins] = self.call_s * call_factor
        if self.cliff_at is not None:
            row_s[sizes >= self.cliff_at] *= self.cliff
        computed = -(-sizes // self.tile) * self.tile
        latency_s: Floats = np.maximum(call_s + row_s * computed, self.floor_s)
        return latency_s


@dataclass(frozen=True)
class Memory:
    """Peak bytes of a batch.

    Attributes:
        base_bytes: Memory of the weights.
        row_bytes: Memory a row.
        jump_at: From this batch size on, a workspace adds a share of the peak.
        jump: That share.
    """

    base_bytes: float
    row_bytes: float
    jump_at: int | None = None
    jump: float = 0.0

    def __call__(self, sizes: Sizes) -> Floats:
        """Peak bytes of a batch of each of these sizes."""
        peaks: Floats = self.base_bytes + self.row_bytes * sizes.astype(np.float64)
        if self.jump_at is not None:
            peaks[sizes >= self.jump_at] *= 1 + self.jump
        return peaks


@dataclass(frozen=True)
class Neighbour:
    """Something else on the machine, which comes and goes.

    Attributes:
        idle_s: Mean seconds of its absence; the spells are exponential.
        busy_s: Mean seconds of its presence.
        slowdown: How many times as long everything takes meanwhile.
    """

    idle_s: float
    busy_s: float
    slowdown: float


@dataclass(frozen=True)
class Troubles:
    """What keeps a device from taking the same time twice.

    Attributes:
        noise: Spread of a call: standard deviation of the logarithm of its seconds.
        outliers: Share of calls that take 2 to 10 times as long.
        neighbour: Who shares the machine; None is nobody.
        drift: Amplitude of a slow sinusoid, as a share of the time.
        drift_period_s: Its period in seconds.
        drift_phase: Its phase in radians.
        compile_s: Seconds that the first call at a size takes longer, at most; each engine and
            size has its own share of it.
        out_of_memory_s: Seconds of a probe that runs out of memory.
    """

    noise: float = 0.0
    outliers: float = 0.0
    neighbour: Neighbour | None = None
    drift: float = 0.0
    drift_period_s: float = 60.0
    drift_phase: float = 0.0
    compile_s: float = 0.0
    out_of_memory_s: float = 2.0


@dataclass(frozen=True)
class Roughness:
    """A machine whose speed is never the same, for reasons that no counter tells.

    The default is one that was measured: what followed each other differed by 4 % (stretches of
    9 ms) to 8 % (0.1 to 0.3 s), and every 1.5 s the machine stood next to still for a moment.

    Attributes:
        spread: Standard deviation of the logarithm of its speed.
        memory_s: Seconds after which it has forgotten its speed, mostly.
        every_s: Shortest and longest time between moments at which it stands next to still.
        still_s: Shortest and longest of these moments, in seconds.
        slowdown: How many times as long everything takes meanwhile.
    """

    spread: float = 0.12
    memory_s: float = 0.3
    every_s: tuple[float, float] = (1.3, 1.6)
    still_s: tuple[float, float] = (0.03, 0.08)
    slowdown: float = 12.0

    def pace(self, steps: int, step_s: float, random: np.random.Generator) -> Floats:
        """Draw how much faster than usual the machine is in each of some steps."""
        kept = np.exp(-step_s / self.memory_s)
        shocks = random.normal(0, self.spread * np.sqrt(1 - kept**2), steps)
        pace: Floats = np.exp(
            np.fromiter(accumulate(shocks, lambda x, shock: kept * x + shock), float)
        )
        now_s = 0.0
        while now_s < steps * step_s:
            begin_s = now_s + random.uniform(*self.every_s)
            now_s = begin_s + random.uniform(*self.still_s)
            pace[round(begin_s / step_s) : round(now_s / step_s)] /= self.slowdown
        return pace


class Clock:
    """Turns seconds of work into seconds on the clock, which a neighbour makes longer."""

    def __init__(self, neighbour: Neighbour | None, random: np.random.Generator) -> None:
        self.now_s = 0.0
        self._neighbour = neighbour
        self._random = random
        self._clock_s = np.zeros(1)  # where spells begin and end: idle, busy, idle, ...
        self._work_s = np.zeros(1)  # work done by then

    def spend(self, work_s: Floats) -> tuple[Floats, int]:
        """Do pieces of work one after another.

        Args:
            work_s: Seconds that each takes when nothing disturbs it.

        Returns:
            Seconds that each takes, and how many of them were disturbed.
        """
        if self._neighbour is None:
            self.now_s += float(work_s.sum())
            return work_s, 0
        done_s = np.concatenate([[0.0], np.cumsum(work_s)])
        self._extend(float(done_s[-1]))
        begin = np.interp(self.now_s, self._clock_s, self._work_s)
        clock_s = np.interp(begin + done_s, self._work_s, self._clock_s)
        took_s = np.diff(clock_s)
        self.now_s = float(clock_s[-1])
        return took_s, int(np.count_nonzero(took_s > 1.001 * work_s))

    def _extend(self, work_s: float) -> None:
        """Draw spells until so much more work can be done."""
        assert self._neighbour is not None
        means = np.tile([self._neighbour.idle_s, self._neighbour.busy_s], 64)
        pace = np.tile([1.0, 1 / self._neighbour.slowdown], 64)
        while self._clock_s[-1] < self.now_s + 1 or (
            self._work_s[-1] < np.interp(self.now_s, self._clock_s, self._work_s) + work_s
        ):
            spells_s = self._random.exponential(means)
            more_s = self._clock_s[-1] + np.cumsum(spells_s)
            more_work_s = self._work_s[-1] + np.cumsum(spells_s * pace)
            self._clock_s = np.concatenate([self._clock_s, more_s])
            self._work_s = np.concatenate([self._work_s, more_work_s])


class RoughClock:
    """A clock of a rough machine, with a neighbour: of him alone is told whom he disturbed."""

    STEP_S = 0.005

    def __init__(
        self, neighbour: Neighbour, roughness: Roughness, random: np.random.Generator, long_s: float
    ) -> None:
        self.now_s = 0.0
        steps = int(long_s / self.STEP_S)
        spells_s = random.exponential(np.tile([neighbour.idle_s, neighbour.busy_s], steps))
        ends_s = np.cumsum(spells_s)[: 2 * steps]
        self._clock_s = self.STEP_S * np.arange(steps + 1)
        busy = np.searchsorted(ends_s, self._clock_s[:-1]) % 2 == 1
        pace = roughness.pace(steps, self.STEP_S, random)
        pace[busy] /= neighbour.slowdown
        self._work_s = np.concatenate([[0.0], np.cumsum(pace) * self.STEP_S])
        self._busy_s = np.concatenate([[0.0], np.cumsum(busy) * self.STEP_S])

    def spend(self, work_s: Floats) -> tuple[Floats, int]:
        """Do pieces of work one after another, as `Clock.spend` does."""
        begin = np.interp(self.now_s, self._clock_s, self._work_s)
        done = begin + np.concatenate([[0.0], np.cumsum(work_s)])
        if done[-1] > self._work_s[-1]:
            raise ValueError("The time that was drawn for this machine is over.")
        clock_s = np.interp(done, self._work_s, self._clock_s)
        took_s = np.diff(clock_s)
        busy_s = np.diff(np.interp(clock_s, self._clock_s, self._busy_s))
        self.now_s = float(clock_s[-1])
        return took_s, int(np.count_nonzero(busy_s > 0.13 * took_s))


@dataclass
class Device:
    """A device that can be probed, and that knows the truth about itself.

    Engines and batches in flight make no difference to it, but each engine has first calls of
    its own.

    Attributes:
        latency: Seconds of a batch.
        memory: Peak bytes of a batch.
        memory_bytes: Memory of the device; more is out of memory.
        troubles: What keeps it from taking the same time twice.
        max_rows: End of the useful range: no larger batch is of interest.
        family: Name of the family that it was drawn from.
        seed: Seed of everything random; the same calls then take the same times.
        tells_disturbance: Whether a measurement says how many calls the neighbour disturbed.
    """

    latency: Latency
    memory: Memory
    memory_bytes: int
    troubles: Troubles = field(default_factory=Troubles)
    max_rows: int = MAX_ROWS
    family: str = ""
    seed: int = 0
    tells_disturbance: bool = False

    def __post_init__(self) -> None:
        self._random = np.random.default_rng([self.seed, 1])
        spells = np.random.default_rng([self.seed, 2])
        self._clock = Clock(self.troubles.neighbour, spells)
        self._compiled: set[tuple[str, int]] = set()

    @property
    def clock_s(self) -> float:
        """Seconds that everything so far has taken."""
        return self._clock.now_s

    def __call__(self, candidate: Candidate, seconds: float) -> Outcome:
        """Try a candidate, as a probe does: warm-up, then timed calls for so many seconds."""
        typical_s = self.latency_s(candidate.batch_size)
        calls = int(np.clip(np.ceil(seconds / (0.7 * typical_s)), FEWEST_CALLS, MOST_CALLS))
        return self._try(candidate, calls, seconds, WARM_UP_CALLS)

    def time_calls(
        self, batch_size: int, calls: int, *, warm_up: int = WARM_UP_CALLS
    ) -> Measurement | OutOfMemory:
        """Time exactly so many calls after so many untimed ones."""
        return self._try(Candidate(batch_size), calls, np.inf, warm_up)

    def _try(
        self, candidate: Candidate, calls: int, seconds: float, warm_up: int
    ) -> Measurement | OutOfMemory:
        begin_s = self.clock_s
        peak = self.peak_bytes(candidate.batch_size)
        if peak > self.memory_bytes:
            self._clock.spend(np.array([self.troubles.out_of_memory_s]))
            return OutOfMemory(candidate, elapsed_s=self.clock_s - begin_s)
        latency_s = self.latency_s(candidate.batch_size)
        first, _ = self._clock.spend(self._first_calls(candidate, latency_s, warm_up))
        work_s = self._work(latency_s, calls)
        if seconds < np.inf:
            used = int(np.searchsorted(self._peek(work_s), seconds)) + 1
            work_s = work_s[: max(used, FEWEST_CALLS)]
        times_s, disturbed = self._clock.spend(work_s)
        return Measurement(
            candidate,
            tuple(times_s.tolist()),
            first_call_s=float(first[0]) if warm_up else float(times_s[0]),
            elapsed_s=self.clock_s - begin_s,
            device_peak_bytes=peak,
            disturbed=disturbed if self.tells_disturbance else 0,
        )

    def _peek(self, work_s: Floats) -> Floats:
        """Seconds after which each piece of work would be done."""
        now_s = self._clock.now_s
        took_s, _ = self._clock.spend(work_s)
        self._clock.now_s = now_s
        return np.cumsum(took_s)

    def _first_calls(self, candidate: Candidate, latency_s: float, warm_up: int) -> Floats:
        """Seconds of the warm-up calls, the first of which may compile."""
        work_s = self._work(latency_s, warm_up)
        key = candidate.engine, candidate.batch_size
        if warm_up and key not in self._compiled:
            self._compiled.add(key)
            work_s[0] += self.troubles.compile_s * self._random.uniform(0.5, 1)
        return work_s

    def _work(self, latency_s: float, calls: int) -> Floats:
        """Seconds of so many calls from now, but for the neighbour."""
        troubles, random = self.troubles, self._random
        work_s: Floats = latency_s * np.exp(troubles.noise * random.standard_normal(calls))
        if troubles.outliers:
            out = random.random(calls) < troubles.outliers
            work_s[out] *= random.uniform(2, 10, int(np.count_nonzero(out)))
        if troubles.drift:
            turns = (self.clock_s + np.cumsum(work_s)) / troubles.drift_period_s
            work_s *= 1 + troubles.drift * np.sin(2 * np.pi * turns + troubles.drift_phase)
        return np.maximum(work_s, 0.5 * SHORTEST_S)

    def latency_s(self, batch_size: int) -> float:
        """True seconds of a batch."""
        return float(self.latency(np.array([batch_size]))[0])

    def peak_bytes(self, batch_size: int) -> int:
        """Peak bytes of a batch."""
        return int(self.memory(np.array([batch_size]))[0])

    def mean_rows_per_s(self, batch_size: int) -> float:
        """Rows per second over very many calls, with noise and outliers but no neighbour."""
        troubles = self.troubles
        slower = np.exp(troubles.noise**2 / 2) * (1 + 5 * troubles.outliers)
        return self.rows_per_s(batch_size) / float(slower)

    def rows_per_s(self, batch_size: int) -> float:
        """True rows per second of a batch size, whether it fits or not."""
        return batch_size / self.latency_s(batch_size)

    @cached_property
    def _speeds(self) -> Floats:
        """True rows per second of all sizes from 1 to the largest that fits and is of use."""
        sizes = np.arange(1, self.max_rows + 1)
        fits = self.memory(sizes).astype(np.int64) <= self.memory_bytes
        return sizes[fits] / self.latency(sizes[fits])

    @property
    def largest(self) -> int:
        """The largest batch size that fits and is of use, in rows."""
        return len(self._speeds)

    def truth(self) -> float:
        """Most rows per second of any batch size."""
        return float(self._speeds.max())

    def smallest(self, tolerance: float) -> int:
        """The smallest batch size that is slower than the best by no more than this share."""
        return 1 + int(np.argmax(self._speeds >= (1 - tolerance) * self.truth()))

    def regret(self, batch_size: int) -> float:
        """Share of the best speed that this batch size gives away; 1 where it does not fit."""
        if batch_size < 1 or self.peak_bytes(batch_size) > self.memory_bytes:
            return 1.0
        return max(0.0, 1 - self.rows_per_s(batch_size) / self.truth())
