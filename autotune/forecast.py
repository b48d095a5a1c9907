"""Memory against batch size: an upper bound for a size that has not been tried.

The peak of a batch is what was held before, plus so much a row, plus workspaces that come and
go with the algorithm a library picks. Straight lines through small sizes miss by half, in both
directions, so the bound never looks further than one doubling, and takes the worse of two
readings: growth in proportion, and growth by the last slope. On top comes what an allocator
wastes: a block a little larger than before may be given a chunk of twice its size.
"""

from __future__ import annotations

from collections.abc import Mapping

# Without margin the two readings were too low in 151 of 1 350 forecasts for another process,
# by 58 MiB at most (five nets; measured on a CPU with TensorFlow).
MARGIN = 1.15
RESERVE_BYTES = 16 * 2**20
# Where an allocator wastes memory its count is no more exact than this. A process grows by some of
# itself (11 MiB, in 12 of 551 probes), and TensorFlow leaves out blocks below 256 KiB on a CPU: of
# an LSTM 30 MiB came to be counted at twice the rows.
INEXACT_BYTES = 32 * 2**20


def upper_bound_bytes(
    peaks: Mapping[int, int], batch_size: int, idle_bytes: int = 0, waste_bytes: int = 0
) -> int | None:
    """Upper bound for the peak at `batch_size`, in bytes.

    Args:
        peaks: Measured peaks in bytes, by batch size, of one engine.
        batch_size: The size to forecast; at most twice the largest measured one is meant.
        idle_bytes: How much of the peaks is there before any batch, and so does not grow.
        waste_bytes: What the allocator may leave unused of a chunk, and count as in use. Two such
            chunks were too few in none of 11 692 forecasts, one in 8 (twelve nets on TensorFlow);
            between two sizes that were measured one is enough, none was too few in 73 of 2 460.

    Returns:
        The bound, and hardly more than a measured peak of a larger size; None where nothing was
        measured.

    Example:
        >>> upper_bound_bytes({64: 100_000_000, 128: 180_000_000}, 256) // 1_000_000
        430
        >>> upper_bound_bytes({64: 100_000_000, 128: 180_000_000}, 100)
        178870777
    """
    if not peaks:
        return None
    below = sorted(size for size in peaks if size <= batch_size)
    above = [peak for size, peak in peaks.items() if size >= batch_size]
    inexact_bytes = INEXACT_BYTES if waste_bytes else 0
    above = [p + min(max(0, p - idle_bytes), waste_bytes) + inexact_bytes for p in above]
    if not below:
        return min(above)
    if batch_size in peaks:
        return max(peaks[size] for size in below)
    largest = below[-1]
    top = max(peaks[size] for size in below)
    grown = max(0, top - idle_bytes)
    readings = [grown * batch_size / largest]
    if len(below) > 1:
        before = below[-2]
        slope = (top - peaks[before]) / (largest - before)
        readings.append(grown + slope * (batch_size - largest))
    step = batch_size / largest - 1  # 1 for a doubling, which the margin was measured for
    bound = (1 + (MARGIN - 1) * step) * max(readings) + max(RESERVE_BYTES * step, inexact_bytes)
    bound += min(grown, 2 * waste_bytes)
    return max(top, min([int(bound) + top - grown, *above]))
