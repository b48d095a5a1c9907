"""The charts themselves, in Altair: marks over axes, from the rows of a `Series`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from autotune.report.axes import decades, doublings, failure_tips, from_zero, point_tips, probe_tips
from autotune.report.looks import Look, hue_of, shape_of
from autotune.report.series import MIB, Row, Series
from autotune.report.words import counted
from autotune.units import format_bytes, format_rate, format_seconds, format_share

if TYPE_CHECKING:
    import altair as alt

HEIGHT, BAR_STEP = 320, 54  # pixels
SEARCH_ROOM = 2.0  # below the smallest one are the ticks of disturbed probes
DASHES = [5, 4]

# A lane is in colour when it is the best of its engine, or when the reader points at it.
SHOWN = "highlight ? datum.lane == highlight : datum.lead"
NOT_SHOWN = 0.45  # opacity

PHASES = {"confirm": "measured afresh", "wait": "waiting for quiet"}


class Drawing:
    """Draws the charts of one record in one look; each is None where there are no figures."""

    def __init__(self, series: Series, look: Look) -> None:
        import altair as alt

        self._series = series
        self._look = look
        self._colours = look.colours
        names = [family.name for family in series.families]
        engines = [family.engine for family in series.families]
        hue = [self._colours[hue_of(engine)] for engine in engines]
        shape = [shape_of(engine) for engine in engines]
        legend = alt.Legend(title=None, orient="bottom", columns=2) if look.explained else None
        self._hue = alt.Color("family:N", scale=alt.Scale(domain=names, range=hue), legend=legend)
        self._shape = alt.Shape(
            "family:N", scale=alt.Scale(domain=names, range=shape), legend=legend
        )
        self._accent = hue[0] if hue else self._colours["ink"]

    def gain(self) -> alt.LayerChart | None:
        """Bars of the baselines and of the answer, with their intervals."""
        import altair as alt

        rows = self._series.ways
        if not rows:
            return None
        bars = alt.Chart(_data(rows)).encode(y=alt.Y("name:N", sort=None, axis=None))
        rate = alt.X("rate:Q", axis=None, scale=from_zero(rows, nice=False))
        above: dict[str, Any] = {"baseline": "bottom", "dy": -13, "fontSize": 13}
        colour = alt.condition(
            "datum.tuned", alt.value(self._accent), alt.value(self._ink("faint"))
        )
        return self._layer(
            bars.mark_bar(height=20, yOffset=6, cornerRadiusEnd=3).encode(x=rate, color=colour),
            bars.transform_filter("datum.low && datum.high")
            .mark_rule(strokeWidth=2, yOffset=6, color=self._ink("ink"))
            .encode(x="low:Q", x2="high"),
            bars.mark_text(align="left", fontWeight=600, color=self._ink("ink"), **above).encode(
                x=alt.value(0), text="name:N"
            ),
            bars.mark_text(align="right", color=self._ink("muted"), **above).encode(
                x=alt.value("width"), text="text:N"
            ),
            height=BAR_STEP * len(rows),
        )

    def throughput(self) -> alt.LayerChart | None:
        """Rows per second over the batch size, with intervals; the answer is ringed."""
        import altair as alt

        if not self._series.points:
            return None
        scale = from_zero([*self._series.points, self._series.chosen])
        axis = alt.Axis(labelExpr="format(datum.value, '~s')", tickCount=6)
        rate = alt.Y("rate:Q", title="rows per second", scale=scale, axis=axis)
        low = alt.Y("low:Q", title="rows per second", scale=scale, axis=axis)
        points = alt.Chart(_data(self._series.points)).encode(x=self._sizes())
        return self._layer(
            points.mark_line().encode(y=rate, **self._of_lane()),
            points.transform_filter("datum.low && datum.high")
            .mark_rule(strokeWidth=1.5)
            .encode(y=low, y2="high", **self._of_lane(0.25)),
            self._dots(points, rate),
            *self._crosses(self._series.failures, alt.value("height"), dy=-8),
            *self._answer("rate", rate),
        )

    def latency(self) -> alt.LayerChart | None:
        """Median and quantile over the batch size, with the budget."""
        import altair as alt

        if not self._series.points:
            return None
        rows, goal = self._series.points, self._series.record.goal
        budget_s = goal.latency_budget_s
        budget = budget_s and 1e3 * budget_s
        shown = [budget, *(row[field] for row in rows for field in ("median", "tail"))]
        y = {"title": "milliseconds a batch", **decades(shown)}
        median = alt.Y("median:Q", **y)
        points = alt.Chart(_data(rows)).encode(x=self._sizes())
        text = f"budget {format_seconds(budget_s or 0)} at {format_share(goal.quantile)}"
        return self._layer(
            points.mark_line(strokeDash=DASHES, strokeWidth=1.5).encode(
                y=alt.Y("tail:Q", **y), **self._of_lane(0)
            ),
            points.mark_line().encode(y=median, **self._of_lane()),
            self._dots(points, median),
            *self._limit(budget, text, y),
            *self._answer("median", median),
        )

    def memory(self) -> alt.LayerChart | None:
        """Measured peaks and forecast bounds over the batch size, with the limit."""
        import altair as alt

        rows = [row for row in self._series.points if row["peak"] is not None]
        if not rows:
            return None
        limit_bytes = self._series.record.memory_limit_bytes
        limit = limit_bytes and limit_bytes / MIB
        refused = [r for r in self._series.failures if r["outcome"] == "refused" and r["bound"]]
        both = [row[field] for row in (*rows, *refused) for field in ("peak", "bound")]
        y = {"title": "MiB at the peak", **decades([limit, *both])}
        peak, bound = alt.Y("peak:Q", **y), alt.Y("bound:Q", **y)
        points = alt.Chart(_data(rows)).encode(x=self._sizes())
        text = f"limit {format_bytes(limit_bytes or 0)}"
        return self._layer(
            points.transform_filter("datum.bound")
            .mark_line(strokeDash=DASHES, strokeWidth=1.5)
            .encode(y=bound, **self._of_lane(0)),
            points.mark_line().encode(y=peak, **self._of_lane()),
            self._dots(points, peak),
            *self._crosses(refused, bound),
            *self._limit(limit, text, y),
            *self._answer("peak", peak),
        )

    def search(self) -> alt.LayerChart | None:
        """The batch size of each probe over the time, and when the machine was disturbed."""
        import altair as alt

        rows = self._series.probes
        if not rows:
            return None
        scale = alt.Scale(domain=[0, max(row["end"] for row in rows) or 1.0], nice=False)
        axis = alt.Axis(grid=False)
        seconds = alt.X("start:Q", title="seconds of probing", scale=scale, axis=axis)
        size = alt.Y("size:Q", title="batch size", **doublings(rows, SEARCH_ROOM))
        probes = alt.Chart(_data(rows)).encode(x=seconds, tooltip=probe_tips())
        colour = alt.condition("datum.family", self._hue, alt.value(self._ink("muted")))
        faded = alt.condition("datum.state == 'calm'", alt.value(0.9), alt.value(0.3))
        return self._layer(
            *self._shading(_phases(rows), seconds),
            probes.transform_filter("datum.state == 'disturbed'")
            .mark_tick(orient="vertical", size=12, yOffset=-6, color=self._ink("ink"))
            .encode(y=alt.value("height")),
            probes.transform_filter("datum.state != 'failed'")
            .mark_point(filled=True, size=36)
            .encode(y=size, color=colour, shape=self._shape, opacity=faded),
            probes.transform_filter("datum.state == 'failed'")
            .mark_text(text="\u00d7", fontSize=18)
            .encode(y=size, color=colour),
        )

    def _shading(self, stretches: Sequence[Row], seconds: alt.X) -> list[alt.Chart]:
        """What was no search, shaded, with a word above."""
        import altair as alt

        if not stretches:
            return []
        base = alt.Chart(_data(stretches))
        text = base.mark_text(align="right", baseline="bottom", dy=-8, color=self._ink("muted"))
        return [
            base.mark_rect(color=self._ink("line"), opacity=0.6).encode(x=seconds, x2="end"),
            text.encode(x=alt.X("end:Q"), y=alt.value(0), text="text:N"),
        ]

    def _ink(self, name: str) -> str:
        return self._colours[name]

    def _layer(self, *layers: alt.Chart, height: int = HEIGHT) -> alt.LayerChart:
        import altair as alt

        width = self._look.width or "container"
        return alt.LayerChart(layer=list(layers)).properties(width=width, height=height)

    def _sizes(self) -> alt.X:
        import altair as alt

        chosen = [self._series.chosen] if self._series.chosen else []
        rows = [*self._series.points, *self._series.failures, *chosen]
        return alt.X("size:Q", title="batch size", **doublings(rows))

    def _of_lane(self, not_shown: float = NOT_SHOWN) -> dict[str, Any]:
        """Colour and opacity of what belongs to a lane."""
        import altair as alt

        colour = alt.condition(SHOWN, self._hue, alt.value(self._ink("faint")))
        opacity = alt.condition(SHOWN, alt.value(1), alt.value(not_shown))
        return {"detail": "lane:N", "color": colour, "opacity": opacity}

    def _dots(self, points: alt.Chart, y: alt.Y) -> alt.Chart:

        dots: alt.Chart = points.mark_point(filled=True, size=64).encode(
            y=y, shape=self._shape, tooltip=point_tips(), **self._of_lane()
        )
        return dots

    def _crosses(self, failures: Sequence[Row], y: Any, **options: Any) -> list[alt.Chart]:
        """Candidates that could not be measured."""
        import altair as alt

        if not failures:
            return []
        crosses = alt.Chart(_data(failures)).mark_text(text="\u00d7", fontSize=18, **options)
        return [crosses.encode(x=self._sizes(), y=y, tooltip=failure_tips(), **self._of_lane(0))]

    def _limit(self, value: float | None, text: str, y: dict[str, Any]) -> list[alt.Chart]:
        """A line across that must not be crossed."""
        import altair as alt

        if not value:
            return []
        row = {"limit": value, "text": text}
        line = alt.Chart(_data([row])).encode(y=alt.Y("limit:Q", **y))
        return [
            line.mark_rule(strokeWidth=1.5, color=self._ink("ink")),
            line.mark_text(align="left", dx=4, dy=11, color=self._ink("ink")).encode(
                x=alt.value(0), text="text:N"
            ),
        ]

    def _answer(self, field: str, y: alt.Y) -> list[alt.Chart]:
        """A ring around the choice, and its figure."""
        import altair as alt

        chosen = self._series.record.recommendation
        value = self._series.chosen.get(field)
        if chosen is None or value is None:
            return []
        text = {
            "rate": format_rate(chosen.rows_per_s),
            "median": format_seconds(chosen.latency_s),
            "peak": format_bytes(chosen.peak_bytes or 0),
        }[field]
        row = {
            "size": chosen.batch_size,
            field: value,
            "text": f"{counted(chosen.batch_size, 'row')}: {text}",
        }
        sizes = [r["size"] for r in self._series.points]
        is_right = chosen.batch_size**2 > min(sizes) * max(sizes)
        base = alt.Chart(_data([row])).encode(x=self._sizes(), y=y)
        style: dict[str, Any] = {
            "align": "right" if is_right else "left",
            "dx": -14 if is_right else 14,
            "dy": -14,
            "fontSize": 13,
            "fontWeight": 600,
        }
        halo = base.mark_text(stroke=self._ink("paper"), strokeWidth=4, **style)
        label = base.mark_text(color=self._ink("ink"), **style)
        return [
            base.mark_point(size=280, strokeWidth=2, color=self._ink("ink")),
            halo.encode(text="text:N"),
            label.encode(text="text:N"),
        ]


def _data(rows: Sequence[Row]) -> alt.InlineData:
    import altair as alt

    return alt.InlineData(values=list(rows))


def _phases(rows: Sequence[Row]) -> list[Row]:
    """Stretches of the search that had another purpose than to find the answer."""
    found: list[Row] = []
    for purpose, group in groupby(rows, key=lambda row: row["purpose"]):
        stretch = list(group)
        if purpose in PHASES:
            text = "" if purpose == "wait" else PHASES[purpose]
            if text and (before := next((row for row in found if row["text"] == text), None)):
                before["text"] = ""  # where a wait parts it, the last part has the name
            found.append({"start": stretch[0]["start"], "end": stretch[-1]["end"], "text": text})
    return found
