"""Make the pictures of the report from a real tuning, whose record lies beside this file.

    python docs/pictures/report.py

needs the extra `report`, playwright, and a Chromium on the path.
"""

from __future__ import annotations

import gzip
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from autotune import TuningRecord
from autotune.files import write_bytes
from autotune.report.page import html

HERE = Path(__file__).parent
RECORD = HERE / "report.json.gz"

WIDE = {"viewport": {"width": 1120, "height": 1560}, "device_scale_factor": 0.7}
# What is photographed: the scheme, and the size of the window in pixels.
SCENES: dict[str, dict[str, Any]] = {
    "report-light": {"color_scheme": "light", **WIDE},
    "report-dark": {"color_scheme": "dark", **WIDE},
    "report-phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 1000}},
}


def main(folder: Path) -> list[Path]:
    """Write each picture to a folder."""
    record = TuningRecord.from_json(gzip.decompress(RECORD.read_bytes()), str(RECORD))
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        page = Path(temporary, "report.html")
        page.write_text(html(record))
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        pictures = []
        for name, scene in SCENES.items():
            pictures.append(folder / f"{name}.png")
            write_bytes(pictures[-1], _photograph(browser, page, scene))
        browser.close()
        return pictures


def _photograph(browser: Browser, page: Path, scene: dict[str, Any]) -> bytes:
    context = browser.new_context(**scene)
    tab = context.new_page()
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-drawn=true]", state="attached")
    picture = tab.screenshot()
    context.close()
    return picture


if __name__ == "__main__":
    for written in main(HERE):
        sys.stdout.write(f"{written.name}: {written.stat().st_size:,} bytes\n")
