"""The charts of a record, and each of them as a picture.

Altair writes them down in Vega-Lite; vl-convert draws them without a browser, and brings the
JavaScript with which a page draws them itself, in a fifth of the size of plotly's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotune.errors import InvalidInput
from autotune.records import TuningRecord
from autotune.report import captions
from autotune.report.looks import PICTURE, Look
from autotune.report.series import Series

if TYPE_CHECKING:
    import altair as alt

PACKAGES = ("altair", "jinja2", "vl_convert")
SHARPNESS = 2  # pixels of a picture for one of the page
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

TITLES: Mapping[str, tuple[str, Callable[[TuningRecord], str]]] = {
    "gain": ("Before and after", captions.gain),
    "throughput": ("Rows per second by batch size", captions.throughput),
    "latency": ("Latency by batch size", captions.latency),
    "memory": ("Memory by batch size", captions.memory),
    "search": ("The search, probe by probe", captions.search),
}


@dataclass(frozen=True, slots=True)
class Plot:
    """One chart.

    Attributes:
        name: One word for it; its files are called so.
        title: What it shows.
        caption: What is to be seen in it, for those who do not see it too.
        spec: The chart in Vega-Lite.
    """

    name: str
    title: str
    caption: str
    spec: dict[str, Any]


def need_packages() -> None:
    """Say what to install where the packages of the extra `report` are not.

    Raises:
        InvalidInput: One of them is missing.
    """
    if any(importlib.util.find_spec(package) is None for package in PACKAGES):
        raise InvalidInput(
            "The report needs packages that are not installed: "
            "pip install 'keras-autotune[report]'."
        )


def plots(record: TuningRecord, look: Look = PICTURE) -> tuple[Plot, ...]:
    """Return the charts of a record, without those that it has no figures for.

    Raises:
        InvalidInput: The packages of the extra `report` are not installed.
    """
    need_packages()
    from autotune.report.drawing import Drawing

    drawing = Drawing(Series(record), look)
    found = []
    for name, (title, caption) in TITLES.items():
        chart = getattr(drawing, name)()
        if chart is not None:
            found.append(Plot(name, title, caption(record), _spec(chart, look, title)))
    return tuple(found)


def png(plot: Plot) -> bytes:
    """Draw a chart as a PNG."""
    import vl_convert

    return bytes(
        vl_convert.vegalite_to_png(plot.spec, vl_version=vega_lite_version(), scale=SHARPNESS)
    )


def svg(plot: Plot) -> str:
    """Draw a chart as an SVG."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(plot.spec, vl_version=vega_lite_version()))


def vega_lite_version() -> str:
    """Return the version of Vega-Lite that the charts are written in, such as "6.1"."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _spec(chart: alt.LayerChart, look: Look, title: str) -> dict[str, Any]:
    spec: dict[str, Any] = chart.to_dict(
        validate=False
    )  # a test validates: it takes 10 times as long
    spec["params"] = [{"name": "highlight", "value": ""}]
    spec["config"] = _config(look)
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    if look.explained:
        spec["title"] = title
    return spec


def _config(look: Look) -> dict[str, Any]:
    ink, muted, line = (look.colours[name] for name in ("ink", "muted", "line"))
    text = {"labelColor": muted, "titleColor": muted, "labelFontSize": 12, "titleFontSize": 12}
    return {
        "background": look.colours["paper"] if look.explained else "transparent",
        # At the right the last size stands half outside the axis.
        "padding": 16 if look.explained else {"left": 2, "top": 2, "right": 14, "bottom": 2},
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            **text,
            "titleFontWeight": "normal",
            "titlePadding": 10,
            "labelPadding": 6,
            "domain": False,
            "ticks": False,
            "gridColor": line,
        },
        "axisY": {
            "titleAngle": 0,
            "titleAlign": "left",
            "titleBaseline": "bottom",
            "titleX": 0,
            "titleY": -10,
        },
        "legend": {"labelColor": ink, "labelFontSize": 12, "labelLimit": 330, "symbolSize": 90},
        "line": {"strokeWidth": 2.5, "strokeCap": "round"},
        "title": {"color": ink, "fontSize": 16, "fontWeight": 600, "anchor": "start", "offset": 14},
    }
