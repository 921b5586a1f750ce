"""The merged document is valid and deterministic, and no service changes the entries of another."""

from __future__ import annotations

import copy
import functools
import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.config import RateLimitSettings, load_settings
from gateway.demo.auth import auth_document
from gateway.demo.resources import DEVICES, LIVESTREAMS, RULES, resource_document
from gateway.openapi import DocumentError, ServiceDocument, document_of, merge, parse_document
from gateway.route_policy import service_policies
from tests.support.openapi import (
    FACTS,
    assert_resolved,
    assert_valid,
    document,
    merged,
    operation,
    part,
    references,
    resolve,
)

DATA = Path(__file__).parents[2] / "data" / "openapi"
DEMO: dict[str, Any] = {
    "auth": auth_document(),
    "livestreams": resource_document(LIVESTREAMS),
    "rules": resource_document(RULES),
    "devices": resource_document(DEVICES),
}


def fastapi(name: str) -> dict[str, Any]:
    """The stored /openapi.json of an application with this version of FastAPI."""
    return parse_document((DATA / f"fastapi_{name}.json").read_bytes())


def built_in(documents: dict[str, Any]) -> list[ServiceDocument]:
    """The built-in services with these documents, as the merge gets them."""
    return [
        ServiceDocument(
            name, service.prefix, tuple(service_policies(name, service, RateLimitSettings())), documents.get(name)
        )
        for name, service in load_settings({}).services.items()
    ]


DEFAULTS = DEMO | {"rules": fastapi("0_88_rules"), "devices": fastapi("0_165_devices")}


@pytest.mark.parametrize("documents", [DEMO, DEFAULTS, {}], ids=["samples", "fastapi", "none"])
def test_merged_document_is_valid_and_complete(documents: dict[str, Any]) -> None:
    before = copy.deepcopy(documents)
    parts = built_in(documents)
    for result in [merge(parts, FACTS), *(document_of(name, parts, FACTS) for name in DEMO)]:
        assert result is not None
        assert_valid(result)
        assert_resolved(result)
        json.dumps(result, allow_nan=False)
    assert documents == before


def test_sample_services_are_merged() -> None:
    result = merge(built_in(DEMO), FACTS)
    assert {path: list(item) for path, item in result["paths"].items()} == {
        "/api/auth/register": ["post"],
        "/api/auth/login": ["post"],
        "/api/auth/refresh": ["post"],
        "/api/auth/me": ["get"],
        "/api/livestreams": ["get", "post"],
        "/api/livestreams/{identifier}": ["get", "delete"],
        "/api/rules": ["get", "post"],
        "/api/rules/{identifier}": ["get", "delete"],
        "/api/devices": ["get", "post"],
        "/api/devices/{identifier}": ["get", "delete"],
    }
    assert result["paths"]["/api/auth/login"]["post"]["security"] == []
    assert result["paths"]["/api/devices"]["get"]["security"] == [{"gatewayBearer": []}]
    assert result["paths"]["/api/devices"]["get"]["operationId"] == "devices_list_devices"
    assert list(result["components"]["securitySchemes"]) == ["gatewayBearer"]


def test_services_of_two_fastapi_versions_have_separate_models() -> None:
    assert (DEFAULTS["rules"]["openapi"], DEFAULTS["devices"]["openapi"]) == ("3.0.2", "3.1.0")
    result = merge(built_in(DEFAULTS), FACTS)
    for name in ("rules", "devices"):
        answer = result["paths"][f"/api/{name}"]["post"]["responses"]["422"]
        validation = resolve(result, answer["content"]["application/json"]["schema"]["$ref"])
        error = resolve(result, validation["properties"]["detail"]["items"]["$ref"])
        assert error == DEFAULTS[name]["components"]["schemas"]["ValidationError"]
    assert "ctx" in result["components"]["schemas"]["devices_ValidationError"]["properties"]
    assert "ctx" not in result["components"]["schemas"]["rules_ValidationError"]["properties"]
    assert result["components"]["schemas"]["rules_Item"]["properties"]["weight"] == {
        "title": "Weight",
        "exclusiveMinimum": 0,
        "type": "number",
    }
    # This schema refers to itself.
    parts_of = result["components"]["schemas"]["devices_Item"]["properties"]["parts"]
    assert parts_of["items"] == {"$ref": "#/components/schemas/devices_Item"}
    assert "/health" not in result["paths"]
    # The service declares the header with the caller's identity as a parameter. Clients can't send it, so it is
    # removed.
    assert "parameters" not in result["paths"]["/api/devices"]["post"]
    assert result["paths"]["/api/devices/{item_id}"]["delete"]["security"] == [
        {"gatewayBearer": []},
        # The token URL of this scheme belongs to the auth service.
        {"devices_OAuth2PasswordBearer": []},
        {"gatewayBearer": [], "devices_APIKeyHeader": []},
    ]


