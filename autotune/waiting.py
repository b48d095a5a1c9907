"""Waiting for quiet: what is timed while something disturbs is worth little, but time is short."""

from __future__ import annotations

WAIT_SHARE = 0.6  # of the budget: so long it is waited for quiet, where something disturbs,
STRETCH_SHARE = 0.15  # and so long at a stretch: what disturbs for longer may never end


class Patience:
    """How much longer to wait for quiet.

    Args:
        budget_s: Seconds for everything.
        waited_s: Seconds that were waited already.

    Example:
        >>> patience = Patience(budget_s=10.0)
        >>> patience.took(2.0, waiting=True, disturbed=True)
        >>> patience.is_left
        False
        >>> patience.took(0.1, waiting=False, disturbed=False)
        >>> patience.is_left
        True
    """

    def __init__(self, budget_s: float, waited_s: float = 0.0) -> None:
        self._budget_s = budget_s
        self._waited_s = waited_s
        self._stretch_s = 0.0

    @property
    def is_left(self) -> bool:
        """Whether there is time to wait."""
        waits = self._waited_s < WAIT_SHARE * self._budget_s
        return waits and self._stretch_s < STRETCH_SHARE * self._budget_s

    def took(self, seconds: float, *, waiting: bool, disturbed: bool) -> None:
        """Note a probe: how long it took, whether only to see a disturbance end, and if it did."""
        if waiting:
            self._waited_s += seconds
            self._stretch_s += seconds
        if not disturbed:
            self._stretch_s = 0.0
