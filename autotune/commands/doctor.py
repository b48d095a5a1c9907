"""autotune doctor: what models run on here, and what cannot be seen of it."""

from __future__ import annotations

from autotune.commands.options import Json, print_json
from autotune.terminal import print_renderable


def doctor(json: Json = False) -> None:
    """Show what models run on here, what can be seen of it, and what to mend.

    Example: autotune doctor
    """
    from autotune.checkup import check_up

    found = check_up()
    if json:
        print_json(found)
    else:
        from autotune.doctor import summary

        print_renderable(summary(found))
