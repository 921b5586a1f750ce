"""Upgrades schemas of OpenAPI 3.0, and of older drafts of JSON Schema, to OpenAPI 3.1 (JSON Schema 2020-12).

Changes in documents of OpenAPI 3.0:

- `nullable: true` allows null. By OpenAPI 3.0.3 it has no effect beside `$ref` or without `type`. It is widely used
  there nevertheless, so it allows null there, too: a client that expects null works whether or not null is sent.
- Boolean `exclusiveMinimum` and `exclusiveMaximum` become numbers; without the limit that they modify, they are left
  out.
- `example` becomes a list, `examples`. Parameters and media types keep `example`, which is not deprecated there.
- `format: byte` becomes `contentEncoding: base64`. `format: binary` stays: 3.1 allows it, its replacement differs by
  location (nothing for a whole body, `contentMediaType` in multipart forms), and viewers offer an upload for `binary`.
- Beside a `$ref` only annotations stay: 3.0 ignores assertions there, 3.1 would apply them.

Changes in all documents, because generators write keywords of older drafts into new documents, too:

- A list of schemas as `items` becomes `prefixItems`, and `additionalItems` becomes `items` (tuples in older FastAPI).
- `dependencies` becomes `dependentSchemas` and `dependentRequired`.
"""

from __future__ import annotations

from typing import Any

# Keywords that describe a value without restricting it.
ANNOTATIONS = frozenset(
    "title description default example examples deprecated readOnly writeOnly externalDocs xml".split()
)
COMPOSITIONS = ("$ref", "allOf", "anyOf", "oneOf", "not")


def is_openapi_3_0(document: dict[str, Any]) -> bool:
    return str(document.get("openapi")).startswith("3.0")


def without_ref_siblings(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of OpenAPI 3.0, not converted yet, without the keywords that 3.0 ignores beside `$ref`."""
    if "$ref" not in schema:
        return schema
    return {key: value for key, value in schema.items() if key in ("$ref", "nullable") or is_annotation(key)}


def to_2020_12(schema: dict[str, Any]) -> dict[str, Any]:
    """Replaces keywords of older drafts of JSON Schema. Changes the schema and returns it; the schemas inside of it
    must have been converted before."""
    if isinstance(schema.get("items"), list):
        # If the schema has both keywords for a tuple, the newer one applies.
        if items := schema.pop("items"):
            schema.setdefault("prefixItems", items)
        if "additionalItems" in schema:
            schema["items"] = schema.pop("additionalItems")
    if "dependencies" in schema:
        split_dependencies(schema, schema.pop("dependencies"))
    return schema


def split_dependencies(schema: dict[str, Any], dependencies: dict[str, Any]) -> None:
    schemas, required = dict(schema.get("dependentSchemas", {})), schema.get("dependentRequired")
    required = dict(required) if isinstance(required, dict) else {}
    for name, needs in dependencies.items():
        if isinstance(needs, list):
            before = required.get(name)
            required[name] = [*before, *needs] if isinstance(before, list) else needs
        else:
            schemas[name] = {"allOf": [schemas[name], needs]} if name in schemas else needs
    if schemas:
        schema["dependentSchemas"] = schemas
    if required:
        schema["dependentRequired"] = required


def upgraded(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema converted from OpenAPI 3.0 to 3.1. May change the schema that is passed in, as `to_2020_12` does."""
    nullable = schema.pop("nullable", False) is True
    if "example" in schema:
        example = schema.pop("example")
        schema.setdefault("examples", [example])
    upgrade_limit(schema, "exclusiveMinimum", "minimum")
    upgrade_limit(schema, "exclusiveMaximum", "maximum")
    if schema.get("format") == "byte" and schema.get("type", "string") == "string":
        del schema["format"]
        schema.setdefault("contentEncoding", "base64")
    return allow_null(schema) if nullable else schema


def upgrade_limit(schema: dict[str, Any], exclusive: str, inclusive: str) -> None:
    value = schema.get(exclusive)
    if not isinstance(value, bool):
        return
    del schema[exclusive]
    if value and inclusive in schema:
        schema[exclusive] = schema.pop(inclusive)


def allow_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, changed so that it also allows null."""
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
