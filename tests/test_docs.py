"""The documents say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from autotune.records import json_schema

HOME = Path(__file__).parents[1]
PAGES = [HOME / "README.md", HOME / "CONTRIBUTING.md", *sorted((HOME / "docs").glob("*.md"))]


def test_the_schema_in_docs_is_that_of_the_record() -> None:
    """docs/record.schema.json is made from the structs; CONTRIBUTING.md tells the command."""
    assert json.loads((HOME / "docs/record.schema.json").read_text()) == json.loads(
        json.dumps(json_schema())
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a file of this project finds it."""
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