def entries(result: dict[str, Any], name: str) -> dict[str, Any]:
    """All parts of the merged document that contain the name of the service."""
    is_own = f"{name}_"
    return {
        "paths": {path: item for path, item in result["paths"].items() if path.startswith(f"/api/{name}")},
        "components": {
            section: {key: value for key, value in named.items() if key.startswith(is_own)}
            for section, named in result["components"].items()
        },
        "tags": [tag for tag in result["tags"] if tag["name"] == name or tag["name"].startswith(f"{name}: ")],
        "service": result["info"]["x-gateway-services"][name],
        "group": [group for group in result["x-tagGroups"] if name in group["tags"]],
    }


def test_another_service_changes_no_entry() -> None:
    parts = built_in(DEFAULTS)
    whole = merge(parts, FACTS)
    for index, one in enumerate(parts):
        # If one service has no document, the parts of the others stay the same.
        routes = ServiceDocument(one.name, one.prefix, one.policies, hidden=True)
        smaller = merge([*parts[:index], routes, *parts[index + 1 :]], FACTS)
        for other in parts[:index] + parts[index + 1 :]:
            assert json.dumps(entries(smaller, other.name)) == json.dumps(entries(whole, other.name))
        single = document_of(one.name, parts, FACTS)
        assert single is not None
        assert entries(single, one.name) == entries(whole, one.name)
        assert list(single["info"]["x-gateway-services"]) == [one.name]
        assert len(single["paths"]) == len(entries(whole, one.name)["paths"])


def test_same_parts_give_the_same_bytes() -> None:
    first, second = (json.dumps(merge(built_in(copy.deepcopy(DEFAULTS)), FACTS)) for _ in range(2))
    assert first == second


def test_services_are_in_the_order_of_the_configuration() -> None:
    parts = built_in(DEFAULTS)
    for order in (parts, parts[::-1]):
        result = merge(order, FACTS)
        names = [one.name for one in order]
        assert list(result["info"]["x-gateway-services"]) == names
        assert list(dict.fromkeys(tag["name"].partition(":")[0] for tag in result["tags"])) == names


def test_info_and_tags_describe_the_gateway_and_its_services() -> None:
    fresh = part("a", document() | {"info": {"title": "The A's", "version": "1"}})
    stale = part("b", {**document(), "info": {"title": "Bees", "version": "2.0"}}, stale_since="2026-11-01T10:00:00Z")
    never = part("c", None)
    result = merged(fresh, stale, never, part("d", None, hidden=True))
    assert result["openapi"] == "3.1.0"
    assert result["info"] == {
        "title": "The gateway",
        "version": "7",
        "x-gateway-services": {
            "a": {"title": "The A's", "prefix": "/api/a", "version": "1", "state": "current"},
            "b": {
                "title": "Bees", "prefix": "/api/b", "version": "2.0", "state": "stale",
                "x-gateway-stale-since": "2026-11-01T10:00:00Z",
            },
            "c": {"title": "c", "prefix": "/api/c", "state": "unavailable"},
        },
    }  # fmt: skip
    assert result["tags"] == [
        {"name": "a", "description": "The A's"},
        {"name": "b", "description": "Bees", "x-gateway-stale-since": "2026-11-01T10:00:00Z"},
        {"name": "c", "description": "c", "x-gateway-state": "unavailable"},
    ]
    assert result["x-tagGroups"][1] == {"name": "Bees", "tags": ["b"]}
    assert_valid(result)


def test_tags_are_prefixed_with_the_service() -> None:
    tags = [
        {"name": "two", "description": "d", "externalDocs": {"url": "https://h"}, "x-a": 1},
        {"name": "unused"}, {"name": "one"}, {"name": "S", "description": "of itself", "x-b": 2}, None, {"name": 1},
    ]  # fmt: skip
    paths = {
        "/api/s/1": {"get": operation(tags=["one", "two", 1, "one"]), "put": operation(tags=[])},
        "/api/s/2": {"get": operation(tags=["listed nowhere", "S"]), "put": operation(tags="x")},
    }
    result = merged(part("s", document(paths, tags=tags)))
    assert result["tags"] == [
        {"name": "s", "description": "T", "x-b": 2},
        {"name": "s: two", "description": "d", "externalDocs": {"url": "https://h"}, "x-a": 1},
        {"name": "s: one"},
        {"name": "s: 1"},
        {"name": "s: listed nowhere"},
    ]
    assert [item[method]["tags"] for item in result["paths"].values() for method in ("get", "put")] == [
        ["s: one", "s: two", "s: 1"], ["s"], ["s: listed nowhere", "s"], ["s"],
    ]  # fmt: skip


