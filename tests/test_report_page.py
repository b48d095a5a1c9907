"""The page as a text: whole in itself, and nothing in it that a name could have put there."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings

from autotune import Candidate, Goal, Measurement, TuningRecord
from autotune.engines import NAMES
from autotune.report.charts import plots
from autotune.report.looks import DARK, LIGHT, PAGE, PICTURE
from autotune.report.page import html
from tests.reports import HOSTILE, hostile_record, long_record
from tests.test_records import RECORDS
from tests.tunings import XEON, tuned_on

pytestmark = [pytest.mark.needs(name) for name in ("altair", "jinja2", "vl_convert")]

MOST_BYTES = 2_000_000
DATA = re.compile(r'<script type="application/json" id="plots">(.*?)</script>')


class Page(HTMLParser):
    """The elements of a page, their attributes, and what stands in scripts and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.contents: list[tuple[str, str]] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        """Note what stands in an element that no reader sees."""
        if self._inside in ("script", "style"):
            self.contents.append((self._inside, data))
            self._inside = ""


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_name_is_text(text: str) -> None:
    """With any text in all places the page has the elements that it has with a plain word.

    No control character gets into it, and the charts' data ends with its element.
    """
    page = html(hostile_record(text))
    assert elements_of(page) == elements_of(plain())
    ours = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert all(char.isprintable() or char == "\n" for char in ours)
    assert "x" * 1_001 not in ours
    (data,) = DATA.findall(page)
    assert not set(data) & set("<>&")
    assert set(json.loads(data)) == {"gain", "throughput", "latency", "memory", "search"}


def test_names_of_no_letters_have_a_page() -> None:
    """A record whose texts are all empty is drawn like any other."""
    assert 'id="throughput"' in html(hostile_record(""))


@functools.cache
def plain() -> str:
    """The page of a record whose texts are all one letter."""
    return html(hostile_record("x"))


def elements_of(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """The elements of a page, but for the folded part of the legend: a comma makes more lanes."""
    return [element for element in Page(page).elements if element[0] not in ("details", "summary")]


def test_only_what_the_policy_names_by_hash_may_run() -> None:
    """The policy allows the page's scripts and style, and nothing else: no address, no eval."""
    page = Page(plain())
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', plain())
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed["default-src"] == "'none'"
    assert "unsafe" not in policy
    assert "http" not in policy
    scripts = [content for kind, content in page.contents if kind == "script"]
    (style,) = (content for kind, content in page.contents if kind == "style")
    data, *programs = scripts
    assert json.loads(data)
    assert allowed["script-src"].split() == [hash_of(program) for program in programs]
    assert allowed["style-src"] == hash_of(style)


def hash_of(text: str) -> str:
    """A text's hash as policies write it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_largest_page_is_small() -> None:
    """With 2,000 probes of all engines the page is below 2 MB."""
    assert len(html(long_record()).encode()) < MOST_BYTES


def test_a_record_with_nothing_in_it_has_a_page() -> None:
    """Without model, machine, outcomes and answer the page says that nothing ran."""
    page = html(TuningRecord(goal=Goal(latency_budget_s=0.02), outcomes=(), recommendation=None))
    assert "No candidate ran: the budget allowed no probe" in page
    assert 'class="chart"' not in page


def test_a_record_without_an_answer_has_its_curves() -> None:
    """What NoFeasibleBatchSize carries is drawn: the curves, and no answer."""
    record = tuned_on(None, None, recommendation=None, goal=Goal(latency_budget_s=1e-3))
    page = html(record)
    assert 'id="throughput"' in page
    assert 'id="gain"' not in page
    assert "over the latency limit" in page


def test_the_answer_is_the_heading() -> None:
    """The page begins with the answer in one sentence."""
    (heading,) = re.findall(r"<h1>(.*?)</h1>", html(tuned_on(XEON)))
    assert heading == "Batches of 8 rows with keras: 80.0 rows/s."


@settings(max_examples=8)
@given(RECORDS)
def test_any_record_has_a_page(record: TuningRecord) -> None:
    """Whatever a record holds, there is a page of it, and its data is JSON without NaN."""
    page = html(record)
    (data,) = DATA.findall(page)
    json.loads(data, parse_constant=pytest.fail)


def test_every_engine_has_its_own_colour_and_shape() -> None:
    """Five engines are told apart by colour, and by shape where colours are not seen."""
    from autotune.report.looks import hue_of, shape_of

    assert len({hue_of(name) for name in NAMES}) == len(NAMES)
    assert len({shape_of(name) for name in NAMES}) == len(NAMES)
    assert hue_of("unknown") not in {hue_of(name) for name in NAMES}


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_stands_out_from_the_page(colours: dict[str, str]) -> None:
    """Text has the contrast that WCAG 2.2 asks for (4.5), in light and in dark."""
    for ground in ("paper", "card"):
        for text in ("ink", "muted"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def contrast(one: str, other: str) -> float:
    """The contrast of two colours: WCAG 2.2, "relative luminance" and "contrast ratio"."""
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """How bright a colour such as "#0072b2" is, from 0 to 1."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_charts_are_written_in_vega_lite() -> None:
    """Each chart is valid by the schema of Vega-Lite, as Altair holds it."""
    import altair as alt

    for look in (PAGE, PICTURE):
        for plot in plots(hostile_record("x"), look):
            assert alt.Chart.from_dict(plot.spec).to_dict()["layer"]


def rows_of(page: str) -> list[list[str]]:
    """The values by which the table is sorted, row by row."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return [re.findall(r'data-v="([^"]*)"', row) for row in body.split("<tr")[1:]]


def test_the_table_has_all_candidates_the_fastest_first() -> None:
    """Each candidate is a row with its figures as numbers; what failed comes last."""
    outcomes: list[Any] = [
        Measurement(Candidate(4), (0.1, 0.1)),
        Measurement(Candidate(8), (0.1, 0.1)),
    ]
    rows = rows_of(html(tuned_on(None, None, outcomes=tuple(outcomes))))
    assert [row[0] for row in rows] == ["8", "4"]
    assert [float(row[3]) for row in rows] == pytest.approx([80, 40])
