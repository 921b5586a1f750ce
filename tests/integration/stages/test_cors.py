"""CORS: which pages of other origins may read responses. All CORS headers of a response are the gateway's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from gateway.stages.cors import origin_pattern
from tests.support.client import Connection, Reply, exchange, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.redis import free_port
from tests.support.tokens import bearer
from tests.support.upstream import Received, ScriptedUpstream, answering

APP = "https://app.example.com"
EXPOSED = {
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "www-authenticate",
    "x-gateway-error",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
}
numbers = count(1)


def cors_fields(reply: Reply) -> dict[str, str]:
    fields = [(name.lower(), value) for name, value in reply.fields if name.lower().startswith("access-control-")]
    assert len(dict(fields)) == len(fields), fields
    return dict(fields)


def words(value: str | None) -> set[str]:
    return {word.strip().lower() for word in (value or "").split(",") if word.strip()}


def varies_by_origin(reply: Reply) -> bool:
    return bool({"origin", "*"} & words(",".join(reply.values("Vary"))))


def preflight(
    gateway: GatewayProcess,
    origin: str,
    method: str = "POST",
    target: str = "/api/devices",
    *fields: tuple[str, str],
) -> Reply:
    asked = [("Origin", origin), ("Access-Control-Request-Method", method), *fields]
    return gateway.request("OPTIONS", target, asked)


def settings_for(url: str, cors: dict[str, Any]) -> dict[str, Any]:
    settings = four_services(url)
    settings["cors"] = cors
    settings["services"]["rules"] |= {"limits": ["1/day"], "scopes": ["rules:write"]}
    settings["services"]["auth"]["targets"] = [f"http://127.0.0.1:{free_port()}"]
    settings["services"]["livestreams"] |= {"read_timeout_seconds": 0.2, "max_body_bytes": 10}
    settings["services"]["slow"] = {"prefix": "/api/slow", "targets": [url], "max_in_flight": 1, "auth": "none"}
    return settings


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway that allows named origins and patterns of origins, with credentials."""
    origins = [
        APP,
        "https://*.apps.example.org",
        "http://localhost:*",
        "https://shop.example.com:8443",
        "http://[::1]:3000",
    ]
    cors = {"origins": origins, "credentials": True, "expose_headers": ["X-Total"], "max_age_seconds": 77}
    return start_gateway(settings_for(module_upstream.url, cors), workers=1)