def test_document_of_one_service() -> None:
    info = {"title": "Own", "version": "3", "description": "text", "summary": "short", "contact": {"name": "n"}}
    outer = part(
        "outer",
        {**document({"/api/in/x": {"get": operation()}, "/api/y": {"get": operation()}}), "info": info},
        prefix="/api",
    )
    parts = [outer, part("inner", None, prefix="/api/in"), part("secret", document(), hidden=True)]
    found = document_of("outer", parts, FACTS)
    assert found is not None
    assert list(found["paths"]) == ["/api/y"]
    assert {key: value for key, value in found["info"].items() if not key.startswith("x-")} == {
        "title": "Own", "version": "3", "description": "text", "summary": "short", "contact": {"name": "n"},
    }  # fmt: skip
    assert document_of("inner", parts, FACTS)["info"]["title"] == "inner"  # type: ignore[index]
    assert document_of("secret", parts, FACTS) is None
    assert document_of("nobody", parts, FACTS) is None


WRONG: list[Any] = [None, [], {}, "x", 1, True, [None], {"x": None}, {"/api/s": None}, {"/api/s": {"get": None}}]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("key", ["info", "paths", "components", "servers", "tags", "security", "openapi", "webhooks"])
def test_values_of_a_wrong_type_are_skipped(key: str, wrong: Any) -> None:
    good = document(
        {"/api/s/x": {"get": operation({"$ref": "#/components/schemas/A"})}}, components={"schemas": {"A": {}}}
    )
    result = merged(part("s", {**good, key: wrong}))
    if key != "paths":
        assert "/api/s/x" in result["paths"]
    without = merged(part("s", {name: value for name, value in good.items() if name != key}))
    assert without["openapi"] == "3.1.0"


@pytest.mark.parametrize("wrong", [*WRONG, {"$ref": None}, {"$ref": 1}], ids=repr)
@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_invalid_parts_of_an_operation_are_skipped(version: str, wrong: Any) -> None:
    every: dict[str, Any] = dict.fromkeys(
        "parameters requestBody responses callbacks security tags operationId summary externalDocs deprecated".split(),
        wrong,
    )
    response = dict.fromkeys(["headers", "content", "links", "description"], wrong)
    schema = dict.fromkeys(
        ["properties", "items", "allOf", "discriminator", "$id", "$anchor", "$defs", "$dynamicRef", "enum", "type",
         "nullable", "exclusiveMinimum", "example", "additionalProperties", "not", "patternProperties"], wrong,
    )  # fmt: skip
    deeper = operation(schema, parameters=[wrong, {"name": "p", "in": "query", "schema": wrong, "content": wrong}])
    deeper["responses"]["404"] = response
    deeper["requestBody"] = {"content": {"a/b": wrong, "c/d": {"schema": wrong, "encoding": {"e": wrong}}}}
    deeper["callbacks"] = {"c": {"{$url}": {"get": wrong, "post": every, "parameters": wrong}}}
    components = {
        section: {"A": wrong} for section in ("schemas", "parameters", "responses", "securitySchemes", "links")
    }
    paths = {"/api/s/a": {"get": every, "parameters": wrong}, "/api/s/b": {"post": deeper}, "/api/s/c": wrong}
    result = merged(part("s", document(paths, version=version, components=components)))
    assert {"/api/s/a", "/api/s/b"} <= set(result["paths"])


def nested(depth: int, key: str = "items") -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {key: schema}
    return schema


@pytest.mark.parametrize("key", ["items", "example", "x-a"])
def test_deep_document_is_merged_or_refused(key: str) -> None:
    for depth, state in [(80, "current"), (10_000, "unavailable")]:
        for version in ("3.0.3", "3.1.0"):
            doc = document({"/api/s": {"get": operation(nested(depth, key))}}, version=version)
            found = merge([part("s", doc), part("t", document())], FACTS)
            assert found["info"]["x-gateway-services"]["s"]["state"] == state
            assert found["info"]["x-gateway-services"]["t"]["state"] == "current"
            json.dumps(found)
    endless: dict[str, Any] = document()
    endless["paths"]["/api/s"] = {"get": endless}
    assert merge([part("s", endless)], FACTS)["info"]["x-gateway-services"]["s"]["state"] == "unavailable"


