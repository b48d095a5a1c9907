"""What a shell may complete: the names that an option takes, asked for when it does."""

from __future__ import annotations

from typing import get_args


def engines() -> list[str]:
    """Engines."""
    from autotune.engines import NAMES

    return list(NAMES)


def objectives() -> list[str]:
    """What to maximise."""
    from autotune.goal import Objective

    return list(get_args(Objective))


def precisions() -> list[str]:
    """Precisions lower than the model's own."""
    from autotune.preparation import Precision

    return list(get_args(Precision))


def isolations() -> list[str]:
    """Where to probe."""
    from autotune.preparation import Isolation

    return list(get_args(Isolation))


def strategies() -> list[str]:
    """What says what to try."""
    from autotune.driver import Strategy

    return list(get_args(Strategy))


def targets() -> list[str]:
    """Who may be handed a tuned model."""
    from autotune.handover import TARGETS

    return list(TARGETS)
