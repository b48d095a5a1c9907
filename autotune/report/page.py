"""The report as one HTML file, which shows itself without a network, a server or a library.

What comes from the record is text only: it is escaped where it stands in the page, its control
characters are gone, and the data for the charts travels as JSON that can close no tag. The page's
policy lets nothing be loaded or sent, and just the scripts and the style in it take effect, by
their hashes; expressions of charts are interpreted, so that no text becomes a program.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import __version__
from autotune.records import TuningRecord
from autotune.report.charts import need_packages, plots, vega_lite_version
from autotune.report.facts import candidates, facts
from autotune.report.looks import DARK, LIGHT, PAGE, SIGNS, hue_of, shape_of
from autotune.report.series import Series
from autotune.report.words import printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
TEXT_LENGTH = 1_000  # of anything that the record says


def html(record: TuningRecord) -> str:
    """Return what a tuning run found as a page, whole in itself.

    Raises:
        InvalidInput: The packages of the extra `report` are not installed.
    """
    need_packages()
    drawn = {plot.name: plot for plot in plots(record, PAGE)}
    style = _environment().get_template("report.css").render(light=LIGHT, dark=DARK)
    scripts = [_library(), (TEMPLATES / "report.js").read_text()]
    return (
        _environment()
        .get_template("report.html")
        .render(
            version=__version__,
            policy=_ours(_policy(scripts, style)),
            style=_ours(style),
            scripts=[_ours(script) for script in scripts],
            data=_ours(_json({name: plot.spec for name, plot in drawn.items()})),
            plots=drawn,
            lanes=_lanes(Series(record)),
            **candidates(record),
            **facts(record),
        )
    )


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_tame,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _ours(text: str) -> Markup:
    """Mark a text as one that needs no escape: a program of ours, or JSON that closes no tag."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704


def _tame(value: Any) -> Any:
    """Make any text on the page one printable line; what is marked as safe is our own."""
    return printable(value, TEXT_LENGTH) if type(value) is str else value


@functools.cache
def _library() -> str:
    """The JavaScript that draws charts, such that it stands in a page: nothing closes its tag."""
    import vl_convert

    snippet = "window.vegaEmbed = vegaEmbed;"
    bundle = vl_convert.javascript_bundle(snippet, vl_version=vega_lite_version())
    return re.sub(r"<(?=/?script)", r"\\x3c", bundle, flags=re.IGNORECASE)


def _policy(scripts: list[str], style: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _json(value: Any) -> str:
    """JSON that can stand in a page: no tag begins or ends in it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _lanes(series: Series) -> list[dict[str, Any]]:
    """The legend's entries, with colour and sign."""
    return [
        {
            "id": entry.id,
            "name": entry.name,
            "lead": entry.lead,
            "hue": hue_of(entry.engine),
            "sign": SIGNS[shape_of(entry.engine)],
        }
        for entry in series.lanes
    ]