@pytest.mark.parametrize("alien", [{1: 2}, {"a": object()}, {"a": float("nan")}, {"a": b""}, {"a": "\ud800"}])
def test_values_that_json_does_not_have_are_refused(alien: Any) -> None:
    found = merged(part("s", document({"/api/s": {"get": operation(alien)}})))
    assert found["info"]["x-gateway-services"]["s"]["state"] == "unavailable"


def test_reference_check_of_the_tests_finds_missing_targets() -> None:
    broken = merge(built_in(DEMO), FACTS)
    count = len(list(references(broken)))
    assert count > 100
    del broken["components"]["schemas"]["devices_Device"]
    with pytest.raises(KeyError):
        assert_resolved(broken)


HOSTILE = (
    *("security", "security of all", "names", "operation ids", "servers", "servers of all", "family", "path items"),
    *("bad path items", "unknown words"),
)


@functools.cache
def hostile_documents() -> dict[str, dict[str, Any]]:
    """Small documents that a careless merge would turn into huge ones."""
    names = [f"k{index}" for index in range(30_000)]
    schemes = {name: {"type": "apiKey", "in": "query", "name": "q"} for name in names}
    alternatives = operation(security=[{name: []} for name in names])
    alike: dict[str, Any] = {chr(0x4E00 + index): {} for index in range(20_000)}
    family = {
        f"S{index}": {"discriminator": {"propertyName": "k"}, "allOf": [{"$ref": f"#/components/schemas/S{index - 1}"}]}
        for index in range(2_000)
    }
    eldest = operation({"$ref": "#/components/schemas/S0"})
    same = {f"/api/s/{index}": {"get": {"operationId": "same"}} for index in range(9_000)}
    elsewhere: dict[str, Any] = {f"/x/{index}": {"get": {}} for index in range(9_000)}
    shared = {f"/api/s/{index}": {"$ref": "#/components/pathItems/P"} for index in range(1_000)}
    large = {"get": {}, "x-a": ["x" * 10] * 10_000}
    everything: dict[str, Any] = {f"/api/s/{index}": {"get": {}, "put": {}} for index in range(4_000)}
    bad = {"get": {"parameters": [{}] * 90, "x-a": 1}, "servers": [{"url": "https://h"}] * 30_000}
    many_bad = {f"/api/s/{index}": {"$ref": "#/components/pathItems/P"} for index in range(1_000)}
    unknown: Any = {"$ref": "#/components/schemas/A"}
    for _ in range(80):
        unknown = {"x-a": unknown, "$ref": "#/components/schemas/A"}
    return {
        "security": document({"/api/s": {"get": alternatives}}, components={"securitySchemes": schemes}),
        "names": document({"/api/s": {"get": {}}}, components={"schemas": alike}),
        "operation ids": document(same),
        "servers": document(elsewhere, servers=[{"url": f"/{name}"} for name in names]),
        "family": document({"/api/s": {"get": eldest}}, components={"schemas": family}),
        "security of all": document(
            everything, security=[{name: ["s" * 100]} for name in names], components={"securitySchemes": schemes}
        ),
        "servers of all": document(
            {
                path: item | {"servers": [{"url": "/v1"}, {"url": "https://h/v2"}] * 20}
                for path, item in everything.items()
            }
        ),
        "bad path items": document(many_bad, components={"pathItems": {"P": bad}}),
        "unknown words": document(
            {"/api/s": {"get": operation(unknown)}},
            components={"schemas": {"A": {f"x-{index}": unknown for index in range(1_000)}}},
        ),
        "path items": document(shared, components={"pathItems": {"P": large}}),
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_time_and_size_of_a_merge_are_bounded(name: str) -> None:
    assert set(hostile_documents()) == set(HOSTILE)
    hostile = hostile_documents()[name]
    started = time.process_time()
    result = merged(part("s", hostile))
    assert time.process_time() - started < 20
    assert len(json.dumps(result)) < 60_000_000
    assert result["info"]["x-gateway-services"]["s"]["state"] == "current"


def test_number_of_operations_is_bounded() -> None:
    item: dict[str, Any] = {method: {} for method in ("get", "put", "post", "delete")}
    for count, state in [(2_500, "current"), (2_501, "unavailable")]:
        doc = document({f"/x/{index}": item for index in range(count)})
        assert merged(part("s", doc))["info"]["x-gateway-services"]["s"]["state"] == state
    with pytest.raises(DocumentError, match="operations"):
        parse_document(json.dumps(doc).encode())
    with pytest.raises(DocumentError, match="operations"):
        parse_document(json.dumps(document({f"/x/{index}": {"$ref": "#/x"} for index in range(1_251)})).encode())
