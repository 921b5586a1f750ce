"""Builds inputs of the merged document, and validates the result by independent rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.config import RateLimitSettings, RouteSettings, ServiceSettings
from gateway.openapi import GatewayFacts, ServiceDocument, merge
from gateway.route_policy import service_policies

FACTS = GatewayFacts(title="The gateway", version="7", stripped_headers=frozenset(["X-User-Id", "X-User-Subject"]))

# Keys whose value is a map from arbitrary names to objects.
NAME_MAPS = frozenset(
    "paths callbacks responses headers content encoding links requestBodies securitySchemes pathItems".split()
)
SCHEMA_MAPS = frozenset("properties patternProperties $defs definitions dependentSchemas".split())
SCHEMAS = frozenset(
    "allOf anyOf oneOf prefixItems additionalProperties contains contentSchema else if items not propertyNames then "
    "unevaluatedItems unevaluatedProperties".split()
)


def part(name: str, document: Any, *, prefix: str = "", routes: Any = (), **more: Any) -> ServiceDocument:
    """A service and its document, as the merge gets them. `auth`, `scopes`, `limits` and the like become settings of
    the service, all other values become fields of ServiceDocument."""
    prefix = prefix or f"/api/{name}"
    of_settings = {
        key: more.pop(key)
        for key in ("auth", "scopes", "limits", "plans", "cost", "limits_mode", "count_by")
        if key in more
    }
    settings = ServiceSettings(
        prefix=prefix,
        targets=("http://127.0.0.1:1",),
        routes=tuple(RouteSettings(**one) for one in routes),
        **of_settings,
    )
    return ServiceDocument(name, prefix, tuple(service_policies(name, settings, RateLimitSettings())), document, **more)


def document(paths: Any = None, *, version: str = "3.1.0", **more: Any) -> dict[str, Any]:
    return {"openapi": version, "info": {"title": "T", "version": "1"}, "paths": paths or {}, **more}


def operation(schema: Any = None, **more: Any) -> dict[str, Any]:
    """An operation whose response 200 has this schema."""
    content = {} if schema is None else {"content": {"application/json": {"schema": schema}}}
    return {"responses": {"200": {"description": "fine", **content}}, **more}


def merged(*parts: ServiceDocument, facts: GatewayFacts = FACTS) -> dict[str, Any]:
    result = merge(parts, facts)
    assert_resolved(result)
    return result


def assert_resolved(result: dict[str, Any]) -> None:
    """Asserts that every reference in the document can be resolved in it."""
    for reference in references(result):
        resolve(result, reference)


def assert_valid(result: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(result).validate()


def resolve(root: Any, reference: str) -> Any:
    assert reference.startswith("#/"), reference
    node = root
    for token in unquote(reference[1:]).split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        node = node[int(name)] if isinstance(node, list) else node[name]
    return node


def references(node: Any) -> Iterator[str]:  # noqa: PLR0912 - one branch for each kind of field
    """All references in the document: $ref, operationRef, and mappings of discriminators. Literal values that only look
    like references are excluded."""
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key == "$ref" or (key == "operationRef" and value.startswith("#")):
            yield value
        elif key in ("example", "value", "externalDocs", "flows") or key.startswith("x-"):
            continue
        elif key in ("schema", "itemSchema"):
            yield from references_of_schema(value)
        elif key == "schemas":
            for schema in value.values():
                yield from references_of_schema(schema)
        elif key in NAME_MAPS or (key in ("examples", "parameters") and isinstance(value, dict)):
            # The parameters of a Link Object map names to values, not to objects of OpenAPI.
            for name, item in value.items():
                # Only the Responses Object can have extensions (x-…). In the other maps this is an ordinary name.
                if key != "responses" or not name.startswith("x-"):
                    yield from references(item)
        else:
            yield from references(value)


def references_of_schema(schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key == "$ref":
            yield value
        elif key == "discriminator":
            yield from value.get("mapping", {}).values()
        elif key in SCHEMAS:
            for one in value if isinstance(value, list) else [value]:
                yield from references_of_schema(one)
        elif key in SCHEMA_MAPS:
            for one in value.values():
                yield from references_of_schema(one)
