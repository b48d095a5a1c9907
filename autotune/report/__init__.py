"""For people: what a tuning run found, as text for a terminal, a page, Markdown and pictures.

Here stands the text alone; `page`, `markdown` and `charts` need the extra `report`.
"""

from __future__ import annotations

from autotune.report.text import Timed, comparison, elsewhere, summary
from autotune.report.words import printable

__all__ = ["Timed", "comparison", "elsewhere", "printable", "summary"]
