"""Pictures of the terminal for the documents: the live display, and what `show` prints.

    python docs/pictures/terminal.py

Tunes the demo's model for a few seconds, and writes live.svg and show.svg beside this file.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from rich.console import Console, RenderableType

from autotune import Progress, tune
from autotune.demo import FOLDER
from autotune.live import Picture
from autotune.report import summary

HERE = Path(__file__).parent
BUDGET_S, SHOWN_AT = 20.0, 0.6  # of the time: when there is a curve, and time left
WIDTH = 100


def main() -> None:
    """Tune, and draw both pictures."""
    with np.load(FOLDER / "digits.npz") as digits:
        rows = digits["image"].astype(np.float32)
    told: list[Progress] = []
    record = tune(FOLDER / "digits.keras", rows, budget_s=BUDGET_S, on_event=told.append).record
    picture = Picture()
    for event in told:
        picture.add(event)
        if event.outcome is None and event.spent_s > SHOWN_AT * BUDGET_S:
            break
    draw("live.svg", "autotune tune digits.keras --sample rows.npy", picture)
    draw("show.svg", "autotune show tuned", summary(record))


def draw(name: str, title: str, renderable: RenderableType) -> None:
    """Write what a terminal would show to a picture."""
    console = Console(file=io.StringIO(), record=True, width=WIDTH, force_terminal=True)
    console.print(renderable)
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=title), flags=re.DOTALL)
    (HERE / name).write_text(svg)  # without the fonts, which would be fetched from elsewhere


if __name__ == "__main__":
    main()
