"""Files outside docs/ that pages link to, as pages of the site.

Where the repository is looked at, a link such as `../examples/README.md` opens that file. The site
has docs/ only, so each file that is linked to becomes a page, and so do those that it links to.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

HOME = Path(__file__).parents[2]
DOCS = "docs/"  # where pages lie in the project
PLACE = "project/"  # where the site has its other files
LINK = re.compile(r"(?<=\]\()([^)#\s]+)(#[^)\s]*)?(?=\))")
LANGUAGES = {".py": "python", ".sh": "sh", ".yml": "yaml", ".toml": "toml"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each file outside docs/ that is linked to, from docs/ or from one of them."""
    waiting = [file for file in files if file.src_uri.endswith(".md")]
    while waiting:
        file = waiting.pop()
        for path in _linked(file.content_string, path_of(file.src_uri)):
            place = place_of(path)
            if path.startswith(DOCS) or files.get_file_from_path(place):
                continue
            page = File.generated(
                config, place, content=_as_page(path), inclusion=InclusionLevel.NOT_IN_NAV
            )
            files.append(page)
            waiting.append(page)
    return files


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_: Any) -> str:
    """Turn links to files of the project into links to their pages."""
    here = path_of(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        path = _target(link[1], here)
        if path is None or not files.get_file_from_path(place_of(path)):
            return link[0]
        folder = posixpath.dirname(page.file.src_uri) or "."
        return posixpath.relpath(place_of(path), folder) + (link[2] or "")

    return LINK.sub(moved, markdown)


def path_of(place: str) -> str:
    """The file of the project that a page of the site shows."""
    if not place.startswith(PLACE):
        return DOCS + place
    path = place.removeprefix(PLACE)
    return path if (HOME / path).is_file() else path.removesuffix(".md")


def place_of(path: str) -> str:
    """Where the site has a file of the project."""
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    return PLACE + (path if path.endswith(".md") else f"{path}.md")


def _linked(text: str, here: str) -> Iterator[str]:
    """The files of the project that a page links to."""
    for link in LINK.finditer(text):
        path = _target(link[1], here)
        if path is not None:
            yield path


def _target(link: str, here: str) -> str | None:
    """The file of the project that a link leads to; None where it leads elsewhere."""
    if ":" in link:
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), link))
    return path if not path.startswith("..") and (HOME / path).is_file() else None


def _as_page(path: str) -> str:
    text = (HOME / path).read_text()
    suffix = Path(path).suffix
    if suffix == ".md":
        return text
    if suffix == ".ipynb":
        return _notebook(text)
    language = LANGUAGES.get(suffix, "text")
    return f"# {path}\n\n````{language}\n{text}````\n"


def _notebook(text: str) -> str:
    """The cells of a notebook, one after the other."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(parts) + "\n"
