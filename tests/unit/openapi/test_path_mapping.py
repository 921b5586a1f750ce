"""The merged document has the paths of a service in the form in which clients request them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.openapi.path_mapping import PathMapping
from tests.support.openapi import document, merged, operation, part


def places(prefix: str, servers: Any, *templates: str, strip: bool = False) -> list[str | None]:
    placing = PathMapping(part("s", document(servers=servers), prefix=prefix, strip_prefix=strip))
    return [placing.client_path(template) for template in templates]


def url(*urls: str) -> list[dict[str, str]]:
    return [{"url": one} for one in urls]


@pytest.mark.parametrize(
    ("servers", "template", "place"),
    [
        ([], "/api/x", "/api/x"),
        ([], "/api/x/", "/api/x/"),
        ([], "/api/x/{id}", "/api/x/{id}"),
        ([], "/api/xy", None),
        ([], "/health", None),
        ([], "api/x", None),
        ([], "//api/x", None),
        ([], "", None),
        (url("/"), "/api/x/a", "/api/x/a"),
        # FastAPI puts its root_path into `servers`.
        (url("/api/x"), "/a", "/api/x/a"),
        (url("/api/x/"), "/", "/api/x/"),
        (url("/api/x"), "/api/x/a", "/api/x/a"),
        (url("/api"), "/x/a", "/api/x/a"),
        (url("/api"), "/y/a", None),
        (url("/front"), "/api/x/a", "/api/x/a"),
        (url("/front"), "/a", None),
        (url("https://h/api/x"), "/a", "/api/x/a"),
        (url("https://h/v1", "/api/x"), "/a", "/api/x/a"),
        ([{"url": "/{base}/x", "variables": {"base": {"default": "api"}}}], "/a", "/api/x/a"),
        (url("/{base}/x"), "/a", None),
        (url("https://[h"), "/api/x/a", "/api/x/a"),
        (url("v1"), "/api/x/a", "/api/x/a"),
        (url("../x"), "/a", None),
        (url("api/x"), "/a", None),
        (url("/api/y/../x"), "/a", None),
        (url("/api//x"), "/a", None),
        ([None, {}, {"url": 1}, "x"], "/api/x/a", "/api/x/a"),
        ({"url": "/api/x"}, "/a", None),
    ],
)
def test_kept_prefix(servers: Any, template: str, place: str | None) -> None:
    assert places("/api/x", servers, template) == [place]


@pytest.mark.parametrize(
    ("servers", "template", "place"),
    [
        ([], "/", "/api/x"),
        ([], "/a", "/api/x/a"),
        ([], "/a/", "/api/x/a/"),
        ([], "/api/x/a", "/api/x/api/x/a"),
        (url("/api/x"), "/a", "/api/x/a"),
        (url("/front/api/x"), "/a", "/api/x/a"),
        (url("/v1"), "/a", "/api/x/v1/a"),
        (url("/v1"), "/v1/a", "/api/x/v1/a"),
        (url("https://h/v1"), "/a", "/api/x/a"),
    ],
)
def test_stripped_prefix(servers: Any, template: str, place: str) -> None:
    assert places("/api/x", servers, template, strip=True) == [place]


def test_service_at_the_root() -> None:
    for strip in (False, True):
        assert places("/", [], "/", "/a", "/a/", strip=strip) == ["/", "/a", "/a/"]
        assert places("/", url("/v1"), "/", "/a", "/v1/a", strip=strip) == ["/v1/", "/v1/a", "/v1/a"]


def test_paths_of_other_services_are_left_out() -> None:
    outer = part(
        "outer", document({"/api/x": {"get": operation()}, "/api/inner/a": {"get": operation()}}), prefix="/api"
    )
    inner = part(
        "inner", document({"/api/inner/b": {"get": operation()}, "/api/x/z": {"get": operation()}}), prefix="/api/inner"
    )
    assert list(merged(outer, inner)["paths"]) == ["/api/x", "/api/inner/b"]
    assert list(merged(inner, outer)["paths"]) == ["/api/inner/b", "/api/x"]


def test_two_templates_with_one_client_path_are_one_path() -> None:
    paths = {"/a": {"get": operation(summary="first")}, "/api/s/a": {"get": operation(summary="second")}}
    found = merged(part("s", document(paths, servers=url("/api/s"))))["paths"]
    assert list(found) == ["/api/s/a"]
    assert found["/api/s/a"]["get"]["summary"] == "first"


def test_servers_is_the_gateway() -> None:
    elsewhere = [{"url": "https://elsewhere"}]
    item = {
        "servers": elsewhere,
        "get": operation(servers=elsewhere, callbacks={"c": {"{$url}": {"servers": elsewhere}}}),
    }
    found = merged(part("s", document({"/api/s": item}, servers=elsewhere)))
    assert found["servers"] == [{"url": "."}]
    assert "elsewhere" not in str(found)


def test_fields_of_a_path_item_are_merged() -> None:
    parameter = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    item = {"summary": "s", "description": "d", "x-a": {"$ref": "x"}, "parameters": [parameter], "get": operation()}
    odd = {"query": operation(), "additionalOperations": {}, "trace": operation(), "put": None, "description": None}
    found = merged(part("s", document({"/api/s/{id}": item, "/api/s": odd})))["paths"]
    assert list(found) == ["/api/s/{id}"]
    assert {key: value for key, value in found["/api/s/{id}"].items() if key != "get"} == {
        key: value for key, value in item.items() if key != "get"
    }


def test_path_item_that_is_a_reference_is_written_out() -> None:
    paths = {
        "/api/s/a": {"$ref": "#/components/pathItems/Common", "summary": "own"},
        "/api/s/b": {"$ref": "#/paths/~1api~1s~1a"},
        "/api/s/c": {"$ref": "other.yaml#/x"},
        "/api/s/d": {"$ref": "#/paths/~1api~1s~1d"},
    }
    items = {"Common": {"get": operation({"$ref": "#/components/schemas/A"}), "summary": "common"}}
    found = merged(part("s", document(paths, components={"pathItems": items, "schemas": {"A": {}}})))
    assert {path: item["summary"] for path, item in found["paths"].items()} == {"/api/s/a": "own", "/api/s/b": "common"}
    assert found["paths"]["/api/s/b"]["get"]["responses"]["200"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/s_A"
    }


def test_hidden_paths_and_services_are_not_mentioned() -> None:
    models = {name: {"title": name} for name in ("Secret", "Open", "Unused")}
    paths = {
        "/api/s/internal/x": {"get": operation({"$ref": "#/components/schemas/Secret"}, tags=["secret"])},
        "/api/s/open": {"get": operation({"$ref": "#/components/schemas/Open"}, tags=["open"])},
    }
    doc = document(paths, components={"schemas": models}, tags=[{"name": "secret"}, {"name": "open"}])
    found = merged(part("s", doc, hidden_paths=("/api/s/internal/**",)), part("t", document(), hidden=True))
    assert list(found["paths"]) == ["/api/s/open"]
    assert [name for name in found["components"]["schemas"] if name.startswith("s_")] == ["s_Open"]
    assert [tag["name"] for tag in found["tags"]] == ["s", "s: open"]
    assert list(found["info"]["x-gateway-services"]) == ["s"]
    assert "ecret" not in str(found)


def test_hidden_service_still_owns_its_paths() -> None:
    outer = part("outer", document({"/api/inner/a": {"get": operation()}}), prefix="/api")
    assert merged(outer, part("inner", None, prefix="/api/inner", hidden=True))["paths"] == {}
