"""OpenAPI 3.0 as OpenAPI 3.1: what the two say differently, said the newer way.

What changes, all of it in Schema Objects, found by where they stand (`structure`):

- `nullable: true` is read as its author meant it: null is a value too. By the letter of 3.0.3 it does nothing beside
  `$ref` or without `type`, yet that is how it is widely written, and a client that expects null is safe both ways.
- Boolean `exclusiveMinimum`/`exclusiveMaximum` become the numbers; alone they mean nothing and go.
- `example` becomes a list, `examples`. Parameters and media types keep theirs: there it is not deprecated.
- `format: byte` becomes `contentEncoding: base64`. `format: binary` stays: in 3.1 it only annotates and asserts
  nothing, and the new words for it differ by place (nothing at all for a whole body, `contentMediaType` in multipart
  forms), where today's viewers still look for `binary` to offer a file to choose.
- Beside a `$ref`, 3.0 ignores whatever asserts and 3.1 obeys it: only annotations stay there.
"""

from __future__ import annotations

from typing import Any

from gateway.openapi.structure import DROPPED, SECTIONS, Visit, mapped, rebuilt

# Say something about a value without asserting anything of it.
ANNOTATIONS = frozenset(
    "title description default example examples deprecated readOnly writeOnly externalDocs xml".split()
)
COMPOSITIONS = ("$ref", "allOf", "anyOf", "oneOf", "not")


def lift(document: dict[str, Any]) -> dict[str, Any]:
    """The document as OpenAPI 3.1.0: itself where it is 3.1, else a copy that shares what did not change. A part of the
    wrong type is left out; raises nothing for a document that `reading.read` returned."""
    if not is_old(document):
        return document
    lifted = document | {"openapi": "3.1.0"}
    if "paths" in document:
        paths = mapped(document["paths"], "path_item", lift_part, is_extensible=True)
        lifted["paths"] = {} if paths is DROPPED else paths
    components = document.get("components")
    if isinstance(components, dict):
        kinds = {section: kind for kind, section in SECTIONS.items()}
        copy = {
            key: mapped(value, kinds[key], lift_part, is_extensible=False) if key in kinds else value
            for key, value in components.items()
        }
        lifted["components"] = {key: value for key, value in copy.items() if value is not DROPPED}
    return lifted


def is_old(document: dict[str, Any]) -> bool:
    return str(document.get("openapi")).startswith("3.0")


def lift_part(kind: str, node: Any) -> Any:
    """One object of a 3.0 document, with all below it, as 3.1."""
    if not isinstance(node, dict):
        # true and false are schemas in 3.0 too, as additionalProperties.
        return node if kind == "schema" and isinstance(node, bool) else DROPPED
    if kind == "schema":
        return lifted_schema(node, lift_part)
    return rebuilt(kind, node, lift_part)


def lifted_schema(node: dict[str, Any], visit: Visit) -> dict[str, Any]:
    schema = rebuilt("schema", node, visit)
    nullable = schema.pop("nullable", False) is True
    if "$ref" in schema:
        schema = {key: value for key, value in schema.items() if key == "$ref" or is_annotation(key)}
    if "example" in schema:
        example = schema.pop("example")
        schema.setdefault("examples", [example])
    lift_limit(schema, "exclusiveMinimum", "minimum")
    lift_limit(schema, "exclusiveMaximum", "maximum")
    if schema.get("format") == "byte" and schema.get("type", "string") == "string":
        del schema["format"]
        schema.setdefault("contentEncoding", "base64")
    return with_null(schema) if nullable else schema


def lift_limit(schema: dict[str, Any], exclusive: str, inclusive: str) -> None:
    value = schema.get(exclusive)
    if not isinstance(value, bool):
        return
    del schema[exclusive]
    if value and inclusive in schema:
        schema[exclusive] = schema.pop(inclusive)


def with_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, with null beside what it allows."""
    if any(key in schema for key in COMPOSITIONS):
        outside = {key: value for key, value in schema.items() if is_annotation(key)}
        inside = {key: value for key, value in schema.items() if not is_annotation(key)}
        return outside | {"anyOf": [inside, {"type": "null"}]}
    types = schema.get("type")
    if isinstance(types, str):
        schema["type"] = [types] if types == "null" else [types, "null"]
    elif isinstance(types, list) and "null" not in types:
        schema["type"] = [*types, "null"]
    enum = schema.get("enum")
    if isinstance(enum, list) and None not in enum:
        schema["enum"] = [*enum, None]
    return schema


def is_annotation(key: str) -> bool:
    return key in ANNOTATIONS or key.startswith("x-")
