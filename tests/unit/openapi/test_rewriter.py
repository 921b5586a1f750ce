"""Names are prefixed and references follow them. Values that look like references stay unchanged."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.support.openapi import document, merged, operation, part, resolve

PATH = "/api/s/x"


def schema_of(schema: Any, schemas: Any = None, **more: Any) -> tuple[Any, dict[str, Any]]:
    """Merges a document whose operation responds with this schema. Returns the rewritten schema and the merged
    document."""
    components = {"schemas": schemas or {}} | more.pop("components", {})
    given = document({PATH: {"get": operation(schema)}, **more.pop("paths", {})}, components=components, **more)
    before = copy.deepcopy(given)
    result = merged(part("s", given))
    assert given == before
    return result["paths"][PATH]["get"]["responses"]["200"]["content"]["application/json"]["schema"], result


def followed(schema: Any, result: dict[str, Any]) -> Any:
    return resolve(result, schema["$ref"])


@pytest.mark.parametrize(
    ("reference", "name", "title"),
    [
        ("#/components/schemas/A", "s_A", "A"),
        ("#/components/schemas/a~1b~0c", "s_a_b_c", "a/b~c"),
        ("#/components/schemas/a%20b", "s_a_b", "a b"),
        ("#/components/schemas/%41", "s_A", "A"),
        ("#%2Fcomponents%2Fschemas%2FA", "s_A", "A"),
        ("#/components/schemas/Outer/properties/in", "s_components_schemas_Outer_properties_in", "in"),
        ("#/components/schemas/Outer/$defs/D", "s_components_schemas_Outer_defs_D", "D"),
        ("#/components/schemas/Outer/allOf/0", "s_components_schemas_Outer_allOf_0", "first"),
        ("#/paths/~1api~1s~1y/get/parameters/0/schema", "s_s_y_get_parameters_0_schema", "of a parameter"),
        ("#/paths/~1hidden/get/responses/200/content/a~1b/schema", "s_responses_200_content_a_b_schema", "hidden"),
        ("#marked", "s_Anchored", "anchored"),
        ("https://h/id", "s_Identified", "identified"),
        ("https://h/id#/$defs/D", "s_components_schemas_Identified_defs_D", "D of id"),
        ("https://h/id#inner", "s_components_schemas_Identified_defs_E", "E of id"),
        ("https://h/nested", "s_components_schemas_Identified_defs_F", "F of id"),
    ],
)  # fmt: skip
def test_reference_follows_its_target(reference: str, name: str, title: str) -> None:
    schemas = {
        "A": {"title": "A"},
        "a/b~c": {"title": "a/b~c"},
        "a b": {"title": "a b"},
        "Outer": {
            "properties": {"in": {"title": "in"}},
            "$defs": {"D": {"title": "D"}},
            "allOf": [{"title": "first"}],
        },
        "Anchored": {"$anchor": "marked", "title": "anchored"},
        "Identified": {
            "$id": "https://h/id",
            "title": "identified",
            "$defs": {
                "D": {"title": "D of id"},
                "E": {"$anchor": "inner", "title": "E of id"},
                "F": {"$id": "nested", "title": "F of id"},
            },
        },
    }
    parameter = {"name": "p", "in": "query", "schema": {"title": "of a parameter"}}
    hidden = {"responses": {"200": {"content": {"a/b": {"schema": {"title": "hidden"}}}}}}
    paths = {"/api/s/y": {"get": operation(parameters=[parameter])}, "/hidden": {"get": hidden}}
    schema, result = schema_of({"$ref": reference, "description": "beside"}, schemas, paths=paths)
    assert schema == {"$ref": f"#/components/schemas/{name}", "description": "beside"}
    assert followed(schema, result)["title"] == title
    assert "$id" not in str(result)
    assert "$anchor" not in str(result)


def test_references_in_a_schema_with_an_id_are_relative_to_it() -> None:
    inner = {"$ref": "#/$defs/D"}
    to_document = {"$ref": "#/components/schemas/D"}
    schemas = {
        "One": {"$id": "/one", "properties": {"a": inner, "b": to_document}, "$defs": {"D": {"title": "D of one"}}},
        "Two": {
            "$id": "/two",
            "properties": {"a": inner, "b": {"$ref": "one#/$defs/D"}},
            "$defs": {"D": {"title": "D of two"}},
        },
        "D": {"title": "the component"},
    }
    schema, result = schema_of({"oneOf": [{"$ref": "#/components/schemas/One"}, {"$ref": "/two"}]}, schemas)
    one, two = (followed(branch, result)["properties"] for branch in schema["oneOf"])
    assert followed(one["a"], result)["title"] == "D of one"
    assert followed(one["b"], result)["title"] == "the component"
    assert followed(two["a"], result)["title"] == "D of two"
    assert followed(two["b"], result)["title"] == "D of one"


def test_dynamic_reference_with_one_possible_target_becomes_a_reference() -> None:
    tree = {"$dynamicAnchor": "node", "properties": {"children": {"items": {"$dynamicRef": "#node"}}}}
    schema, result = schema_of({"$ref": "#/components/schemas/Tree"}, {"Tree": tree})
    assert followed(schema, result) == {"properties": {"children": {"items": {"$ref": "#/components/schemas/s_Tree"}}}}


def test_dynamic_reference_with_several_possible_targets_is_unresolved() -> None:
    schemas = {
        "Tree": {"$id": "/tree", "$dynamicAnchor": "node", "items": {"$dynamicRef": "#node"}},
        "Strict": {"$id": "/strict", "$dynamicAnchor": "node", "$ref": "tree", "maxItems": 1},
    }
    schema, result = schema_of({"$ref": "/strict"}, schemas)
    assert followed(schema, result) == {"maxItems": 1, "$ref": "#/components/schemas/s_Tree"}
    assert result["components"]["schemas"]["s_Tree"] == {"items": {"x-gateway-unresolved": "#node"}}


def test_both_kinds_of_reference_in_one_schema() -> None:
    schemas = {"A": {}, "B": {"$dynamicAnchor": "b"}}
    schema, _ = schema_of({"$ref": "#/components/schemas/A", "$dynamicRef": "#b", "allOf": [True]}, schemas)
    assert schema == {"$ref": "#/components/schemas/s_A", "allOf": [True, {"$ref": "#/components/schemas/s_B"}]}


@pytest.mark.parametrize(
    ("reference", "note"),
    [
        ("#/components/schemas/Missing", "#/components/schemas/Missing"),
        ("#/components/responses/R", "#/components/responses/R"),
        ("#/components/schemas/NotOne", "#/components/schemas/NotOne"),
        ("#/$defs/D", "#/$defs/D"),
        ("#nowhere", "#nowhere"),
        ("http://10.0.0.1/internal/models.json?token=1#/A", "models.json#/A"),
        ("models.yaml#/A", "models.yaml#/A"),
        ("http://[h", "[h"),
        ("http://[h#/x", "[h#/x"),
        ("", ""),
        ("#", "#"),
    ],
)
def test_reference_without_target_allows_anything_and_is_named(reference: str, note: str) -> None:
    components = {"responses": {"R": {"description": ""}}}
    schemas = {"NotOne": ["x"]}
    schema, _ = schema_of({"$ref": reference, "title": "t"}, schemas, components=components)
    assert schema == {"title": "t", "x-gateway-unresolved": note}


def test_optional_parts_with_a_reference_without_target_are_left_out() -> None:
    lost = {"$ref": "other.json#/X"}
    given = operation(
        parameters=[lost, {"name": "p", "in": "query"}, {"name": "q"}, None, 1],
        requestBody=lost,
        callbacks={"lost": lost},
    )
    response = {
        "description": "d",
        "headers": {"H": lost},
        "links": {"L": lost},
        "content": {"a/b": {"examples": {"E": lost}}},
    }
    given["responses"] = {"200": response, "404": lost}
    found = merged(part("s", document({PATH: {"post": given}})))["paths"][PATH]["post"]
    assert found["parameters"] == [{"name": "p", "in": "query"}]
    assert found["requestBody"] == {"content": {"*/*": {}}, "x-gateway-unresolved": "other.json#/X"}
    assert found["callbacks"] == {}
    assert found["responses"]["404"]["x-gateway-unresolved"] == "other.json#/X"
    assert "H" not in found["responses"]["200"]["headers"]
    assert found["responses"]["200"]["links"] == {}
    assert found["responses"]["200"]["content"] == {"a/b": {"examples": {}}}


def test_values_that_look_like_references_stay_values() -> None:
    value = {"$ref": "#/components/schemas/A", "nullable": True, "example": {"$ref": "x"}, "discriminator": 1}
    literals = {
        "default": value,
        "enum": [value, None],
        "const": value,
        "examples": [value],
        "example": value,
        # In the value of an unknown keyword, only references within the document are rewritten.
        "x-a": value | {"$ref": "other"},
    }
    schema, result = schema_of({**literals, "properties": {"p": literals}}, {"A": {}})
    assert schema == {**literals, "properties": {"p": literals}}
    media = {"example": value, "examples": {"$ref": {"value": value}, "E": {"value": value, "x-b": value}}}
    given = operation(
        parameters=[{"name": "p", "in": "query", "example": value, "examples": {"example": {"value": value}}}],
        requestBody={"content": {"a/b": media}},
    )
    given["x-own"] = value
    found = merged(part("s", document({PATH: {"post": given}})))["paths"][PATH]["post"]
    assert found["requestBody"]["content"]["a/b"] == media
    assert found["parameters"] == given["parameters"]
    assert found["x-own"] == value
    assert "s_A" not in result["components"]["schemas"]


@pytest.mark.parametrize("word", ["$ref", "properties", "example", "default", "discriminator", "x-a", "$id", "allOf"])
def test_property_may_have_the_name_of_a_keyword(word: str) -> None:
    schema, _ = schema_of({"properties": {word: {"$ref": "#/components/schemas/A"}}}, {"A": {}})
    assert schema == {"properties": {word: {"$ref": "#/components/schemas/s_A"}}}
    schema, _ = schema_of({"$ref": f"#/components/schemas/{word}"}, {word: {"title": "t"}})
    assert schema["$ref"].startswith("#/components/schemas/s_")


def test_every_kind_of_component_is_prefixed() -> None:
    called: dict[str, Any] = {"operationId": "called", "tags": ["t"], "security": [{"K": []}]}
    called["responses"] = {"200": {"$ref": "#/components/responses/R"}}
    kinds: dict[str, Any] = {
        "parameters": {"P": {"name": "p", "in": "query", "schema": {"$ref": "#/components/schemas/A"}}},
        "requestBodies": {"B": {"content": {"a/b": {"schema": {"$ref": "#/components/schemas/A"}}}}},
        "responses": {"R": {"description": "r", "headers": {"H": {"$ref": "#/components/headers/H"}}}},
        "headers": {"H": {"schema": {"$ref": "#/components/schemas/A"}}},
        "examples": {"E": {"value": 1}},
        "callbacks": {"C": {"{$url}": {"$ref": "#/components/pathItems/I"}}},
        "pathItems": {"I": {"post": called}},
        "securitySchemes": {"K": {"type": "apiKey", "name": "k", "in": "query"}},
        "schemas": {"A": {"title": "A"}},
    }  # fmt: skip
    given = operation(
        operationId="run",
        tags=["t", "s"],
        parameters=[{"$ref": "#/components/parameters/P"}],
        requestBody={"$ref": "#/components/requestBodies/B", "description": "own", "x": 1},
        callbacks={"c": {"$ref": "#/components/callbacks/C"}},
    )
    given["responses"] = {"200": {"$ref": "#/components/responses/R"}}
    given["responses"]["201"] = {
        "description": "",
        "content": {"a/b": {"examples": {"e": {"$ref": "#/components/examples/E"}}}},
    }
    result = merged(part("s", document({PATH: {"post": given}}, components=kinds)))
    found = result["paths"][PATH]["post"]
    assert found["operationId"] == "s_run"
    assert found["tags"] == ["s: t", "s"]
    assert found["requestBody"] == {"$ref": "#/components/requestBodies/s_B", "description": "own"}
    assert found["responses"]["200"]["headers"]["H"] == {"$ref": "#/components/headers/s_H"}
    made = result["components"]["pathItems"]["s_I"]["post"]
    assert (made["operationId"], made["tags"], made["security"]) == ("s_called", ["s: t"], [{"s_K": []}])
    own = {
        section: sorted(name for name in named if not name.startswith("gateway"))
        for section, named in result["components"].items()
    }
    # The responses of operations are written out. The component is still needed, because the callback refers to it.
    assert own == {section: [f"s_{name}" for name in named] for section, named in kinds.items()}


def test_chain_of_component_references_is_followed() -> None:
    kinds = {
        "parameters": {
            "A": {"$ref": "#/components/parameters/B"},
            "B": {"name": "b", "in": "query"},
            "L": {"$ref": "#/components/parameters/L"},
        },
        "responses": {"A": {"$ref": "#/components/responses/B"}, "B": {"description": "end"}},
    }  # fmt: skip
    given = operation(parameters=[{"$ref": "#/components/parameters/A"}, {"$ref": "#/components/parameters/L"}])
    given["responses"] = {"200": {"$ref": "#/components/responses/A"}}
    result = merged(part("s", document({PATH: {"get": given}}, components=kinds)))
    assert result["paths"][PATH]["get"]["parameters"] == [{"$ref": "#/components/parameters/s_B"}]
    assert result["paths"][PATH]["get"]["responses"]["200"]["description"] == "end"


def test_recursive_schemas_are_rewritten() -> None:
    loop = {"$ref": "#/components/schemas/Loop"}
    schemas = {"Tree": {"items": {"$ref": "#/components/schemas/Tree"}}, "Loop": loop}
    in_place = {
        "properties": {"self": {"$ref": "#/paths/~1api~1s~1x/get/responses/200/content/application~1json/schema"}}
    }
    schema, result = schema_of({"oneOf": [schemas["Tree"], loop]}, schemas)
    assert result["components"]["schemas"]["s_Tree"] == schema["oneOf"][0]
    assert result["components"]["schemas"]["s_Loop"] == schema["oneOf"][1]
    schema, result = schema_of(in_place)
    assert followed(schema["properties"]["self"], result) == schema


def test_links_lead_to_operations_that_clients_can_call() -> None:
    links = {
        "by_id": {"operationId": "one", "parameters": {"id": "$response.body#/id"}, "server": {"url": "/"}},
        "by_ref": {"operationRef": "#/paths/~1api~1s~1y~1{id}/get", "description": "d"},
        "encoded": {"operationRef": "#/paths/~1api~1s~1y~1%7Bid%7D/get"},
        "shared": {"$ref": "#/components/links/Shared"},
        "elsewhere": {"operationRef": "https://example.com/openapi.json#/paths/~1a/get"},
        "relative": {"operationRef": "other.json#/paths/~1a/get"},
        "left_out": {"operationId": "health"},
        "left_out_ref": {"operationRef": "#/paths/~1health/get"},
        "unknown": {"operationId": "nobody"},
        "nothing": {},
        "not_text": {"operationId": [1]},
        "wrong": {"operationRef": "http://[h#/paths/~1a/get"},
    }
    given = operation()
    given["responses"]["200"]["links"] = links
    paths = {
        PATH: {"get": given},
        "/api/s/y/{id}": {"get": operation(operationId="one")},
        "/health": {"get": operation(operationId="health")},
    }
    result = merged(part("s", document(paths, components={"links": {"Shared": {"operationId": "one"}}})))
    assert result["paths"][PATH]["get"]["responses"]["200"]["links"] == {
        "by_id": {"operationId": "s_one", "parameters": {"id": "$response.body#/id"}},
        "by_ref": {"operationRef": "#/paths/~1api~1s~1y~1%7Bid%7D/get", "description": "d"},
        "encoded": {"operationRef": "#/paths/~1api~1s~1y~1%7Bid%7D/get"},
        "shared": {"operationId": "s_one"},
        "elsewhere": {"operationRef": "https://example.com/openapi.json#/paths/~1a/get"},
    }


def test_duplicate_operation_ids_of_a_service_become_unique() -> None:
    paths = {
        PATH: {"get": operation(operationId="a"), "put": operation(operationId="a"), "post": operation(operationId=1)}
    }
    item = merged(part("s", document(paths)))["paths"][PATH]
    assert [item[method].get("operationId") for method in item] == ["s_a", "s_a_2", "s_1"]


WRITTEN = {"c": "Cat", "dog": "#/components/schemas/Dog", "x": "other.json", "n": 1}
MAPPED = {
    "Pet": {"discriminator": {"propertyName": "kind", "mapping": WRITTEN}},
    "Cat": {"allOf": [{"$ref": "#/components/schemas/Pet"}]},
    "Dog": {"allOf": [{"$ref": "#/components/schemas/Pet"}]},
    "Fox": {"allOf": [{"$ref": "#/components/schemas/Pet"}]},
    "Red fox": {"allOf": [{"$ref": "#/components/schemas/Fox"}]},
}  # fmt: skip


def test_discriminator_maps_explicit_and_implicit_values_to_new_names() -> None:
    schema, result = schema_of({"$ref": "#/components/schemas/Pet"}, MAPPED)
    assert followed(schema, result)["discriminator"] == {
        "propertyName": "kind",
        "mapping": {
            "c": "#/components/schemas/s_Cat",
            "dog": "#/components/schemas/s_Dog",
            "Fox": "#/components/schemas/s_Fox",
            "Red fox": "#/components/schemas/s_Red_fox",
        },
    }


@pytest.mark.parametrize("keyword", ["oneOf", "anyOf"])
def test_discriminator_of_alternatives(keyword: str) -> None:
    branches = [{"$ref": "#/components/schemas/A"}, {"$ref": "#/components/schemas/B"}, {"type": "null"}, True]
    given = {keyword: branches, "discriminator": {"propertyName": "k", "mapping": {"b": "B"}}}
    schema, _ = schema_of(given, {"A": {}, "B": {}})
    assert schema["discriminator"]["mapping"] == {"b": "#/components/schemas/s_B", "A": "#/components/schemas/s_A"}


@pytest.mark.parametrize("wrong", ["kind", None, [], 1])
def test_invalid_discriminator_is_left_out(wrong: Any) -> None:
    assert schema_of({"discriminator": wrong, "title": "t"})[0] == {"title": "t"}


def test_targets_of_references_in_documents_of_3_0_are_upgraded() -> None:
    schemas = {
        "A": {"allOf": [{"type": "string", "nullable": True}], "nullable": True},
        "B": {"nullable": True, "oneOf": [{"$ref": "#/components/schemas/A"}], "discriminator": {"propertyName": "k"}},
    }
    inside = {"$ref": "#/components/schemas/A/allOf/0", "nullable": True}
    schema, result = schema_of(
        {"properties": {"i": inside, "b": {"$ref": "#/components/schemas/B"}}}, schemas, version="3.0.1"
    )
    target, null = schema["properties"]["i"]["anyOf"]
    assert null == {"type": "null"}
    assert followed(target, result) == {"type": ["string", "null"]}
    assert followed(schema["properties"]["b"], result)["anyOf"][0] == {
        "oneOf": [{"$ref": "#/components/schemas/s_A"}],
        "discriminator": {"propertyName": "k", "mapping": {"A": "#/components/schemas/s_A"}},
    }


def test_webhooks_do_not_pass_the_gateway() -> None:
    result = merged(part("s", document(webhooks={"w": {"post": operation({"$ref": "#/components/schemas/A"})}})))
    assert "webhooks" not in result


def test_copies_of_a_target_are_bounded() -> None:
    big = {"description": "", "content": {"a/b": {"example": "x" * 1_000_000}}}
    paths = {
        f"/api/s/{number}": {"get": {"responses": {"200": {"$ref": "#/components/responses/Big"}}}}
        for number in range(100)
    }
    result = merged(part("s", document(paths, components={"responses": {"Big": big}})))
    assert len(str(result)) < 10_000_000
    assert len(result["paths"]) == 100


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
@pytest.mark.parametrize("wrong", [None, [], "x", 1])
def test_values_that_are_not_schemas_are_left_out(wrong: Any, version: str) -> None:
    given = {"items": wrong, "properties": {"a": wrong, "b": True}, "allOf": [wrong, False]}
    assert schema_of(given, version=version)[0] == {"properties": {"b": True}, "allOf": [False]}


def test_required_fields_of_components_are_added() -> None:
    kinds: dict[str, Any] = {"requestBodies": {"B": {}}, "responses": {"R": {}}}
    called: dict[str, Any] = {"post": {"requestBody": {"$ref": "#/components/requestBodies/B"}}}
    called["post"]["responses"] = {"200": {"$ref": "#/components/responses/R"}}
    given = operation(callbacks={"c": {"{$url}": called}})
    found = merged(part("s", document({PATH: {"get": given}}, components=kinds)))["components"]
    assert found["requestBodies"] == {"s_B": {"content": {}}}
    assert found["responses"]["s_R"] == {"description": ""}


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_callback_that_is_a_reference_is_followed_in_documents_of_3_0(version: str) -> None:
    called = {"{$url}": {"post": operation({"$ref": "#/components/schemas/A"})}}
    components = {"callbacks": {"C": called, "D": {"$ref": "#/components/callbacks/C"}}, "schemas": {"A": {}}}
    given = operation(callbacks={"c": {"$ref": "#/components/callbacks/D"}})
    result = merged(part("s", document({PATH: {"get": given}}, components=components, version=version)))
    assert result["paths"][PATH]["get"]["callbacks"] == {"c": {"$ref": "#/components/callbacks/s_C"}}
    answer = result["components"]["callbacks"]["s_C"]["{$url}"]["post"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/s_A"}
