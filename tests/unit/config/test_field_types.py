"""The syntax of values: valid ones, and the errors of invalid ones."""

from __future__ import annotations

import json

import pytest

from tests.support.configuration import (
    ORDERS,
    devices,
    errors_in,
    errors_of,
    loaded,
    route,
)


@pytest.mark.parametrize(
    "name", ["Orders", "my-orders", "1orders", "my__orders", "orders_", "_orders", "", "ördering", "a.b", "a\nb: c"]
)
def test_invalid_service_names(name: str) -> None:
    is_plain = name.replace("-", "").replace("_", "").isalnum() and name.isascii()
    said = f"must be named with lower-case letters, digits and single underscores between them, got {name!r}"
    errors = errors_in({"GATEWAY_SERVICES": json.dumps({name: ORDERS})})
    assert errors == [f"services.{name if is_plain else json.dumps(name)}: {said}"]


@pytest.mark.parametrize("prefix", ["/status2", "/", "/a", "/api/docs", "/openapi.yaml", "/api/v1.0/a~b"])
def test_prefixes(prefix: str) -> None:
    assert loaded({"services": {"orders": {**ORDERS, "prefix": prefix}}}).services["orders"].prefix == prefix


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "api", "/api/", "//api", "/api//x", "/a b", "/a%20b", "/api/./x", "/..", "/api/*", "/api/**"),
        *("/api/{id}", "/a?b", "/ä", "/a\n", "http://h/api"),
    ],
)
def test_invalid_prefixes(prefix: str) -> None:
    (error,) = errors_of({"services": {"orders": {**ORDERS, "prefix": prefix}}})
    assert error.startswith("services.orders.prefix: must be like /api/devices: ")
    assert error.endswith(f"got {prefix!r}")


@pytest.mark.parametrize(
    "path",
    [
        *("", "x", "/api/devices/", "/api/devices//x", "/api/devices/x/", "/api/devices/*", "/api/devices/**/x"),
        *("/api/devices/{a}b", "/api/devices/{}", "/api/devices/{1}", "/api/devices/<x>", "/api/devices/%41"),
        *("/api/devices/../x", "/api/devices/x?y", "**", "/api/devices/***", "/api/devices/ä", "/api/devices/x\n"),
    ],
)
def test_invalid_route_paths(path: str) -> None:
    (error,) = errors_of(devices(routes=[{"path": path}]))
    assert error.startswith("services.devices.routes[0].path: must be like /api/devices/{id} or /api/devices/admin/**")
    assert error.endswith(f"got {path!r}")


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("GET,POST", "must be a method such as GET, got 'GET,POST'"),
        ("", "must be a method such as GET, got ''"),
        ("*", "leave methods out where a route is for all of them"),
        ("connect", "CONNECT is never forwarded"),
        ("TRACE", "TRACE is never forwarded"),
    ],
)
def test_invalid_methods_of_a_route(method: str, said: str) -> None:
    errors = errors_of(devices(routes=[route("x", "GET", method)]))
    assert errors == [f"services.devices.routes[0].methods[1]: {said}"]


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ("open-but-protected", " (did you mean open_but_protected?)"),
        ("GET /health", ""),
        ("", ""),
    ],
)
def test_invalid_drift_rules(rule: str, hint: str) -> None:
    (error,) = errors_of({"services": {"orders": {**ORDERS, "drift_ignore": ["open_but_protected", rule]}}})
    assert error == (
        "services.orders.drift_ignore[1]: must begin with one of protected_but_open, open_but_protected, "
        f"route_without_operation, unreachable_operation, got {rule!r}{hint}"
    )
    (error,) = errors_of({"services": {"orders": {**ORDERS, "drift_ignore": ["open_but_protected x"]}}})
    assert error.startswith("services.orders.drift_ignore[0]: must be like /api/devices/internal/**")


