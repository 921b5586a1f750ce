"""Random documents: whatever they contain, the merged document is complete."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.openapi import DocumentError, document_of, drifts, merge, parse_document
from tests.support.openapi import FACTS, assert_resolved, part

# All names that have a meaning at some location. Random documents have them at any location.
WORDS = (
    "$ref $id $anchor $dynamicAnchor $dynamicRef $defs allOf anyOf oneOf not if items properties additionalProperties "
    "discriminator mapping propertyName nullable example examples default enum const type format exclusiveMinimum "
    "minimum schemas responses parameters requestBodies headers securitySchemes links callbacks pathItems A B name in "
    "schema content description required summary operationId operationRef tags servers url security get put trace 200 "
    "x-a itemSchema 401 default 4XX a/b application/problem+json {$url} flows tokenUrl scheme prefixItems encoding"
).split()
TEXTS = [
    "A", "B", "", "x", "/id", "#A", "#", "query", "header", "apiKey", "http", "oauth2", "string", "op", "id#/$defs/A",
    "#/components/schemas/A", "#/components/schemas/B", "#/components/responses/A", "#/components/parameters/A",
    "#/components/callbacks/A", "#/components/pathItems/A", "#/components/schemas/A/properties/B", "#/components",
    "#/components/schemas", "#/paths/~1api~1s~1a/get", "#/paths/~1api~1s~1a", "#/paths/~1api~1s~1a/get/responses/200",
    "other.json#/A", "https://h/x#y", "#/components/schemas/A/allOf/0", "#/components/securitySchemes/A",
]  # fmt: skip
keys = st.sampled_from(WORDS)
leaves = st.sampled_from(TEXTS) | st.none() | st.booleans() | st.integers(0, 3)
anything: st.SearchStrategy[Any] = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)

reference = st.sampled_from(TEXTS).map(lambda text: {"$ref": text})
mapping = st.dictionaries(st.text(max_size=2), st.sampled_from(TEXTS), max_size=2)
discriminator = st.fixed_dictionaries({"propertyName": st.just("p")}, optional={"mapping": mapping})
schema: st.SearchStrategy[Any] = st.recursive(
    reference | anything,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(keys, inner, max_size=2),
            "allOf": st.lists(inner, max_size=2),
            "oneOf": st.lists(inner, max_size=2),
            "items": inner,
            "$defs": st.dictionaries(st.sampled_from(["A", "B"]), inner, max_size=2),
            "$id": st.sampled_from(["/id", "id", "https://h/id", ""]),
            "$anchor": st.sampled_from(["A", "B"]),
            "$dynamicAnchor": st.sampled_from(["A", "B"]),
            "$dynamicRef": st.sampled_from(["#A", "/id#B"]),
            "$ref": st.sampled_from(TEXTS),
            "nullable": st.booleans(),
            "discriminator": discriminator,
        },
    ),
    max_leaves=5,
)  # fmt: skip


def maps_of(kind: st.SearchStrategy[Any], names: list[str] | None = None) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(names or ["A", "B", "a b"]), kind | reference | anything, max_size=2)


content = st.fixed_dictionaries(
    {}, optional={"content": maps_of(st.fixed_dictionaries({"schema": schema}), ["a/b", "application/problem+json"])}
)
parameter = st.fixed_dictionaries(
    {"name": st.sampled_from(["p", "x-user-id"]), "in": st.sampled_from(["query", "header"]), "schema": schema}
)
header = st.fixed_dictionaries({"schema": schema})
link = st.fixed_dictionaries(
    {}, optional={"operationId": st.sampled_from(["op", "no"]), "operationRef": st.sampled_from(TEXTS)}
)
response = st.builds(
    lambda one, two: {**one, **two},
    content,
    st.fixed_dictionaries({}, optional={"headers": maps_of(header), "links": maps_of(link)}),
)
operation: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "operationId": st.sampled_from(["op", "other"]),
        "parameters": st.lists(parameter | reference | anything, max_size=2),
        "requestBody": content | reference | anything,
        "responses": maps_of(response, ["200", "401", "4XX", "default", "x-a"]),
        "callbacks": maps_of(
            maps_of(st.dictionaries(st.sampled_from(["get", "post"]), anything, max_size=1), ["{$url}"])
        ),
        "security": st.lists(st.dictionaries(st.sampled_from(["A", "B"]), anything, max_size=2), max_size=2) | anything,
        "tags": anything,
    },
)
item = st.dictionaries(
    st.sampled_from(["get", "put", "trace", "parameters", "$ref", "x-a"]), operation | anything, max_size=3
)
scheme = st.fixed_dictionaries(
    {"type": st.sampled_from(["apiKey", "http", "oauth2"])},
    optional={"in": leaves, "name": leaves, "flows": anything, "scheme": leaves},
)
templates = st.sampled_from(["/api/s", "/api/s/a", "/api/s/{id}", "/b", "x"])
documents = st.fixed_dictionaries(
    {"openapi": st.sampled_from(["3.0.3", "3.1.0"])},
    optional={
        "info": anything,
        "paths": st.dictionaries(templates, item | reference | anything, max_size=3),
        "security": anything,
        "tags": anything,
        "servers": anything | st.just([{"url": "/api/s"}]),
        "components": st.fixed_dictionaries(
            {},
            optional={
                "schemas": maps_of(schema), "parameters": maps_of(parameter), "responses": maps_of(response),
                "headers": maps_of(header), "requestBodies": maps_of(content), "securitySchemes": maps_of(scheme),
                "pathItems": maps_of(item), "links": maps_of(link), "callbacks": maps_of(maps_of(item, ["{$url}"])),
            },
        )
        | anything,
    },
)  # fmt: skip


@settings(deadline=None)
@given(documents, st.booleans(), st.sampled_from(["required", "none"]))
def test_merge_of_any_document_is_complete(document: Any, strip: bool, auth: str) -> None:
    before = copy.deepcopy(document)
    parts = [
        part("s", document, strip_prefix=strip, auth=auth, routes=[{"path": "/api/s/a", "limits": ["1/hour"]}]),
        part("t", document, prefix="/"),
    ]
    result = merge(parts, FACTS)
    assert_resolved(result)
    assert all(path.startswith("/") for path in result["paths"])
    identifiers = [
        operation["operationId"]
        for item in result["paths"].values()
        for method, operation in item.items()
        if method in ("get", "put") and "operationId" in operation
    ]
    assert len(set(identifiers)) == len(identifiers)
    assert json.dumps(merge(parts, FACTS)) == json.dumps(result)
    assert_resolved(document_of("s", parts, FACTS) or {})
    drifts(parts)
    assert document == before


@settings(deadline=None)
@given(documents)
def test_document_parsed_from_bytes_is_merged_the_same(document: Any) -> None:
    assert parse_document(json.dumps(document).encode()) == document


@settings(deadline=None)
@given(anything)
def test_merge_accepts_any_value_as_a_document(value: Any) -> None:
    document = value if isinstance(value, dict) else {"openapi": "3.1.0", "paths": value}
    assert_resolved(merge([part("s", document)], FACTS))
    try:
        parse_document(json.dumps(value).encode())
    except DocumentError:
        return
    raise AssertionError("no version, but it was read")
