"""Colours: which there are in light and in dark, and which engine has which.

The hues are those of Okabe and Ito, which people with any kind of colour blindness tell apart
(https://jfly.uni-koeln.de/color/). Their blue would drown in the dark: there their sky blue stands
for it, and their yellow for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LIGHT: Mapping[str, str] = {
    "paper": "#ffffff",
    "card": "#f6f8fa",
    "line": "#dde3e9",
    "ink": "#17202a",
    "muted": "#56626f",
    "faint": "#b4bec8",
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "green": "#009e73",
    "purple": "#cc79a7",
    "orange": "#e69f00",
    "sky": "#56b4e9",
}
DARK: Mapping[str, str] = {
    "paper": "#0e1318",
    "card": "#161d24",
    "line": "#2a343e",
    "ink": "#eef2f5",
    "muted": "#a3b0bc",
    "faint": "#4b5763",
    "blue": "#56b4e9",
    "vermillion": "#d55e00",
    "green": "#009e73",
    "purple": "#cc79a7",
    "orange": "#e69f00",
    "sky": "#f0e442",
}

# An engine has the same hue and shape in every report, whichever others were tried beside it.
HUES = {
    "keras": "blue",
    "compiled": "green",
    "xla": "purple",
    "onnxruntime": "orange",
    "openvino": "vermillion",
}
SHAPES = {
    "keras": "circle",
    "compiled": "square",
    "xla": "diamond",
    "onnxruntime": "triangle-up",
    "openvino": "triangle-down",
}
OTHER_HUE, OTHER_SHAPE = "sky", "cross"  # of engines that nobody knows
SIGNS = {
    "circle": "\u25cf",
    "square": "\u25a0",
    "diamond": "\u25c6",
    "triangle-up": "\u25b2",
    "triangle-down": "\u25bc",
    "cross": "\u271a",
}


@dataclass(frozen=True, slots=True)
class Look:
    """How charts are drawn.

    Attributes:
        colours: A colour for each name of `LIGHT`.
        width: Pixels; None for as wide as the page lets it be.
        explained: Whether title and legend are in the picture, which the page has around it.
    """

    colours: Mapping[str, str]
    width: int | None
    explained: bool


PAGE = Look({name: f"var(--{name})" for name in LIGHT}, width=None, explained=False)
PICTURE = Look(LIGHT, width=720, explained=True)


def hue_of(engine: str) -> str:
    """The name of an engine's colour."""
    return HUES.get(engine, OTHER_HUE)


def shape_of(engine: str) -> str:
    """The shape of an engine's points."""
    return SHAPES.get(engine, OTHER_SHAPE)
