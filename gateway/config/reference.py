"""Writes the tables of docs/configuration.md: `python -m gateway.config.reference`.

The page has a pair of comments for each model, `<!-- begin ServerSettings -->` and `<!-- end ServerSettings -->`. The
text between them is generated from the model; the rest of the page is written by hand.
"""

from __future__ import annotations

import json
import re
from textwrap import fill
from typing import Any

from gateway.config.json_schema import json_schema
from gateway.config.load import project_folder

PAGE = project_folder() / "docs" / "configuration.md"
GENERATED = re.compile(r"(?<=<!-- begin )(\w+)( -->\n).*?(?=<!-- end \1 -->)", re.DOTALL)
HEADING = "| setting | form | default | description |\n| --- | --- | --- | --- |\n"


def updated(page: str) -> str:
    """The page with current tables. Raises KeyError for a model that does not exist."""
    schema = json_schema()
    tables = {"Settings": schema, **schema["$defs"]}
    # The settings that services other than the built-in ones require.
    tables["ServiceSettings"] |= schema["properties"]["services"]["additionalProperties"]["allOf"][-1]
    return GENERATED.sub(lambda found: f"{found[1]}{found[2]}{table(tables[found[1]])}\n", page)


def table(model: dict[str, Any]) -> str:
    """The description of a model, and a row for each of its settings that is not a table itself."""
    rows = [
        f"| `{name}` | {form(setting)} | {default(name, setting, model)} | {setting['description']} |\n"
        for name, setting in model["properties"].items()
        if "description" in setting
    ]
    return f"{fill(model['description'], 120)}\n\n{HEADING}{''.join(rows)}"


def default(name: str, setting: dict[str, Any], model: dict[str, Any]) -> str:
    if "default" not in setting:
        return "required" if name in model.get("required", ()) else ""
    value = setting["default"]
    # A size is more readable in its largest unit.
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if name.endswith("_bytes") and value and value % factor == 0:
            return f'`"{value // factor}{unit}"`'
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def form(schema: dict[str, Any]) -> str:
    """Describes the values that may be written: `integer from 1 to 256, or size`."""
    if "title" in schema:
        return str(schema["title"])
    if "enum" in schema:
        return " \\| ".join(f'`"{value}"`' for value in schema["enum"])
    if "anyOf" in schema:
        return ", or ".join(map(form, schema["anyOf"]))
    if "$ref" in schema:
        return "table"
    if schema["type"] == "array":
        return f"list of {plural(form(schema['items']))}"
    if schema["type"] == "object":
        (values,) = [*schema.get("patternProperties", {}).values()] or [schema["additionalProperties"]]
        return f"table of {plural(form(values))}"
    return f"{schema['type']}{bounds(schema)}"


def bounds(schema: dict[str, Any]) -> str:
    words = {"minimum": " from", "exclusiveMinimum": " over", "maximum": " to" if "minimum" in schema else ", up to"}
    return "".join(f"{word} {schema[keyword]}" for keyword, word in words.items() if keyword in schema)


def plural(words: str) -> str:
    """Makes the name of a form plural: `address` → `addresses`, `list of limits` → `lists of limits`."""
    return re.sub(r"^.*?(s?)(?= of | from |$)", lambda noun: f"{noun[0]}{'es' if noun[1] else 's'}", words)


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
