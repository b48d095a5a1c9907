"""The pages of the documentation, and what stands in them."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

HOME = Path(__file__).parents[1]
DOCS = sorted((HOME / "docs").rglob("*.md"))
PAGES = [*sorted(HOME.glob("*.md")), *DOCS, *sorted((HOME / "examples").rglob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`(\w+\.py)`[^`]*\Z")  # said just before a block: it goes to this file
_ENDS = {"|", ">", "&&", ";"}  # of a command, in a line of a shell


def name_of(page: Path) -> str:
    """A page's path in the project, as a test's name has it."""
    return str(page.relative_to(HOME))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What a link may name after `#`: headings as both GitHub and the site write them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") for text in headings}


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """Blocks of code, each with the name of the file that it is to be saved as; "" for none."""
    text = page.read_text()
    found = []
    for fence in _FENCE.finditer(text):
        if fence[1] == language:
            sentence = text[: fence.start()].rstrip().rpartition("\n\n")[2]
            file = _FILE.search(sentence)
            found.append((file[1] if file else "", fence[2]))
    return found


def commands(page: Path) -> Iterator[list[str]]:
    """Commands in blocks for a shell, as words; of a pipe the first."""
    for _, block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            pieces = itertools.groupby(words, key=lambda word: word in _ENDS)
            yield from (list(piece) for is_end, piece in pieces if not is_end)
