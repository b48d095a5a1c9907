"""Examples in docstrings, as code: Griffe knows the section as "Examples", we write "Example"."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Gives the section the name that Griffe reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename it in a docstring, before that is parsed."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
