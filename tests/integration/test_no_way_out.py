"""No spelling of a path reaches a service, a policy or a path that its decision was not made for.

The upstream is read as servers of several kinds would read its paths: decoding once or twice, merging slashes, turning
backslashes, cutting off parameters, resolving dot segments.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from itertools import product
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream

PIECES = (
    "/ // . .. ... %2e %2E%2e .%2e %252e %25252e %2f %2F %252f %5c %5C %255c \\ ; ;x=1 ;/ admin Admin %61dmin adm%69n "
    "%2561dmin %252561dmin public %70ublic x api devices rules %c0%ae %c0%af %e0%80%ae %ff %00 %0a %0d%0a %7f % %zz %2 "
    "%25 %20 + ~ : @ %e2%80%a4 %ef%bc%8f"
).split(" ")

TAILS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
STARTS = st.sampled_from(
    [
        "/api/devices",
        "/api/devices/",
        "/api//devices",
        "/api/devices/admin",
        "/api/devices/public",
        "/%61pi/devices",
        "/x/../api/devices",
    ]
)
PATHS = st.tuples(STARTS, TAILS).map("".join)


@pytest.fixture(scope="module")
def guarded(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """`/api/devices/admin/**` needs a scope, `/api/devices/public` no token, the rest of devices a token."""
    return start_gateway(
        {
            "default_services": False,
            "services": {
                "devices": {
                    "prefix": "/api/devices",
                    "targets": [module_upstream.url],
                    "routes": [
                        {"path": "/api/devices/admin/**", "scopes": ["admin"]},
                        {"path": "/api/devices/public", "auth": "none"},
                    ],
                },
                "open": {
                    "prefix": "/api/open",
                    "targets": [module_upstream.url],
                    "encoded_slashes": "forward",
                    "routes": [{"path": "/api/open/admin/**", "scopes": ["admin"]}],
                },
            },
        },
        workers=1,
    )


def readings(target: str) -> set[str]:
    """The paths that servers could take a request target for."""
    raw = target.partition("?")[0]
    found = set()
    for decodings, backslashes, parameters, merged in product((1, 2, 3), (False, True), (False, True), (False, True)):
        octets = raw.encode("latin-1")
        for _ in range(decodings):
            octets = unquote_to_bytes(octets)
        path = octets.decode("utf-8", "replace")
        if backslashes:
            path = path.replace("\\", "/")
        if parameters:
            path = re.sub(";[^/]*", "", path)
        if merged:
            path = re.sub("/+", "/", path)
        found |= {path, posixpath.normpath(path) if path.startswith("/") else path}
    return found


def is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


def ask(
    gateway: GatewayProcess, upstream: ScriptedUpstream, path: str, *fields: tuple[str, str]
) -> tuple[int, list[str]]:
    """The answer's status, and what reached the upstream."""
    upstream.reset()
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", path, [("Connection", "close"), *fields]))
        status = connection.reply().status
    return status, [request.target for request in upstream.requests]


EXAMPLES = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@EXAMPLES
@example(path="/api/devices/%2e%2e/rules")
@example(path="/api/devices/..;/rules")
@example(path="/api/devices/%252e%252e/rules")
@example(path="/api/devices/x%2f..%2f..%2frules")
@example(path="/api/devices//admin")
@example(path="/api/devices/%2561dmin")
@example(path="/api/devices/admin;x")
@example(path="/api/devices/;/admin")
@given(path=PATHS)
def test_a_token_without_the_scope_gets_nowhere_near_the_admin_route(
    guarded: GatewayProcess, module_upstream: ScriptedUpstream, path: str
) -> None:
    status, arrived = ask(guarded, module_upstream, path, bearer())
    assert status in (200, 400, 403, 404)
    for target in arrived:
        assert target == path
        for reading in readings(target):
            assert is_below(reading, "/api/devices"), reading
            assert not is_below(reading, "/api/devices/admin"), reading


@EXAMPLES
@example(path="/api/devices/public/../x")
@example(path="/api/devices/public;/x")
@example(path="/api/devices/public%2fx")
@given(path=PATHS)
def test_without_a_token_only_the_public_route_is_reached(
    guarded: GatewayProcess, module_upstream: ScriptedUpstream, path: str
) -> None:
    status, arrived = ask(guarded, module_upstream, path)
    assert status in (200, 400, 401, 404)
    for target in arrived:
        assert target == path
        for reading in readings(target):
            assert reading.rstrip("/") == "/api/devices/public", reading


@EXAMPLES
@example(path="/api/open/x%2f..%2fadmin")
@example(path="/api/open%2fadmin")
@example(path="/api/open/x%2fy%5cz")
@example(path="/api/open/%2fadmin")
@example(path="/api/open/x%5c..%5cadmin")
@example(path="/api%2fopen/1")
@given(path=TAILS.map(lambda tail: "/api/open" + tail))
def test_encoded_slashes_where_they_are_allowed_lead_nowhere_else(
    guarded: GatewayProcess, module_upstream: ScriptedUpstream, path: str
) -> None:
    status, arrived = ask(guarded, module_upstream, path, bearer())
    assert status in (200, 400, 403, 404)
    for target in arrived:
        for reading in readings(target):
            assert is_below(reading, "/api/open"), reading
            assert not is_below(reading, "/api/open/admin"), reading


def test_encoded_slashes_are_forwarded_as_they_are_where_they_are_allowed(
    guarded: GatewayProcess, module_upstream: ScriptedUpstream
) -> None:
    assert ask(guarded, module_upstream, "/api/open/a%2Fb%2fc", bearer()) == (200, ["/api/open/a%2Fb%2fc"])


@pytest.mark.parametrize("path", ["/api/devices/a%2Fb", "/api/devices/a%5Cb"])
def test_encoded_slashes_are_refused_with_the_settings_name(guarded: GatewayProcess, path: str) -> None:
    reply = guarded.get(path, bearer())
    assert (reply.status, reply.value("X-Gateway-Error")) == (400, "bad_path")
    assert "encoded_slashes" in reply.json()["detail"]
