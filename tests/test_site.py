"""The documentation as a site: it builds without a warning and loads nothing from elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import autotune
from tests.pages import HOME

pytestmark = [pytest.mark.needs("mkdocs"), pytest.mark.needs("mkdocstrings_handlers")]

LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # an announcement of the theme
    done = subprocess.run(command, cwd=HOME, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Loads(HTMLParser):
    """Collects what a page loads when it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag loads."""
        source = dict(attrs).get(LOADED.get(tag, ""))
        if source:
            self.found.append(source)


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures are the site's own."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        assert loads.found
        outside = [each for each in loads.found if re.match(r"(\w+:)?//", each)]
        assert outside == [], page.relative_to(site)
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text())


def test_every_public_name_has_a_place(site: Path) -> None:
    """The API pages have an anchor for each name of the package."""
    text = "\n".join(page.read_text() for page in (site / "api").rglob("*.html"))
    missing = [name for name in autotune.__all__ if f'id="autotune.{name}"' not in text]
    assert missing == []


def test_every_field_of_the_record_is_explained(site: Path) -> None:
    """The page on the record has a row for each field, and no cell for its meaning is empty."""
    text = (site / "record" / "index.html").read_text()
    schema = json.loads((HOME / "docs/record.schema.json").read_text())
    for definition in schema["$defs"].values():
        for field in definition["properties"]:
            assert f"<td><code>{field}</code></td>" in text
    body = text.partition('<h2 id="tuningrecord">')[2]
    assert "<td></td>\n</tr>" not in body


def test_files_that_pages_link_to_are_pages_too(site: Path) -> None:
    """Examples, the changelog and what they link to are shown by the site itself."""
    for place in ("examples/latency_budget.py", "examples/notebook.ipynb", "CHANGELOG"):
        assert (site / "project" / place / "index.html").exists()
    shown = (site / "project/examples/two_inputs.py/index.html").read_text()
    assert "autotune" in shown
    assert 'href="latency_budget.py/"' in (site / "project/examples/index.html").read_text()
