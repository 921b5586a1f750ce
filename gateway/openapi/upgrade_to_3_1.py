"""Schemas of OpenAPI 3.0 and of older drafts of JSON Schema, said the way of OpenAPI 3.1 (JSON Schema 2020-12).

What changes in documents of 3.0:

- `nullable: true` is read as its author meant it: null is a value too. By the letter of 3.0.3 it does nothing beside
  `$ref` or without `type`, yet that is how it is widely written, and a client that expects null is safe both ways.
- Boolean `exclusiveMinimum`/`exclusiveMaximum` become the numbers; alone they mean nothing and go.
- `example` becomes a list, `examples`. Parameters and media types keep theirs: there it is not deprecated.
- `format: byte` becomes `contentEncoding: base64`. `format: binary` stays: in 3.1 it only annotates and asserts
  nothing, and the new words for it differ by place (nothing at all for a whole body, `contentMediaType` in multipart
  forms), where today's viewers still look for `binary` to offer a file to choose.
- Beside a `$ref`, 3.0 ignores whatever asserts and 3.1 obeys it: only annotations stay there.

What changes in any document, as generators write the older words into all of them:

- A list of schemas as `items` becomes `prefixItems`, and `additionalItems` becomes `items`: tuples of older FastAPIs.
- `dependencies` becomes `dependentSchemas` and `dependentRequired`.
"""

from __future__ import annotations

from typing import Any

# Say something about a value without asserting anything of it.
ANNOTATIONS = frozenset(
    "title description default example examples deprecated readOnly writeOnly externalDocs xml".split()
)
COMPOSITIONS = ("$ref", "allOf", "anyOf", "oneOf", "not")


def is_old(document: dict[str, Any]) -> bool:
    return str(document.get("openapi")).startswith("3.0")


def without_ignored(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of 3.0 as it stands in its document, without what counts for nothing beside its `$ref`."""
    if "$ref" not in schema:
        return schema
    return {key: value for key, value in schema.items() if key in ("$ref", "nullable") or is_annotation(key)}


def modern(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema in the words of JSON Schema 2020-12: itself, changed. The schemas in it must have been through here
    before."""
    if isinstance(schema.get("items"), list):
        # Where both words for a tuple are there, the newer one counts.
        if items := schema.pop("items"):
            schema.setdefault("prefixItems", items)
        if "additionalItems" in schema:
            schema["items"] = schema.pop("additionalItems")
    if "dependencies" in schema:
        settle_dependencies(schema, schema.pop("dependencies"))
    return schema


def settle_dependencies(schema: dict[str, Any], dependencies: dict[str, Any]) -> None:
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


def lifted(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of 3.0 as 3.1; as `modern`, it may change the one given."""
    nullable = schema.pop("nullable", False) is True
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
