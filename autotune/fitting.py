"""Fitting: the recommended batch size, held within the memory that is free here.

The record tells what each size took. That is held against free memory by the rules by which the
model was tuned; see `guard`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from autotune import backends, host, nvml
from autotune.device import Device
from autotune.errors import one_line
from autotune.forecast import MARGIN, RESERVE_BYTES, upper_bound_bytes
from autotune.guard import PROCESS_PER_ALLOCATED, RESERVE
from autotune.judging import lane_of
from autotune.outcomes import Measurement
from autotune.records import TuningRecord

_log = logging.getLogger("autotune")


def batch_size_that_fits(
    record: TuningRecord, free_bytes: int | None, *, device_kind: str | None = None
) -> int:
    """Halve the recommended batch size until it fits in free memory.

    Args:
        record: A record with a recommendation.
        free_bytes: Memory of the device that may still be taken, with the model loaded; None
            where that is not known.
        device_kind: "cpu" or "gpu": what runs the model here; None for what it was tuned on.

    Returns:
        The size, at least 1; the recommended one where it is not known what it takes.

    Raises:
        ValueError: The record has no recommendation.
    """
    if record.recommendation is None:
        raise ValueError("The record has no recommendation.")
    size, seen = record.recommendation.batch_size, _see(record)
    if free_bytes is None or not seen.peaks:
        return size
    kind = device_kind or seen.device_kind
    usable = (1 - RESERVE) * free_bytes
    while size > 1 and seen.taken_bytes(size, kind) > usable:
        size //= 2
    return size


class Allowance:
    """Tells how large a batch fits in the memory that is free, again and again.

    To be made when the model is loaded and has run nothing: what the process takes later its next
    batches have already, as far as the batches before them can have taken it.

    Args:
        record: A record with a recommendation.
        device: What runs the model here; None where that is not known.
    """

    def __init__(self, record: TuningRecord, device: Device | None) -> None:
        self._record = record
        self._device = device
        self._idle_bytes = host.resident_bytes()

    def batch_size(self, largest_ran: int = 0) -> int:
        """Return the recommended batch size, or as much of it as fits now.

        Args:
            largest_ran: The largest batch that was run; 0 if none was. A GPU's allocator keeps
                what it took.
        """
        if self._device is None or self._device.kind == "gpu":
            return max(largest_ran, batch_size_here(self._record, self._device))
        grown = max(0, host.resident_bytes() - self._idle_bytes)  # the caller's rows are in it too
        seen = _see(self._record)
        taken = seen.taken_bytes(largest_ran, "cpu") if largest_ran and seen.peaks else 0
        free = host.memory().free_bytes + min(grown, int(taken))
        return batch_size_that_fits(self._record, free, device_kind="cpu")


def batch_size_here(record: TuningRecord, device: Device | None) -> int:
    """Look at the memory that is free here, and hold the recommended batch size within it.

    To be called with the model loaded; a look that fails leaves the size as it is.

    Args:
        record: A record with a recommendation.
        device: What runs the model here; None where that is not known.
    """
    free_bytes = None
    try:
        free_bytes = _free_bytes(device, _see(record).idle_bytes) if device else None
    except Exception as error:  # drivers fail in ways of their own, and the model may still run
        _log.debug("Free memory cannot be read: %s", one_line(error))
    kind = device.kind if device else None
    return batch_size_that_fits(record, free_bytes, device_kind=kind)


def _free_bytes(device: Device, idle_bytes: int) -> int | None:
    if device.kind == "cpu" or device.shares_host_memory:
        return host.memory().free_bytes
    if device.gpu is None:
        return None
    if backends.holds_gpu():  # what the backend took at once, all but the model may use
        return device.total_bytes and max(0, device.total_bytes - idle_bytes)
    return nvml.read(device.gpu.uuid).free_bytes


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the recommended way of running was seen to take.

    Attributes:
        device_kind: Where: "cpu" or "gpu".
        counted: Whether an allocator counted it; else it is of the whole process.
        peaks: Bytes by batch size.
        idle_bytes: How much of them the loaded model took before any batch; 0 if not known.
        waste_bytes: What the allocator may leave unused of a chunk.
    """

    device_kind: str
    counted: bool
    peaks: Mapping[int, int]
    idle_bytes: int
    waste_bytes: int

    def taken_bytes(self, size: int, device_kind: str) -> float:
        """Upper bound for what batches of a size take, once the model is loaded."""
        if device_kind == "cpu" and self.counted:
            return PROCESS_PER_ALLOCATED * self._upper_bound_bytes(size)
        return self._upper_bound_bytes(size) - self.idle_bytes

    def _upper_bound_bytes(self, size: int) -> int:
        smallest = min(self.peaks)
        if size >= smallest:
            return upper_bound_bytes(self.peaks, size, self.idle_bytes, self.waste_bytes) or 0
        # The forecast looks at larger sizes only: what the rows take falls in proportion.
        of_rows = max(0, self.peaks[smallest] - self.idle_bytes) * size / smallest
        bound = self.idle_bytes + int(MARGIN * of_rows) + RESERVE_BYTES
        return min(self.peaks[smallest], bound)


def _see(record: TuningRecord) -> _Seen:
    kind = record.machine.device_kind if record.machine else "cpu"
    found = _measured(record)
    counted = any(m.device_peak_bytes is not None for m in found)
    if kind == "gpu" and not counted:
        found = []  # what the process took of the host's memory tells nothing of the GPU's
    alike = [m for m in found if (m.device_peak_bytes is not None) == counted]
    peaks: dict[int, int] = {}
    for measured in alike:
        size = measured.candidate.batch_size
        if measured.peak_bytes is not None:
            peaks[size] = max(measured.peak_bytes, peaks.get(size, 0))
    idle_bytes = min((m.idle_bytes or 0 for m in alike), default=0)
    waste_bytes = max((m.device_waste_bytes for m in alike), default=0)
    return _Seen(kind, counted, peaks, idle_bytes, waste_bytes)


def _measured(record: TuningRecord) -> list[Measurement]:
    """Measurements of the recommended engine, batches in flight and threads, at any size."""
    if record.recommendation is None:
        return []
    lane = lane_of(record.recommendation.candidate)
    measured = [outcome for outcome in record.outcomes if isinstance(outcome, Measurement)]
    return [outcome for outcome in measured if lane_of(outcome.candidate) == lane]