def test_a_secret_has_at_least_32_bytes() -> None:
    # Bytes are counted, not characters.
    for good in ("x" * 32, "ä" * 16):
        assert loaded({"jwt": {"secret": good}}).jwt.secret is not None
    for bad in ("", "x" * 31, "ä" * 15 + "x"):
        assert errors_of({"jwt": {"secret": bad}}) == ["jwt.secret: must have at least 32 bytes (RFC 7518 3.2)"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("1000B", 1000),
        ("64k", 64_000),
        ("20MB", 20_000_000),
        ("20 mb", 20_000_000),
        ("64KiB", 65_536),
        ("1 GiB", 1 << 30),
        ("2Mi", 2 << 20),
        (7, 7),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert loaded(devices(max_body_bytes=text)).services["devices"].max_body_bytes == size


@pytest.mark.parametrize("text", ["", "MB", "1.5MB", "-1", "1TB", "1e6", "20 M B", "1" * 20, "²MB"])
def test_invalid_sizes(text: str) -> None:
    (line,) = errors_of(devices(max_body_bytes=text))
    assert line.startswith("services.devices.max_body_bytes: must be a number of bytes")


def test_all_settings_in_bytes_accept_units() -> None:
    tree = {
        "jwt": {"max_token_bytes": "4KiB", "cache_max_bytes": "1MiB"},
        "docs": {"max_bytes": "1MiB"},
        "server": {"max_head_bytes": "16KiB", "min_body_bytes_per_second": "1KiB"},
    }
    found = loaded(tree)
    assert (found.jwt.max_token_bytes, found.jwt.cache_max_bytes, found.docs.max_bytes) == (4096, 1 << 20, 1 << 20)
    assert (found.server.max_head_bytes, found.server.min_body_bytes_per_second) == (16384, 1024)
    # The error names the allowed number of bytes, not a size with a unit.
    assert errors_of({"server": {"max_head_bytes": "1GiB"}}) == [
        "server.max_head_bytes: must be less than or equal to 1048576"
    ]


@pytest.mark.parametrize(
    "limit", ["1/minute", "10 per 5 second", "10/second; 300/minute", "5/2 hours", "1000000000/day"]
)
def test_limits(limit: str) -> None:
    found = loaded({"ratelimit": {"default": limit}, **devices(limits=[limit])})
    assert (found.ratelimit.default, found.services["devices"].limits) == (limit, (limit,))


@pytest.mark.parametrize(
    "limit",
    [
        *(
            "",
            "lots",
            "-1/minute",
            "1/fortnight",
            "300",
            "1/minute; nonsense",
            "0/minute",
            "1 per 0 minute",
            "1/00 day",
        ),
        *("1000000001/day", "1/100 year", "1" * 5000 + "/minute"),
    ],
)
def test_invalid_limits(limit: str) -> None:
    errors = errors_of({"ratelimit": {"default": limit, "anonymous": limit}, **devices(limits=["1/minute", limit])})
    names = ["ratelimit.default", "ratelimit.anonymous", "services.devices.limits[1]"]
    assert [line.partition(": ")[0] for line in errors] == names
    assert all(line.endswith(f"got {limit.rpartition('; ')[2]!r}") for line in errors)


@pytest.mark.parametrize(
    "header",
    [
        "Authorization", "host", "Content-Length", "X-Request-Id", "X-Forwarded-For", "Cookie", "X_User", "X User",
        "X.User", "X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-Url", "Proxy", "Proxy-Authorization",
        "HTTP2-Settings", "X-Real-IP", "CF-Connecting-IP", "X-Gateway-Identity", "X-Gateway-User",
        "X_Forwarded_Host", "Content-Type", "Max-Forwards",
    ],
)  # fmt: skip
def test_headers_that_cannot_hold_a_claim(header: str) -> None:
    (error,) = errors_of({"jwt": {"claims_to_headers": {"sub": header}}})
    assert error.startswith("jwt.claims_to_headers.sub: ")
    assert repr(header) in error


@pytest.mark.parametrize("header", ["X-User", "X-Forwarded-User", "X-Forwarded-Email", "Remote-User"])
def test_headers_that_can_hold_a_claim(header: str) -> None:
    assert loaded({"jwt": {"claims_to_headers": {"sub": header}}}).jwt.claims_to_headers["sub"] == header


@pytest.mark.parametrize("name", ["none", "None", "hs256", "HS1", ""])
def test_unknown_algorithms(name: str) -> None:
    (error,) = errors_of({"jwt": {"algorithms": ["HS256", name]}})
    assert error.startswith("jwt.algorithms[1]: must be 'HS256', ")
