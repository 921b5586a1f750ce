"""Drift: differences between the documents of services and the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.validators import DRIFT_KINDS
from gateway.openapi import Drift, drifts
from gateway.openapi.drift import Kind
from tests.support.openapi import document, operation, part

KEY: Any = [{"key": []}]


def kinds(*parts: Any) -> list[tuple[str, str, str]]:
    return [(drift.kind.name, drift.method, drift.path) for drift in drifts(parts)]


@pytest.mark.parametrize(
    ("security", "is_protected"),
    [
        (KEY, True),
        ([{"a": [], "b": []}, {"c": []}], True),
        ([], False),
        ([{}], False),
        ([{}, {"key": []}], False),
        ([{"key": []}, {}], False),
        (None, False),
        ("x", False),
        ([None], False),
    ],
)
@pytest.mark.parametrize("is_global", [False, True])
def test_drift_about_tokens(security: Any, is_protected: bool, is_global: bool) -> None:
    doc = document({"/api/s/x": {"get": operation() if is_global else operation(security=security)}})
    doc["security"] = security if is_global else KEY if not is_protected else []
    protected, opened = part("s", doc), part("s", doc, auth="none")
    assert kinds(protected) == ([] if is_protected else [("OPEN_BUT_PROTECTED", "GET", "/api/s/x")])
    assert kinds(opened) == ([("PROTECTED_BUT_OPEN", "GET", "/api/s/x")] if is_protected else [])


def test_route_without_operation_is_drift() -> None:
    routes = [
        {"path": "/api/s/gone"},
        {"path": "/api/s/x", "methods": ["POST", "PUT"]},
        {"path": "/api/s/x", "methods": ["GET"]},
        {"path": "/api/s/{id}/log"},
        {"path": "/api/s/old/**"},
    ]
    doc = document({"/api/s/x": {"get": operation()}, "/api/s/{name}/log": {"get": operation()}}, security=KEY)
    expected = [
        ("ROUTE_WITHOUT_OPERATION", "POST,PUT", "/api/s/x"),
        ("ROUTE_WITHOUT_OPERATION", "", "/api/s/gone"),
        ("ROUTE_WITHOUT_OPERATION", "", "/api/s/old/**"),
    ]
    assert kinds(part("s", doc, routes=routes)) == expected
    # Drift of hidden services is reported as well, because operators see them.
    assert kinds(part("s", doc, routes=routes, hidden=True, hidden_paths=("/**",))) == expected
    assert kinds(part("s", None, routes=routes)) == []


def test_paths_of_other_services_are_not_compared() -> None:
    paths: dict[str, Any] = {
        "x-health": {"get": operation()},
        "/api/s/x": {"get": None, "parameters": [], "description": "x"},
        "/api/s/ref": {"$ref": "#/components/pathItems/I"},
        "/api/s/lost": {"$ref": "#/components/pathItems/J"},
        "/api/s/odd": [],
    }
    doc = document(paths, components={"pathItems": {"I": {"put": operation()}}})
    assert kinds(part("s", doc)) == [("OPEN_BUT_PROTECTED", "PUT", "/api/s/ref")]
    wrongs: list[Any] = [None, [], "x"]
    for wrong in wrongs:
        assert kinds(part("s", {"openapi": "3.1.0", "paths": wrong})) == []


def test_drift_as_a_line() -> None:
    found = drifts([part("s", document({"/api/s/x": {"get": operation()}}))])
    assert found == [Drift(Kind.OPEN_BUT_PROTECTED, "s", "s", "GET", "/api/s/x")]
    assert found[0].line == (
        "s: GET /api/s/x (policy s): the service requires no credentials, but the gateway requires a token "
        "[open_but_protected]"
    )
    route = drifts([part("s", document(), routes=[{"path": "/api/s/gone"}])])[0].line
    assert route.startswith("s: /api/s/gone (policy s.gone): the route is configured, but ")


def test_operations_are_compared_at_the_path_of_their_own_servers() -> None:
    item = {"get": operation(security=KEY, servers=[{"url": "/api/s/v2"}]), "put": operation(security=KEY)}
    routes = [{"path": "/api/s/v2/x", "auth": "none"}]
    doc = document({"/x": item}, servers=[{"url": "/api/s"}])
    assert kinds(part("s", doc, routes=routes)) == [("PROTECTED_BUT_OPEN", "GET", "/api/s/v2/x")]


def test_unreachable_operations_are_drift() -> None:
    paths = {
        "/health": {"get": operation(), "post": operation()},
        "/metrics": {"get": operation()},
        "/api/s/x": {"trace": operation(), "get": operation()},
        "/api/s/in/x": {"get": operation()},
        "/elsewhere/{id}": {"$ref": "#/components/pathItems/I"},
    }
    doc = document(paths, components={"pathItems": {"I": {"put": operation()}}}, security=KEY)
    inner = part("inner", None, prefix="/api/s/in")
    expected = [
        ("UNREACHABLE_OPERATION", "GET", "/metrics"),
        ("UNREACHABLE_OPERATION", "TRACE", "/api/s/x"),
        # The prefix of another service includes this path, so that service gets the requests.
        ("UNREACHABLE_OPERATION", "GET", "/api/s/in/x"),
        ("UNREACHABLE_OPERATION", "PUT", "/elsewhere/{id}"),
    ]
    # /health and /openapi.json are not reported, because the gateway itself requests these paths.
    assert kinds(part("s", doc, internal_paths=("/health", "/openapi.json")), inner) == expected
    stripped = part("s", document({"/metrics": {"get": operation()}}, security=KEY), strip_prefix=True)
    assert kinds(stripped) == []
    (line,) = [one.line for one in drifts([part("s", document({"/m": {"get": operation()}}))])]
    assert (
        line == "s: GET /m: the operation is in the service's document, but the gateway does not forward to it "
        "[unreachable_operation]"
    )


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        (
            (),
            ["OPEN_BUT_PROTECTED /api/s/x", "PROTECTED_BUT_OPEN /api/s/open/x", "UNREACHABLE_OPERATION /metrics/{id}"],
        ),
        (("open_but_protected",), ["PROTECTED_BUT_OPEN /api/s/open/x", "UNREACHABLE_OPERATION /metrics/{id}"]),
        (
            ("open_but_protected", "unreachable_operation /metrics/**"),
            ["PROTECTED_BUT_OPEN /api/s/open/x"],
        ),
        (
            ("open_but_protected /api/s/y", "open_but_protected /api/s/open/*", "unreachable_operation /metrics"),
            ["OPEN_BUT_PROTECTED /api/s/x", "PROTECTED_BUT_OPEN /api/s/open/x", "UNREACHABLE_OPERATION /metrics/{id}"],
        ),
        (("open_but_protected", "unreachable_operation", "protected_but_open /api/s/open/*"), []),
    ],
)
def test_ignored_drift_is_left_out(rules: tuple[str, ...], left: list[str]) -> None:
    paths = {
        "/api/s/x": {"get": operation()},
        "/api/s/open/x": {"get": operation(security=KEY)},
        "/metrics/{id}": {"get": operation()},
    }
    routes = [{"path": "/api/s/open/**", "auth": "none"}]
    ignoring = part("s", document(paths), routes=routes, drift_ignore=rules)
    assert [f"{kind} {path}" for kind, _, path in kinds(ignoring)] == left


def test_kinds_are_those_of_the_setting() -> None:
    assert tuple(kind.name.lower() for kind in Kind) == DRIFT_KINDS
