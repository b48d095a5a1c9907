"""The guard: how much memory a candidate may take, and when a probe must stop for others' sake.

On the host, what is free and what this process holds make up what others leave: what that loses,
somebody else took. Of a GPU nobody tells what this process holds of it. But between its calls
nothing of its own changes, nor while the same call is repeated: what free memory loses then,
somebody else took. Neither needs a list of who holds what, which a container does not get to see.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType

from autotune import host
from autotune.device import Device
from autotune.eyes import HOST_EVERY_S, eyes_of
from autotune.watch import Look, Watch

RESERVE = 0.10  # of free memory, left for everybody else
FLOOR = 0.05  # of the memory that was free at first: with less left, a probe stops
NOTABLE_BYTES = 64 * 2**20  # less than that comes and goes by itself
NOTABLE_SHARE = 0.02  # of the memory that was free at first
# A fresh process took 1.57 to 1.61 times what TensorFlow's allocator counted, above what it
# took before the first batch (measured on a CPU).
PROCESS_PER_ALLOCATED = 1.6
PATIENCE_S = 2.0  # for others to give memory back, before a probe


class Guard:
    """Watches the device while a probe runs; used as a context manager around each.

    Args:
        device: What runs the model.
        own_bytes: What the framework's allocator holds by now; None where it does not count.
        siblings_bytes: What the tuner's other children hold by now.

    Attributes:
        alarm: Why the probe must stop; "" while it need not.
        siblings_bytes: To be kept up to date between probes: what those take is no other's doing,
            but may not be taken by this process either.
        sessions_bytes: What sessions opened since took before their first batch, and all others
            have kept; of the host's memory, and not counted by the allocator.
    """

    def __init__(self, device: Device, own_bytes: int | None, siblings_bytes: int = 0) -> None:
        self.alarm = ""
        self.siblings_bytes = self._siblings_then = siblings_bytes
        self.sessions_bytes = 0
        self._blind = device.blind
        self._throttled: dict[str, None] = {}
        self._phase = threading.Lock()  # the watch judges by what this process is about
        self._settling = False
        self._settled: int | None = None  # free memory since the same calls are repeated
        self._rested: int | None = None  # and when they last were
        self._taken = 0  # by others, in bytes
        self._besides = 0  # by this process, between probes
        self._is_beginning = False
        self._first_free: int | None = None
        self._first_level: int | None = None
        look, every_s = eyes_of(device)
        self._watch = Watch(look, every_s, self._judge)
        self._watch.start()
        self._watch.stop()
        self._first_free = None if self._free is None else self._free + siblings_bytes
        self._first_level = self._level_of(self._watch.latest)
        self._notable = max(NOTABLE_BYTES, NOTABLE_SHARE * (self._first_free or 0))
        self._per_byte, self._own_bytes = 1.0, own_bytes  # of a GPU, without a count: unknown
        self._is_host = device.kind == "cpu"
        self._counts_on_host = device.kind == "cpu" and own_bytes is not None
        if device.kind == "cpu" and own_bytes is None:
            self._own_bytes = host.resident_bytes()
        elif self._counts_on_host:
            self._per_byte, self._own_bytes = PROCESS_PER_ALLOCATED, 0

    @property
    def _free(self) -> int | None:
        return self._watch.latest.free_bytes

    def _level_of(self, look: Look) -> int | None:
        """What is free and what the tuner's processes hold: less of it, and others took the rest.

        None where it is not told what this process holds.
        """
        if look.free_bytes is None or look.own_bytes is None:
            return None
        return look.free_bytes + look.own_bytes + self.siblings_bytes

    @property
    def blind(self) -> str:
        """Why nothing is watched; "" where something is."""
        if self._watch.is_stuck:
            return "NVML stopped answering"
        return self._blind or ("" if self._first_free is not None else "its memory is not told")

    @property
    def limit_bytes(self) -> int | None:
        """The highest peak that a candidate may have now, as the allocator counts it.

        Where that does not count: of the process. None where nothing is known.
        """
        if self._first_free is None or self._own_bytes is None:
            return None
        usable = (1 - RESERVE) * self._first_free - self._taken - self._siblings_then
        if self._counts_on_host:
            usable -= self.sessions_bytes + self._besides
        return max(0, int(usable / self._per_byte) + self._own_bytes)

    @property
    def left_bytes(self) -> int | None:
        """What may be taken now, beside what this process holds; None where nothing is known."""
        limit = self.limit_bytes
        if limit is None or self._counts_on_host or not self._is_host:
            return limit
        return max(0, limit - host.resident_bytes())

    def __enter__(self) -> Guard:
        try:
            return self._begin()
        except BaseException:  # Ctrl-C: nobody else would end the watch
            self._watch.stop()
            raise

    def _begin(self) -> Guard:
        self.rest()
        self.alarm, self._is_beginning = "", True
        # What this process has let go since its last call may hide what others took meanwhile.
        before = max((f for f in (self._free, self._rested) if f is not None), default=None)
        if before is not None:  # it is expected that much lower or higher
            before -= self.siblings_bytes - self._siblings_then
        self._siblings_then, self._rested = self.siblings_bytes, None
        own_before = self._watch.latest.own_bytes
        self._watch.start()
        self._count_taken(before)
        self._count_besides(own_before)
        deadline = time.monotonic() + PATIENCE_S
        while self._is_short and time.monotonic() < deadline:
            before = self._free
            time.sleep(HOST_EVERY_S)
            self._count_taken(before)
        with self._phase:
            self._is_beginning = False
            if self._is_short:
                self._raise_alarm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watch.stop()

    def settle(self) -> None:
        """Say that from now on the same calls are repeated, which take no more memory."""
        with self._phase:
            self._settling = True

    def rest(self) -> None:
        """Say that they are no longer: what comes and goes now may be this process's own."""
        with self._phase:
            if self._settled is not None:
                self._rested = self._settled
            self._settling, self._settled = False, None

    def is_alarmed(self) -> bool:
        """Whether the probe must stop."""
        return bool(self.alarm)

    def throttled(self) -> tuple[str, ...]:
        """What slowed the GPU down since this was last asked, in words."""
        found, self._throttled = tuple(self._throttled), {}
        return found

    def _count_taken(self, before: int | None) -> None:
        """Take it for others' doing if there is less of the whole, or less free than before."""
        look = self._watch.latest
        level = self._level_of(look)
        if self._first_level is not None and level is not None:
            self._taken = max(0, self._first_level - level)
        elif self._first_level is None and before is not None and look.free_bytes is not None:
            self._taken = max(0, self._taken + before - look.free_bytes)

    def _count_besides(self, own_before: int | None) -> None:
        """Count what this process took since the last probe: its other threads, where it serves."""
        own = self._watch.latest.own_bytes
        if own is not None and own_before is not None:
            self._besides = max(0, self._besides + own - own_before)

    @property
    def _is_short(self) -> bool:
        free = self._free
        if free is None or self._first_free is None:
            return False
        taken = self._taken + self._besides
        return taken > self._notable and free < FLOOR * self._first_free

    def _judge(self, look: Look) -> None:
        """Take in what the watch has seen; runs in its thread."""
        self._throttled |= dict.fromkeys(look.throttled)
        if look.lost:
            self.alarm = look.lost
        if look.free_bytes is None or self.alarm:
            return
        with self._phase:
            if self._settling:
                self._settling, self._settled = False, look.free_bytes
            elif self._settled is not None or look.own_bytes is not None:
                self._count_taken(self._settled)
                self._settled = look.free_bytes if self._settled is not None else None
                if self._is_short and not self._is_beginning:
                    self._raise_alarm()

    def _raise_alarm(self) -> None:
        self.alarm = (
            f"Other processes took {self._taken / 2**20:,.0f} MiB of memory since the start, and "
            f"{(self._free or 0) / 2**20:,.0f} MiB are left"
        )