@pytest.fixture(scope="module")
def wildcard(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    cors: dict[str, Any] = {"origins": ["*"], "methods": ["GET", "POST"], "allow_headers": ["Authorization", "X-Tag"]}
    cors["private_network"] = True
    return start_gateway(settings_for(module_upstream.url, cors), workers=1)


@pytest.fixture(scope="module")
def closed(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway that allows no other origin."""
    return start_gateway(settings_for(module_upstream.url, {}), workers=1)


def test_a_preflight_needs_no_token_limit_or_upstream(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    asked = ("Access-Control-Request-Headers", "authorization, x-tag")
    reply = preflight(gateway, APP, "DELETE", "/api/devices/1", asked)
    assert (reply.status, reply.body) == (204, b"")
    fields = cors_fields(reply)
    assert fields["access-control-allow-origin"] == APP
    assert fields["access-control-allow-credentials"] == "true"
    assert "delete" in words(fields["access-control-allow-methods"])
    assert words(fields["access-control-allow-headers"]) == {"authorization", "x-tag"}
    assert fields["access-control-max-age"] == "77"
    assert words(",".join(reply.values("Vary"))) >= {
        "origin",
        "access-control-request-method",
        "access-control-request-headers",
    }
    assert reply.value("X-Request-Id")
    assert reply.value("RateLimit") is None
    assert reply.value("X-RateLimit-Limit") is None
    assert reply.value("WWW-Authenticate") is None
    assert upstream.requests == []


@pytest.mark.parametrize("target", ["/", "/nowhere", "/healthz", "/api/auth/login", "/api/devices?x=1", "/api/rules/1"])
def test_a_preflight_is_answered_everywhere(gateway: GatewayProcess, upstream: ScriptedUpstream, target: str) -> None:
    reply = preflight(gateway, APP, "PUT", target)
    assert (reply.status, cors_fields(reply)["access-control-allow-origin"]) == (204, APP)
    assert upstream.requests == []


def test_many_preflights_on_one_connection(gateway: GatewayProcess) -> None:
    data = request_bytes("OPTIONS", "/api/rules", [("Origin", APP), ("Access-Control-Request-Method", "PUT")])
    with Connection(gateway.port) as connection:
        for _ in range(5):
            connection.send(data)
            assert connection.reply("OPTIONS").status == 204


@pytest.mark.parametrize("fields", [[], [("Origin", APP)], [("Access-Control-Request-Method", "PUT")]])
def test_options_that_is_no_preflight_is_forwarded(
    gateway: GatewayProcess, upstream: ScriptedUpstream, fields: list[tuple[str, str]]
) -> None:
    upstream.answers(b"HTTP/1.1 200 OK\r\nAllow: GET, POST\r\nContent-Length: 0\r\n\r\n")
    assert gateway.request("OPTIONS", "/api/devices", fields).status == 401
    reply = gateway.request("OPTIONS", "/api/devices", [*fields, bearer()])
    assert (reply.status, reply.value("Allow")) == (200, "GET, POST")
    assert upstream.only.method == "OPTIONS"


ALLOWED = [
    APP,
    "https://a.apps.example.org",
    "https://a.b-c.d.apps.example.org",
    "http://localhost:3000",
    "http://localhost:1",
    "https://shop.example.com:8443",
    "http://[::1]:3000",
    # Scheme and host are case-insensitive (RFC 3986 6.2.2.1); browsers send them in lower case.
    "https://APP.example.com",
]
REFUSED = [
    "null",
    "*",
    "https://app.example.com.evil.com",
    "https://evil-app.example.com",
    "https://evil.com/https://app.example.com",
    "https://evil.com#https://app.example.com",
    "https://evil.com,https://app.example.com",
    "https://app.example.com,https://evil.com",
    "https://app.example.com https://evil.com",
    "https://app.example.com@evil.com",
    "http://app.example.com",
    "app.example.com",
    "//app.example.com",
    "https://app.example.com:443",
    "https://app.example.com:8443",
    "https://app.example.com/",
    "https://app.example.com.",
    "https://appXexample.com",
    "https://app.example.co",
    "https://sub.app.example.com",
    "https://example.com",
    "https://apps.example.org",
    "https://.apps.example.org",
    "https://a..apps.example.org",
    "https://aapps.example.org",
    "https://a.apps.example.org.evil.com",
    "https://a.apps.example.org:8443",
    "https://evil.com/.apps.example.org",
    "https://evil.com?.apps.example.org",
    "https://evil.com:80.apps.example.org",
    "https://user@a.apps.example.org",
    "https://a_b.apps.example.org",
    "http://a.apps.example.org",
    "https://a.appsXexample.org",
    "https://xn--\u00e9.apps.example.org",
    "http://localhost",
    "http://localhost:",
    "http://localhost:*",
    "http://localhost:123456",
    "http://localhost:80.evil.com",
    "http://localhost:3000/x",
    "http://localhost.evil.com:3000",
    "https://localhost:3000",
    "https://shop.example.com",
    "https://shop.example.com:18443",
    "https://shop.example.com:84430",
    "http://[::1]:3001",
    "http://:::1:3000",
    "file://",
    "chrome-extension://abc",
    "a" * 4000,
]


@pytest.mark.parametrize("origin", ALLOWED)
def test_an_allowed_origin_gets_cors_headers(gateway: GatewayProcess, upstream: ScriptedUpstream, origin: str) -> None:
    for reply in (gateway.get("/api/devices", bearer(), ("Origin", origin)), preflight(gateway, origin)):
        fields = cors_fields(reply)
        assert fields["access-control-allow-origin"] == origin
        assert fields["access-control-allow-credentials"] == "true"
        assert varies_by_origin(reply)


@pytest.mark.parametrize("origin", REFUSED, ids=lambda origin: str(origin)[:60])
def test_any_other_origin_gets_no_cors_headers(
    gateway: GatewayProcess, upstream: ScriptedUpstream, origin: str
) -> None:
    reply = gateway.get("/api/devices", bearer(), ("Origin", origin))
    assert reply.status == 200
    assert cors_fields(reply) == {}
    assert varies_by_origin(reply)
    asked = preflight(gateway, origin)
    assert asked.status == 204
    assert cors_fields(asked) == {}
    assert varies_by_origin(asked)


def test_two_origin_headers_are_no_origin(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    for pair in ((APP, "https://evil.com"), ("https://evil.com", APP), (APP, APP)):
        reply = gateway.get("/api/devices", bearer(), *[("Origin", one) for one in pair])
        assert cors_fields(reply) == {}


def test_exposed_headers_are_the_gateways_and_the_configured_ones(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    fields = cors_fields(gateway.get("/api/devices", bearer(), ("Origin", APP)))
    assert words(fields["access-control-expose-headers"]) == EXPOSED | {"x-total"}


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        ([], {"origin"}),
        (["Accept-Encoding"], {"accept-encoding", "origin"}),
        (["Accept-Encoding, Cookie", "Accept"], {"accept-encoding", "cookie", "accept", "origin"}),
        (["origin"], {"origin"}),
        (["X-Original-Host"], {"x-original-host", "origin"}),
        (["Sec-Fetch-Origin, X-Origin"], {"sec-fetch-origin", "x-origin", "origin"}),
    ],
)
@pytest.mark.parametrize("fields", [[], [("Origin", APP)], [("Origin", "https://evil.com")]])
def test_every_response_varies_by_origin(
    gateway: GatewayProcess,
    upstream: ScriptedUpstream,
    vary: list[str],
    expected: set[str],
    fields: list[tuple[str, str]],
) -> None:
    lines = "".join(f"Vary: {value}\r\n" for value in vary).encode()
    upstream.answers(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 0\r\n\r\n")
    reply = gateway.get("/api/devices", bearer(), *fields)
    assert words(",".join(reply.values("Vary"))) == expected


@pytest.mark.parametrize("target", ["/healthz", "/readyz", "/nowhere", "/api/devices", "/api/devices/../x"])
def test_the_gateways_own_responses_vary_by_origin_too(gateway: GatewayProcess, target: str) -> None:
    assert varies_by_origin(gateway.get(target))


UPSTREAMS_OWN = (
    b"Access-Control-Allow-Origin: *\r\naccess-control-allow-origin: https://evil.com\r\n"
    b"Access-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: X-Secret\r\n"
    b"Access-Control-Allow-Methods: PURGE\r\nAccess-Control-Max-Age: 99999\r\n"
    b"Access-Control-Allow-Private-Network: true\r\nACCESS-CONTROL-ALLOW-HEADERS: X-Evil\r\n"
)


@pytest.mark.parametrize("origin", [None, APP, "https://evil.com"])
@pytest.mark.parametrize("name", ["gateway", "wildcard", "closed"])
def test_cors_headers_of_the_upstream_are_removed(
    request: pytest.FixtureRequest, upstream: ScriptedUpstream, name: str, origin: str | None
) -> None:
    gateway: GatewayProcess = request.getfixturevalue(name)
    upstream.answers(b"HTTP/1.1 200 OK\r\n" + UPSTREAMS_OWN + b"Content-Length: 2\r\n\r\nok")
    fields = [("Origin", origin)] if origin else []
    reply = gateway.get("/api/devices", bearer(), *fields)
    assert reply.body == b"ok"
    told = cors_fields(reply)
    assert "access-control-allow-private-network" not in told
    assert "X-Secret" not in str(told)
    expected = {"gateway": APP if origin == APP else None, "wildcard": "*", "closed": None}[name]
    assert told.get("access-control-allow-origin") == expected
    assert told.get("access-control-allow-credentials") == ("true" if name == "gateway" and origin == APP else None)
    if expected is None:
        assert told == {}


def test_every_error_has_cors_headers(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    origin = ("Origin", APP)
    caller = bearer(f"caller-{next(numbers)}", scope="rules:write")
    released = threading.Event()

    def wait(received: Received, connection: Any) -> bool:
        released.wait(10)
        return answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(received, connection)

    broken = answering(b"garbage\r\n\r\n")
    upstream.at = {"/api/slow": wait, "/api/livestreams/never": wait, "/api/devices/broken": broken}
    for _ in range(3):
        gateway.get("/api/rules", caller, origin)
    replies = {
        "bad_path": gateway.get("/api/devices/%2e%2e/x", origin),
        "bad_request": gateway.get("/api/devices", bearer(), bearer(), origin),
        "missing_token": gateway.get("/api/devices", origin),
        "invalid_token": gateway.get("/api/devices", bearer(exp=1), origin),
        "insufficient_scope": gateway.get("/api/rules", bearer(f"caller-{next(numbers)}"), origin),
        "no_route": gateway.get("/nowhere", origin),
        "method_not_allowed": gateway.request("TRACE", "/api/devices", [origin]),
        "body_too_large": gateway.request("POST", "/api/livestreams", [caller, origin], b"x" * 11),
        "quota_exceeded": gateway.get("/api/rules", caller, origin),
        "upstream_unreachable": gateway.get("/api/auth/me", caller, origin),
        "upstream_protocol": gateway.get("/api/devices/broken", caller, origin),
        "upstream_timeout": gateway.get("/api/livestreams/never", caller, origin),
    }
    with Connection(gateway.port) as first:
        first.send(request_bytes("GET", "/api/slow", [origin]))
        assert upstream.wait_until(lambda: any(one.target == "/api/slow" for one in upstream.requests))
        replies["overloaded"] = gateway.get("/api/slow", origin)
        released.set()
        assert first.reply().status == 200
    assert {code: reply.status for code, reply in replies.items()} == {
        "bad_path": 400,
        "bad_request": 400,
        "missing_token": 401,
        "invalid_token": 401,
        "insufficient_scope": 403,
        "no_route": 404,
        "method_not_allowed": 405,
        "body_too_large": 413,
        "quota_exceeded": 429,
        "upstream_unreachable": 502,
        "upstream_protocol": 502,
        "upstream_timeout": 504,
        "overloaded": 503,
    }
    for code, reply in replies.items():
        assert reply.value("X-Gateway-Error") == code
        fields = cors_fields(reply)
        assert fields["access-control-allow-origin"] == APP
        assert fields["access-control-allow-credentials"] == "true"
        assert words(fields["access-control-expose-headers"]) >= EXPOSED
        assert varies_by_origin(reply)


def test_a_wildcard_is_sent_to_everyone_without_vary(wildcard: GatewayProcess, upstream: ScriptedUpstream) -> None:
    for origin in (APP, "null", "https://evil.com", "http://localhost:1"):
        for reply in (wildcard.get("/api/devices", bearer(), ("Origin", origin)), preflight(wildcard, origin)):
            assert cors_fields(reply)["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in cors_fields(reply)
    # The header is also sent if the request has no Origin, because a cache may give the response to a page of another
    # origin.
    for target in ("/api/devices", "/healthz", "/nowhere"):
        assert cors_fields(wildcard.get(target, bearer()))["access-control-allow-origin"] == "*"
    assert wildcard.get("/api/devices", bearer()).value("Vary") is None


def test_methods_and_headers_are_allowed_as_configured(wildcard: GatewayProcess) -> None:
    asked = ("Access-Control-Request-Headers", "x-tag, X-Tagged, authorization, x-other")
    fields = cors_fields(preflight(wildcard, APP, "POST", "/api/devices", asked))
    assert words(fields["access-control-allow-methods"]) == {"get", "post"}
    assert words(fields["access-control-allow-headers"]) == {"x-tag", "authorization"}
    refused = cors_fields(preflight(wildcard, APP, "DELETE"))
    assert "delete" not in words(refused.get("access-control-allow-methods"))


@pytest.mark.parametrize("name", ["Private-Network", "Local-Network"])
def test_a_private_network_is_opened_only_by_the_setting(
    gateway: GatewayProcess, wildcard: GatewayProcess, name: str
) -> None:
    asked = (f"Access-Control-Request-{name}", "true")
    answer = f"access-control-allow-{name.lower()}"
    assert cors_fields(preflight(gateway, APP, "GET", "/api/devices", asked)).get(answer) in (None, "false")
    assert cors_fields(preflight(wildcard, APP, "GET", "/api/devices", asked))[answer] == "true"
    assert answer not in cors_fields(preflight(wildcard, APP, "GET"))


def test_a_preflight_response_repeats_valid_header_names_only(gateway: GatewayProcess) -> None:
    asked = ("Access-Control-Request-Headers", 'x-a, b c, <script>, "x", x-b;q=1, , é, ' + "x_1")
    reply = preflight(gateway, APP, "POST", "/api/devices", asked)
    assert cors_fields(reply)["access-control-allow-headers"] == "x-a, x_1"


def test_without_origins_there_is_no_cors_at_all(closed: GatewayProcess, upstream: ScriptedUpstream) -> None:
    for origin in (APP, "null", "*"):
        field = ("Origin", origin)
        replies = [
            closed.get("/api/devices", bearer(), field),
            closed.get("/api/devices", field),
            closed.get("/nowhere", field),
            closed.get("/healthz", field),
            preflight(closed, origin),
        ]
        assert [reply.status for reply in replies] == [200, 401, 404, 200, 204]
        assert all(cors_fields(reply) == {} for reply in replies)
        assert not any(varies_by_origin(reply) for reply in replies[:4])


@pytest.mark.parametrize(
    ("configured", "origin", "allowed"),
    [
        ("null", "null", True),
        ("null", "nullx", False),
        ("https://*.example.com:*", "https://a.example.com:8443", True),
        ("https://*.example.com:*", "https://a.example.com", False),
        ("https://*.example.com:*", "https://a.example.com:", False),
        ("https://a.example.com", "https://a.example.com\n", False),
        ("https://*.example.com", "https://a.example.com\n", False),
        ("http://localhost:*", "http://localhost:1\n", False),
        ("http://[::1]:*", "http://[::1]:3000", True),
        ("http://[::1]:*", "http://::1:3000", False),
    ],
)
def test_a_pattern_is_anchored_at_both_ends(configured: str, origin: str, *, allowed: bool) -> None:
    assert bool(origin_pattern(configured).match(origin)) is allowed


@pytest.mark.parametrize(
    "origin",
    [b"\xff\xfe", b"https://app.example.com\xe9", b"https://app.example.com\t", b" https://app.example.com ", b""],
)
def test_odd_bytes_in_origin_are_handled(gateway: GatewayProcess, upstream: ScriptedUpstream, origin: bytes) -> None:
    data = b"GET /nowhere HTTP/1.1\r\nHost: a\r\nOrigin:" + origin + b"\r\n\r\n"
    reply = exchange(gateway.port, data)
    assert reply.status == 404
    # Whitespace around a header value is not part of it (RFC 9110 5.5).
    expected = APP if origin.strip() == APP.encode() else None
    assert cors_fields(reply).get("access-control-allow-origin") == expected
