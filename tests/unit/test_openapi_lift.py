"""OpenAPI 3.0 says the same as 3.1; a property's name is no keyword."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gateway.openapi import lift
from tests.support.openapi import document


def lifted(schema: Any) -> Any:
    old = document(version="3.0.3", components={"schemas": {"S": schema}})
    before = copy.deepcopy(old)
    new = lift(old)
    assert old == before
    assert new["openapi"] == "3.1.0"
    return new["components"]["schemas"]["S"]


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
def test_a_schema(old: Any, new: Any) -> None:
    assert lifted(old) == new


WORDS = ["nullable", "example", "$ref", "exclusiveMinimum", "format", "type", "properties", "items", "x-y", "allOf"]


@pytest.mark.parametrize("word", WORDS)
def test_a_property_may_have_the_name_of_a_keyword(word: str) -> None:
    inner = {"type": "boolean", "nullable": True, "example": True}
    new = {"type": ["boolean", "null"], "examples": [True]}
    assert lifted({"properties": {word: inner}}) == {"properties": {word: new}}
    nested = {"properties": {"properties": {"properties": {word: inner}}}}
    assert lifted(nested) == {"properties": {"properties": {"properties": {word: new}}}}


@pytest.mark.parametrize("place", ["default", "enum", "x-a", "examples"])
def test_values_are_left_alone(place: str) -> None:
    value = [{"nullable": True, "example": 1, "$ref": "x", "exclusiveMinimum": True}]
    assert lifted({place: value}) == {place: value}
    assert lifted({"example": value}) == {"examples": [value]}


NULLABLE = {"type": "string", "nullable": True, "example": "a"}
STRING = {"type": ["string", "null"], "examples": ["a"]}


def everywhere(schema: Any) -> dict[str, Any]:
    """A document with this schema wherever one can stand, and with examples that are no schemas."""
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
        "callbacks": {"C": {"{$url}": item}}, "x-own": {"schemas": NULLABLE},
    }  # fmt: skip
    return {"paths": {"/x": item, "x-p": NULLABLE}, "components": components}


def test_schemas_are_found_wherever_they_stand() -> None:
    old = document(version="3.0.0") | everywhere(NULLABLE)
    assert lift(old) == document(version="3.1.0") | everywhere(STRING)


def test_a_newer_document_is_itself() -> None:
    new = document() | everywhere(NULLABLE)
    assert lift(new) is new


@pytest.mark.parametrize("wrong", [None, [], "x", 1, {"a": None}, {"a": 1}])
def test_what_is_of_the_wrong_type_is_left_out(wrong: Any) -> None:
    assert lift({"openapi": "3.0.0", "paths": wrong})["paths"] == {}
    assert lift({"openapi": "3.0.0", "components": {"schemas": wrong}})["components"] in ({}, {"schemas": {}})
