"""Python's interpreter lock, simulated: who computes when, of those that let in and that answer.

A thread of CPython keeps the lock until it sleeps, or until another one has waited for it for the
switch interval (`sys.setswitchinterval`; a build without the lock is not followed).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from autotune.standstills import GOLDEN

SWITCH_S = 0.005  # Python's own setting

# Linux leaves a thread that has just begun its slice. So of those who wake while calls have all
# processors this share waits for the end of one of the calls, or of its slice; the others get a
# processor at once. It was reckoned from one model's requests, of which 21 % were sent 1 to 3 ms
# late beside two calls of 2.5 ms: docs/plan.md, "Against reality".
HELD = 0.35
SLICE_S = 0.003


class Interpreter:
    """The lock, and the thread that lets requests in, one after the other as they come.

    Args:
        arrivals_s: When each comes, rising.
        let_in_s: What the thread computes for each.
        wake_s: What it takes to wake a thread.
        room: How many may wait in the queue; the next comes only when one was taken.

    Attributes:
        entered_s: Of each request that was let in, when it began to wait in the queue.
        stretch: How many times as long everything takes, from now on.
        ends_s: When the calls end that have all processors; () while one of those is free.
        busy_s: Seconds that anybody computed.
    """

    def __init__(
        self, arrivals_s: Sequence[float], let_in_s: float, wake_s: float, room: float = math.inf
    ) -> None:
        self._arrivals, self._let_in_s, self._wake_s = arrivals_s, let_in_s, wake_s
        self._room, self._last, self._opened_s = room, min(len(arrivals_s), room), 0.0
        self._free_s = 0.0  # when whoever has the lock lets it go
        self._asleep_s = 0.0  # since when the thread that lets in sleeps
        self.entered_s: list[float] = []
        self.stretch = 1.0
        self.ends_s: Sequence[float] = ()
        self._woken = 0  # threads so far
        self._due = -1, 0.0  # the next to be let in, and when the thread that does it is awake
        self.busy_s = 0.0

    def take(self, now: float, count: int) -> None:
        """Make room for so many requests."""
        if len(self.entered_s) == self._last:
            self._opened_s = now
        self._last = min(len(self._arrivals), self._last + count)

    def let_in(self, by: float, last: float = math.inf, *, awake: bool = False) -> None:
        """Let in whom the thread begins with by a time, while no other thread computes.

        Args:
            by: The time.
            last: The number of the last one at most.
            awake: Whether to stop where the thread would sleep.
        """
        arrivals, entered_s, number = self._arrivals, self.entered_s, len(self.entered_s)
        last, let_in_s = min(last, self._last), self.stretch * self._let_in_s
        while number < last:  # a million times: all in one place
            begin = max(arrivals[number], self._opened_s)
            if begin > self._asleep_s:
                if begin > by:
                    return
                if self._due[0] != number:  # by the calls that were in flight at the time
                    self._due = number, self.woken(begin)
                begin = self._due[1]
            if begin <= self._free_s:
                begin = self._free_s
            elif awake:
                return
            if begin > by:
                return
            self._free_s = self._asleep_s = begin + let_in_s
            self.busy_s += let_in_s
            entered_s.append(self._free_s)
            number += 1

    def woken(self, now: float) -> float:
        """When a thread computes that slept until now; it may have to wait for a processor."""
        now += self._wake_s
        if not self.ends_s:
            return now
        self._woken += 1
        place = self._woken * GOLDEN % 1 / HELD
        if place >= 1:
            return now
        end_s = self.ends_s[int(place * len(self.ends_s))]
        return max(now, min(end_s, now + SLICE_S))

    def compute(self, now: float, seconds: float) -> float:
        """Let a thread that answers compute from `now` on; return when it is done."""
        self.let_in(now)
        seconds *= self.stretch
        self.busy_s += seconds
        while seconds > 0:
            patience_s = now + SWITCH_S
            self.let_in(patience_s, awake=True)
            if self._free_s > now:
                now = self._free_s + self._wake_s
                if self._free_s < patience_s:  # let go, not handed over: who is awake is faster
                    self.let_in(now)
                now = max(now, self._free_s)
            part_s = min(seconds, SWITCH_S)
            now = self._free_s = now + part_s
            seconds -= part_s
        return now

    def hold(self, now: float, seconds: float) -> float:
        """Let a thread compute that has the lock by now; return when it is done."""
        seconds *= self.stretch
        self.busy_s += seconds
        self._free_s = max(self._free_s, now) + seconds
        return now + seconds

    def go_on(self, now: float, seconds: float) -> float:
        """Let the thread that computed until now compute on: it did not sleep, and has the lock."""
        held_s = min(self.stretch * seconds, SWITCH_S) if self._free_s == now else 0.0
        self.busy_s += held_s
        self._free_s = max(self._free_s, now + held_s)
        rest_s = seconds - held_s / self.stretch
        return self.compute(now + held_s, rest_s) if rest_s > 0 else now + held_s
