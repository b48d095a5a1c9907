"""The fields of the record, as tables, made from docs/record.schema.json when the site is built."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

MARK = "<!-- fields -->"
SCHEMA = Path(__file__).parents[1] / "record.schema.json"
UNITS = {  # the unit of a field stands in its name; the first that fits is it
    "rows_per_s": "rows/s",
    "_per_s_low": "rows/s",
    "_per_s_high": "rows/s",
    "_s": "s",
    "_bytes": "bytes",
}
Schema = dict[str, Any]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables where a page has the mark for them."""
    return markdown.replace(MARK, tables()) if MARK in markdown else markdown


def tables() -> str:
    """A heading and a table for each kind of object in the record, the record itself first."""
    definitions: dict[str, Schema] = json.loads(SCHEMA.read_text())["$defs"]
    first = "TuningRecord"
    names = [first, *(name for name in definitions if name != first)]
    return "\n\n".join(_section(name, definitions[name]) for name in names)


def _section(name: str, definition: Schema) -> str:
    sections = griffe.Docstring(definition["description"]).parse("google", warnings=False)
    meanings = {
        attribute.name: " ".join(attribute.description.split())
        for section in sections
        if section.kind is griffe.DocstringSectionKind.attributes
        for attribute in section.value
    }
    what = " ".join(str(sections[0].value).split())
    rows = _rows(definition, meanings)
    head = ("field", "type", "unit", "where it is absent", "meaning")
    lines = [f"## {name}", "", what, "", *map(_line, (head, ["---"] * len(head), *rows))]
    return "\n".join(lines)


def _rows(definition: Schema, meanings: dict[str, str]) -> Iterator[tuple[str, ...]]:
    """A row for each field, in the order in which they are told."""
    required, properties = definition.get("required", ()), definition["properties"]
    order = list(meanings)
    for field in sorted(properties, key=lambda f: order.index(f) if f in order else -1):
        schema = properties[field]
        absent = "never" if field in required else f"`{json.dumps(schema.get('default'))}`"
        meaning = meanings.get(field, "")
        if not meaning and "enum" in schema:
            meaning = "What kind of outcome it is."
        yield f"`{field}`", _type(schema), _unit(field), absent, meaning


def _type(schema: Schema) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if schema["type"] == "object":
        return f"object of {_type(schema['additionalProperties'])}"
    least = f", {schema['minimum']} or more" if "minimum" in schema else ""
    return f"{schema['type']}{least}"


def _unit(field: str) -> str:
    return next((unit for end, unit in UNITS.items() if field.endswith(end)), "")


def _line(cells: Any) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
