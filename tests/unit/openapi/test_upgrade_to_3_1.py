"""Schemas of OpenAPI 3.0 are upgraded to 3.1; names of properties are not keywords."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.support.openapi import assert_valid, document, merged, operation, part


def lifted(schema: Any) -> Any:
    """The component of a document of 3.0, upgraded. Its names are the original ones again, without the service's
    name."""
    components = {"schemas": {"S": schema, "T": {}}}
    paths = {"/api/s": {"get": operation({"$ref": "#/components/schemas/S"})}}
    old = document(paths, version="3.0.3", components=components)
    before = copy.deepcopy(old)
    new = merged(part("s", old))
    assert old == before
    return json.loads(json.dumps(new["components"]["schemas"]["s_S"]).replace("/s_T", "/T"))


REF = {"$ref": "#/components/schemas/T"}
NULL = {"type": "null"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "string", "nullable": False}, {"type": "string"}),
        ({"nullable": True}, {}),
        ({"nullable": True, "properties": {}}, {"properties": {}}),
        ({"type": "string", "enum": ["a"], "nullable": True}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"type": "string", "enum": ["a", None], "nullable": True}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"enum": ["a"], "nullable": True}, {"enum": ["a", None]}),
        ({"type": "string", "enum": ["a", None]}, {"type": "string", "enum": ["a", None]}),
        ({**REF, "nullable": True}, {"anyOf": [REF, NULL]}),
        ({**REF, "nullable": True, "description": "d"}, {"anyOf": [REF, NULL], "description": "d"}),
        (
            {"allOf": [REF], "nullable": True, "title": "t", "default": None},
            {"anyOf": [{"allOf": [REF]}, NULL], "title": "t", "default": None},
        ),
        (
            {"type": "object", "allOf": [REF], "nullable": True, "x-a": 1},
            {"anyOf": [{"type": "object", "allOf": [REF]}, NULL], "x-a": 1},
        ),
        ({"oneOf": [REF], "nullable": True}, {"anyOf": [{"oneOf": [REF]}, NULL]}),
        ({**REF, "maxLength": 1, "description": "d", "x-a": 1}, {**REF, "description": "d", "x-a": 1}),
        ({"minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
        ({"minimum": 1, "exclusiveMinimum": False}, {"minimum": 1}),
        ({"maximum": 1.5, "exclusiveMaximum": True, "minimum": 0}, {"exclusiveMaximum": 1.5, "minimum": 0}),
        ({"exclusiveMaximum": True}, {}),
        ({"exclusiveMinimum": 3}, {"exclusiveMinimum": 3}),
        ({"example": {"nullable": True}}, {"examples": [{"nullable": True}]}),
        ({"example": None}, {"examples": [None]}),
        ({"type": "string", "format": "byte"}, {"type": "string", "contentEncoding": "base64"}),
        (
            {"type": "string", "format": "byte", "nullable": True},
            {"type": ["string", "null"], "contentEncoding": "base64"},
        ),
        ({"type": "string", "format": "binary"}, {"type": "string", "format": "binary"}),
        ({"type": "integer", "format": "byte"}, {"type": "integer", "format": "byte"}),
        ({"readOnly": True, "writeOnly": False}, {"readOnly": True, "writeOnly": False}),
        ({"deprecated": True}, {"deprecated": True}),
        ({"additionalProperties": False}, {"additionalProperties": False}),
        ({"description": None, "items": None, "allOf": {}, "properties": [1]}, {}),
        ({"allOf": [None, 1, REF]}, {"allOf": [REF]}),
    ],
)  # fmt: skip
def test_schema_is_upgraded(old: Any, new: Any) -> None:
    assert lifted(old) == new


WORDS = ["nullable", "example", "$ref", "exclusiveMinimum", "format", "type", "properties", "items", "x-y", "allOf"]


@pytest.mark.parametrize("word", WORDS)
def test_property_may_have_the_name_of_a_keyword(word: str) -> None:
    inner = {"type": "boolean", "nullable": True, "example": True}
    new = {"type": ["boolean", "null"], "examples": [True]}
    assert lifted({"properties": {word: inner}}) == {"properties": {word: new}}
    nested = {"properties": {"properties": {"properties": {word: inner}}}}
    assert lifted(nested) == {"properties": {"properties": {"properties": {word: new}}}}


@pytest.mark.parametrize("place", ["default", "enum", "x-a", "examples"])
def test_values_are_not_upgraded(place: str) -> None:
    value = [{"nullable": True, "example": 1, "$ref": "x", "exclusiveMinimum": True}]
    assert lifted({place: value}) == {place: value}
    assert lifted({"example": value}) == {"examples": [value]}


NULLABLE = {"type": "string", "nullable": True, "example": "a"}
STRING = {"type": ["string", "null"], "examples": ["a"]}


def everywhere(schema: Any) -> dict[str, Any]:
    """A document with this schema in every location of a schema, and with examples, which are not schemas."""
    content = {
        "a/b": {
            "schema": schema,
            "example": {"nullable": True},
            "encoding": {"e": {"headers": {"H": {"schema": schema}}}},
        }
    }
    parameter = {
        "name": "p",
        "in": "query",
        "schema": schema,
        "example": "e",
        "examples": {"e": {"value": {"example": 1}}},
    }
    response = {"description": "", "headers": {"x-h": {"schema": schema}}, "content": content}
    item: dict[str, Any] = {"parameters": [parameter]}
    item["post"] = {
        "parameters": [parameter],
        "requestBody": {"content": content},
        "responses": {"200": response, "x-r": NULLABLE},
    }
    item["post"] = item["post"] | {"callbacks": {"c": {"{$url}": {"put": {"responses": {"200": response}}}}}}
    nested = {
        "type": "object",
        "properties": {"a": schema},
        "items": schema,
        "additionalProperties": schema,
        "not": schema,
        "oneOf": [schema],
    }
    components = {
        "schemas": {"example": nested}, "parameters": {"example": parameter}, "responses": {"R": response},
        "headers": {"x-h": {"schema": schema}}, "requestBodies": {"B": {"content": content}},
        "callbacks": {"C": {"{$url}": item}},
    }  # fmt: skip
    get = operation({"$ref": "#/components/schemas/example"}, requestBody={"$ref": "#/components/requestBodies/B"})
    get |= {"parameters": [{"$ref": "#/components/parameters/example"}]}
    get |= {"callbacks": {"d": {"$ref": "#/components/callbacks/C"}}}
    get["responses"]["201"] = {"description": "", "headers": {"x-h": {"$ref": "#/components/headers/x-h"}}}
    get["responses"]["202"] = {"$ref": "#/components/responses/R"}
    return {"paths": {"/api/s": item, "/api/s/x": {"get": get}}, "components": components}


def test_schemas_are_upgraded_in_every_location() -> None:
    old = merged(part("s", document(version="3.0.0") | everywhere(NULLABLE)))
    new = merged(part("s", document(version="3.1.0") | everywhere(STRING)))
    assert old == new
    assert str(old).count("'null'") > 20
    # `nullable` stays in examples, as these are not schemas.
    assert str(old).count("{'nullable': True}") > 3


def test_schemas_of_3_1_are_not_upgraded() -> None:
    schema = {"type": "string", "nullable": True, "example": "a", "exclusiveMinimum": True}
    paths = {"/api/s": {"get": operation(schema)}}
    found = merged(part("s", document(paths)))["paths"]["/api/s"]["get"]["responses"]["200"]
    assert found["content"]["application/json"]["schema"] == schema


TUPLE = [{"type": "integer"}, {"$ref": "#/components/schemas/T"}]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"items": TUPLE}, {"prefixItems": TUPLE}),
        ({"items": TUPLE, "additionalItems": False}, {"prefixItems": TUPLE, "items": False}),
        ({"items": TUPLE, "additionalItems": TUPLE[1]}, {"prefixItems": TUPLE, "items": TUPLE[1]}),
        ({"items": [{"items": TUPLE}]}, {"prefixItems": [{"prefixItems": TUPLE}]}),
        ({"items": [True, {"type": "string"}], "prefixItems": TUPLE}, {"prefixItems": TUPLE}),
        ({"items": []}, {}),
        ({"items": [], "additionalItems": TUPLE[1]}, {"items": TUPLE[1]}),
        ({"items": TUPLE[1], "additionalItems": TUPLE[1]}, {"items": TUPLE[1], "additionalItems": TUPLE[1]}),
        ({"dependencies": {"a": ["b"]}}, {"dependentRequired": {"a": ["b"]}}),
        (
            {"dependencies": {"a": ["b"], "c": TUPLE[1], "d": False}},
            {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"c": TUPLE[1], "d": False}},
        ),
        (
            {
                "dependencies": {"a": ["b"], "c": TUPLE[1]},
                "dependentRequired": {"a": ["x"]},
                "dependentSchemas": {"c": {}},
            },
            {"dependentRequired": {"a": ["x", "b"]}, "dependentSchemas": {"c": {"allOf": [{}, TUPLE[1]]}}},
        ),
        ({"dependencies": {}}, {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_keywords_of_older_drafts_are_replaced_in_any_document(version: str, old: Any, new: Any) -> None:
    paths = {"/api/s": {"get": operation(old)}}
    result = merged(part("s", document(paths, version=version, components={"schemas": {"T": {}}})))
    found = result["paths"]["/api/s"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert json.loads(json.dumps(found).replace("/s_T", "/T")) == new
    assert_valid(result)
