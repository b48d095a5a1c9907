"""The page in a real browser: it draws, sorts, fits a phone, and neither loads nor runs a name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autotune import TuningRecord
from autotune.report.looks import DARK, LIGHT
from autotune.report.page import html
from tests.reports import HOSTILE, hostile_record, long_record, real_record

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page

pytestmark = [pytest.mark.needs(name) for name in ("altair", "jinja2", "vl_convert", "playwright")]

CHARTS = ("gain", "throughput", "latency", "memory", "search")
MARKS = "g[class*='mark-'] path, g[class*='mark-'] line, g[class*='mark-'] text"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser of this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        give_up = pytest.fail if os.environ.get("NO_SKIPS") else pytest.skip
        give_up(f"needs a browser: one of {', '.join(names)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]  # in a container there is neither
        found = playwright.chromium.launch(executable_path=path, args=arguments)
        yield found
        found.close()


@dataclass
class Seen:
    """What a page did while it was shown."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Note everything from now on."""
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", self._dismiss)

    def _dismiss(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    """Show a record in the browser, and return what its page did."""
    contexts: list[BrowserContext] = []

    def show_record(record: TuningRecord, **options: Any) -> Seen:
        path = tmp_path / "report.html"
        path.write_text(html(record))
        context = browser.new_context(**options)
        contexts.append(context)
        seen = Seen(context.new_page())
        seen.listen()
        seen.page.goto(path.as_uri())
        seen.page.wait_for_selector("html[data-drawn=true]", state="attached")
        assert seen.requests == [path.as_uri()]
        return seen

    yield show_record
    for context in contexts:
        context.close()


def test_every_chart_is_drawn_and_nothing_is_loaded(show: Any) -> None:
    """A real tuning's charts have marks and fill the page; no error, no request, no dialog."""
    seen = show(real_record())
    names = [chart.get_attribute("id") for chart in seen.page.query_selector_all(".chart")]
    assert set(names) <= set(CHARTS)
    assert {"throughput", "latency", "search"} <= set(names)
    for name in names:
        chart = seen.page.locator(f"#{name}")
        assert chart.locator(MARKS).count() > 3, name
        box, svg = chart.bounding_box(), chart.locator("svg").bounding_box()
        assert box is not None
        assert svg is not None
        assert svg["width"] == pytest.approx(box["width"], abs=8)
        assert svg["height"] > 100
    assert (seen.messages, seen.dialogs) == ([], [])


def test_a_record_with_2000_probes_is_drawn(show: Any) -> None:
    """The longest search there can be is shown without an error."""
    seen = show(long_record())
    assert seen.page.locator("#search").locator(MARKS).count() > 1_000
    assert seen.messages == []


@pytest.mark.parametrize("name", ["script", "closing", "svg", "quotes", "comment", "template"])
def test_a_hostile_name_runs_nothing(show: Any, name: str) -> None:
    """A text that would be a program in a careless page is shown, and does nothing."""
    seen = show(hostile_record(HOSTILE[name]))
    assert HOSTILE[name] in seen.page.inner_text("body")
    seen.page.locator("#throughput g[class*='mark-symbol'] path").first.hover()
    assert (seen.messages, seen.dialogs) == ([], [])
    assert seen.page.locator("script").count() == 3
    assert seen.page.locator("img, iframe, object, embed").count() == 0


def test_the_policy_stops_what_is_put_into_the_page(show: Any) -> None:
    """A script that got in by another way does not run, nor does text become a program."""
    seen = show(hostile_record("x"))
    seen.page.evaluate(
        "() => { const s = document.createElement('script');"
        " s.textContent = 'window.hit = true'; document.body.append(s); }"
    )
    assert seen.page.evaluate("() => window.hit") is None
    assert "Content Security Policy" in " ".join(seen.messages)


def column(page: Page, number: int) -> list[str]:
    """The values of a column, from the top."""
    cells = page.locator(f"#candidates tbody tr td:nth-child({number + 1})")
    return [cell.get_attribute("data-v") or "" for cell in cells.all()]


def test_the_table_sorts_by_the_keyboard_alone(show: Any) -> None:
    """A heading is reached and pressed by keys; it tells its order, which is then that of rows."""
    page = show(real_record()).page
    speeds = [float(value) for value in column(page, 3) if value]
    assert speeds == sorted(speeds, reverse=True)
    heading = page.locator("#candidates th").nth(0)
    assert page.locator("#candidates th[aria-sort]").count() == 1
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    sizes = [int(value) for value in column(page, 0)]
    assert heading.get_attribute("aria-sort") == "descending"
    assert sizes == sorted(sizes, reverse=True)
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [int(value) for value in column(page, 0)] == sorted(sizes)
    assert page.inner_text("#sorted") == "Sorted by batch size, rising."
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert column(page, 1) == sorted(column(page, 1), reverse=True)
    assert page.locator("#candidates th[aria-sort]").count() == 1


def test_a_figure_that_is_not_known_is_sorted_last(show: Any) -> None:
    """Candidates that failed stand at the end, whichever way the table is sorted."""
    page = show(hostile_record("x")).page
    heading = page.locator("#candidates th").nth(3).locator("button")
    for _ in range(2):
        heading.click()
        values = column(page, 3)
        assert values.index("") == len([value for value in values if value])


def test_a_lane_can_be_brought_out_in_all_charts(show: Any) -> None:
    """A press on a lane of the legend changes what is in colour, Escape takes it back."""
    page = show(long_record()).page

    def strokes() -> list[str | None]:
        lines = page.locator("#latency g[class*='mark-line'] path").all()
        return [line.get_attribute("stroke") for line in lines]

    before = strokes()
    page.locator(".legend summary").click()
    button = page.locator(".legend details button").first
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    page.wait_for_function("() => document.querySelectorAll('[aria-pressed=true]').length === 1")
    assert strokes() != before
    page.keyboard.press("Escape")
    assert button.get_attribute("aria-pressed") == "false"


def test_a_phone_shows_it_without_scrolling_aside(show: Any) -> None:
    """On 360 pixels nothing but the table's own frame is wider than the screen."""
    for record in (real_record(), hostile_record(HOSTILE["long"])):
        page = show(record, viewport={"width": 360, "height": 740}).page
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator("#throughput svg").bounding_box()["width"] <= 360


@pytest.mark.parametrize(("scheme", "colours"), [("light", LIGHT), ("dark", DARK)])
def test_page_and_charts_follow_the_readers_scheme(
    show: Any, scheme: str, colours: dict[str, str]
) -> None:
    """In the dark the page is dark, and so are the charts; on paper both are light."""
    page = show(real_record(), color_scheme=scheme).page
    assert ground(page) == rgb(colours["paper"])
    label = page.locator("#throughput g[class*='role-axis-label'] text").first
    assert label.evaluate("text => getComputedStyle(text).fill") == rgb(colours["muted"])
    page.emulate_media(media="print")
    assert ground(page) == rgb(LIGHT["paper"])
    assert label.evaluate("text => getComputedStyle(text).fill") == rgb(LIGHT["muted"])


def ground(page: Page) -> str:
    """The colour behind the page."""
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def rgb(colour: str) -> str:
    """A colour such as "#0072b2" as a browser tells it."""
    return f"rgb({', '.join(str(int(colour[n : n + 2], 16)) for n in (1, 3, 5))})"


def test_every_chart_says_what_is_to_be_seen(show: Any) -> None:
    """Each chart is an image with a text, which is its caption too."""
    page = show(real_record()).page
    for chart in page.locator(".chart").all():
        caption = chart.locator("xpath=following-sibling::figcaption").inner_text()
        assert chart.get_attribute("role") == "img"
        assert chart.get_attribute("aria-label") == caption
        assert len(caption) > 40
