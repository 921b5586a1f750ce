"""Services with several prefixes, and prefixes that are stripped or replaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.configuration import devices, errors_of
from tests.support.gateway import GatewayProcess
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream, answering

LOGIN = {"path": "/api/v1/auth/login", "methods": ["POST"], "auth": "none"}
ADMIN = {"path": "/api/v1/auth/admin/**", "scopes": ["admin"]}
OPERATION = {"get": {"responses": {"200": {"description": "x"}}}}
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "T", "version": "1"},
    "paths": {"/inner/auth/known": OPERATION, "/inner/auth": OPERATION, "/other": OPERATION},
}


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    url = module_upstream.url
    moved = {"prefix": "/api/v1/auth", "prefixes": ["/api/auth"], "target_prefix": "/inner/auth"}
    services: dict[str, Any] = {
        "moved": {**moved, "targets": [url], "routes": [LOGIN, ADMIN], "openapi_path": "/moved.json"},
        "based": {"prefix": "/b1", "prefixes": ["/b2"], "target_prefix": "/b2", "targets": [f"{url}/base"]},
        "kept": {
            "prefix": "/k1",
            "prefixes": ["/k2"],
            "targets": [url],
            "limits": ["3/day"],
            "routes": [{"path": "/k2/open", "auth": "none"}],
            "openapi_path": "",
        },
        "stripped": {"prefix": "/s1", "prefixes": ["/s2"], "strip_prefix": True, "targets": [url], "openapi_path": ""},
        "known": {
            "prefix": "/api/v1/known",
            "prefixes": ["/api/known"],
            "target_prefix": "/inner/auth",
            "targets": [url],
            "undocumented": "refuse",
            "openapi_path": "/moved.json",
        },
        "renamed": {
            "prefix": "/renamed",
            "prefixes": ["/inner/auth"],
            "target_prefix": "/inner/auth",
            "targets": [url],
            "undocumented": "refuse",
            "openapi_path": "/moved.json",
        },
    }
    return start_gateway({"default_services": False, "services": services}, workers=1)


@pytest.mark.parametrize(
    ("requested", "received"),
    [
        ("/api/v1/auth", "/inner/auth"),
        ("/api/v1/auth/", "/inner/auth/"),
        ("/api/auth/me?a=%2F", "/inner/auth/me?a=%2F"),
        ("/api/%761/auth/a%20b//c", "/inner/auth/a%20b//c"),
        ("/b1/x", "/base/b2/x"),
        ("/b2/x", "/base/b2/x"),
        ("/k1/x", "/k1/x"),
        ("/k2/x", "/k2/x"),
        ("/s1/x", "/x"),
        ("/s2", "/"),
    ],
)
def test_the_path_and_prefix_that_the_service_receives(
    gateway: GatewayProcess, upstream: ScriptedUpstream, requested: str, received: str
) -> None:
    assert gateway.get(requested, bearer(sub=requested)).status == 200
    assert upstream.only.target == received
    prefix = [requested[:3]] if requested.startswith("/s") else []
    assert upstream.only.values("X-Forwarded-Prefix") == prefix


@pytest.mark.parametrize("prefix", ["/api/v1/auth", "/api/auth", "/api/%61uth"])
def test_routes_apply_below_each_prefix_that_maps_to_the_same_path(
    gateway: GatewayProcess, upstream: ScriptedUpstream, prefix: str
) -> None:
    assert gateway.request("POST", f"{prefix}/login").status == 200
    assert gateway.request("GET", f"{prefix}/login").status == 401
    assert gateway.request("POST", f"{prefix}/logout").status == 401
    assert gateway.get(f"{prefix}/admin/x", bearer()).status == 403
    assert gateway.get(f"{prefix}/ADMIN/x", bearer()).status == 400
    assert gateway.get(f"{prefix}/admin", bearer(scope="admin")).status == 200
    assert len(upstream.requests) == 2


def test_without_target_prefix_a_route_applies_to_its_own_prefix_only(gateway: GatewayProcess) -> None:
    assert [gateway.get(path).status for path in ("/k2/open", "/k1/open")] == [200, 401]


def test_all_prefixes_share_one_limit(gateway: GatewayProcess) -> None:
    paths = ("/k1/a", "/k2/a", "/k1", "/k2")
    assert [gateway.get(path, bearer(sub="counted")).status for path in paths] == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("requested", "location", "expected"),
    [
        ("/api/v1/auth/x", "/inner/auth/login", "/api/v1/auth/login"),
        ("/api/auth/x", "/inner/auth/login?next=/inner/auth", "/api/auth/login?next=/inner/auth"),
        ("/api/auth/x", "/inner/auth", "/api/auth"),
        ("/api/auth/x", "/inner/authority", "/inner/authority"),
        ("/api/auth/x", "/login", "/login"),
        ("/api/auth/x", "/api/v1/auth/y", "/api/v1/auth/y"),
        ("/api/auth/x/y", "../z", "/api/auth/z"),
        ("/api/auth/x", "../../out", "/out"),
        ("/api/auth/x", "?page=2", "?page=2"),
        ("/api/auth/x", "https://elsewhere.example/inner/auth", "https://elsewhere.example/inner/auth"),
        ("/b1/x", "/base/b2/y", "/b1/y"),
        ("/b1/x", "/base/other", "/other"),
        ("/b1/x", "//evil.example/y", "//evil.example/y"),
        ("/s2/x", "/y", "/s2/y"),
        ("/k2/x", "/y", "/y"),
    ],
)
def test_redirects_use_the_prefix_of_the_request(
    gateway: GatewayProcess, upstream: ScriptedUpstream, requested: str, location: str, expected: str
) -> None:
    upstream.script = answering(f"HTTP/1.1 303 x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
    reply = gateway.get(requested, bearer(sub=f"{requested} {location}"))
    assert reply.value("Location") == expected
    if location.startswith("/inner"):
        # An absolute URL of the target is rewritten in the same way.
        url = f"{upstream.url}{location}"
        upstream.script = answering(f"HTTP/1.1 303 x\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n".encode())
        assert gateway.get(requested, bearer(sub=f"{requested} {url}")).value("Location") == expected


def test_cookie_paths_use_the_prefix_of_the_request(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    cookies = "Set-Cookie: a=1; Path=/inner/auth\r\nSet-Cookie: b=1; Path=/\r\nSet-Cookie: c=1; Path=/inner/auth/me\r\n"
    upstream.script = answering(f"HTTP/1.1 200 OK\r\n{cookies}Content-Length: 0\r\n\r\n".encode())
    reply = gateway.get("/api/auth/x", bearer())
    assert reply.values("Set-Cookie") == ["a=1; Path=/api/auth", "b=1; Path=/", "c=1; Path=/api/auth/me"]


def test_the_document_has_each_operation_once_below_the_first_prefix(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    body = json.dumps(DOCUMENT).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    upstream.at["/moved.json"] = answering(head.encode() + body)

    def paths() -> set[str]:
        reply = gateway.get("/openapi/moved.json")
        return set(reply.json()["paths"]) if reply.status == 200 else set()

    gateway.wait_until(lambda: bool(paths()), "make the document")
    assert paths() == {"/api/v1/auth/known", "/api/v1/auth"}
    statuses = {}
    paths_below = ["/api/v1/known/known", "/api/known/known", "/api/known", "/api/known/more", "/api/v1/known/more"]
    # One service has /inner/auth both as a prefix and as its target_prefix.
    paths_below += ["/renamed/known", "/inner/auth/known", "/inner/auth/more"]
    for path in paths_below:
        statuses[path] = gateway.get(path, bearer()).status
    assert statuses == {
        "/renamed/known": 200,
        "/inner/auth/known": 200,
        "/inner/auth/more": 404,
        "/api/v1/known/known": 200,
        "/api/known/known": 200,
        "/api/known": 200,
        "/api/known/more": 404,
        "/api/v1/known/more": 404,
    }


@pytest.mark.parametrize(
    ("service", "error"),
    [
        ({"prefixes": ["/api/devices"]}, "prefixes[0]: '/api/devices' and '/api/devices' lie within each other"),
        ({"prefixes": ["/a", "/a/b"]}, "prefixes[1]: '/a/b' and '/a' lie within each other"),
        ({"prefixes": ["/"]}, "prefixes[0]: '/' and '/api/devices' lie within each other"),
        (
            {"prefixes": ["/a"], "routes": [{"path": "/b"}]},
            "routes[0].path: '/b' is not below the prefix '/api/devices' or '/a'",
        ),
        ({"prefixes": ["/docs"]}, "prefixes[0]: '/docs' is the gateway's own"),
        ({"prefixes": ["/api/rules"]}, "prefixes[0]: '/api/rules' belongs to services.rules already"),
        ({"target_prefix": "/x", "strip_prefix": True}, "target_prefix: can't be combined with strip_prefix = true"),
        ({"target_prefix": "/api/devices"}, "target_prefix: is the prefix itself"),
        (
            {"prefixes": ["/a"], "target_prefix": "/x", "routes": [{"path": "/a/x"}, {"path": "/api/devices/x"}]},
            "routes[1].path: '/api/devices/x' has a policy for any method already",
        ),
    ],
)
def test_invalid_prefixes_are_refused(service: dict[str, Any], error: str) -> None:
    assert f"services.devices.{error}" in errors_of(devices(**service))
