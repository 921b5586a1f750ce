"""No spelling of a path bypasses a policy.

The paths that reach the upstream are interpreted as many kinds of servers would: they decode once or repeatedly, merge
slashes, turn backslashes into slashes, remove parameters, resolve dot segments, ignore case or dots and spaces at the
ends of segments, normalize characters (NFKC), and decode bytes that are not UTF-8 in several ways.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from itertools import product
from unicodedata import normalize
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
    "%25 %20 + ~ : @ %e2%80%a4 %ef%bc%8f ADMIN %41dmin admin. admin%20 admin%20. admin::$DATA %ef%bd%81dmin "
    "admin%ef%bc%8e adm%c4%b1n PUBLIC public. %ef%bc%bc %e2%80%a5 %c2%a0 adm%ff%69n %c1%a1dmin %aadmin API Devices"
).split(" ")

TAILS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
STARTS = st.sampled_from(
    [
        "/api/devices",
        "/api/devices/",
        "/api//devices",
        "/api/devices/admin",
        "/api/devices/public",
        "/api/devices/ADMIN",
        "/API/devices",
        "/api/devices./admin",
        "/%61pi/devices",
        "/x/../api/devices",
    ]
)
PATHS = st.tuples(STARTS, TAILS).map("".join)


@pytest.fixture(scope="module")
def guarded(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway with three policies: `/api/devices/admin/**` needs a scope, `/api/devices/public` needs no token, and
    all other paths below `/api/devices` need a token."""
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
                    "routes": [
                        {"path": "/api/open/admin/**", "scopes": ["admin"]},
                        {"path": "/api/open/{id}/secret", "scopes": ["admin"]},
                    ],
                },
            },
        },
        workers=1,
    )


def readings(target: str) -> set[str]:
    """The paths that some server could read in this request target."""
    raw = target.partition("?")[0]
    found = set()
    no_or_yes = (False, True)
    for (decodings, decoder), ways in product(product((1, 2, 3), DECODERS), product(no_or_yes, repeat=6)):
        backslashes, parameters, merged, normal, trimmed, caseless = ways
        octets = raw.encode("latin-1")
        for _ in range(decodings):
            octets = unquote_to_bytes(octets)
        path = decoder(octets)
        if normal:
            path = normalize("NFKC", path)
        if backslashes:
            path = path.replace("\\", "/")
        if parameters:
            path = re.sub(";[^/]*", "", path)
        if merged:
            path = re.sub("/+", "/", path)
        if trimmed:
            path = "/".join(trim(segment) for segment in path.split("/"))
        if caseless:
            path = path.upper().lower()
        found |= {path, posixpath.normpath(path) if path.startswith("/") else path}
    return found


def trim(segment: str) -> str:
    """The segment as Windows reads a file name: without a stream (::$…), and without dots and spaces at its end."""
    return segment if segment in (".", "..") else segment.partition("::$")[0].rstrip(" .")


def overlong(octets: bytes) -> str:
    """Decodes UTF-8 as lenient decoders do, which accept overlong sequences of two bytes."""
    pairs = re.compile(rb"[\xc0\xc1][\x80-\xbf]")
    return pairs.sub(lambda pair: bytes([(pair[0][0] & 1) << 6 | pair[0][1] & 63]), octets).decode("utf-8", "replace")


DECODERS: list[Callable[[bytes], str]] = [
    lambda octets: octets.decode("utf-8", "replace"),
    lambda octets: octets.decode("utf-8", "ignore"),
    lambda octets: octets.decode("latin-1"),
    overlong,
]


def is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


def send(
    gateway: GatewayProcess, upstream: ScriptedUpstream, path: str, *fields: tuple[str, str]
) -> tuple[int, list[str]]:
    """Sends a request. Returns its status, and the request targets that reached the upstream."""
    upstream.reset()
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", path, [("Connection", "close"), *fields], host="localhost"))
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
@example(path="/api/devices/ADMIN/x")
@example(path="/api/devices/admin%20/x")
@example(path="/api/devices/admin./x")
@example(path="/api/devices/admin%20.%20")
@example(path="/api/devices/admin::$DATA")
@example(path="/api/devices/%ef%bd%81dmin")
@example(path="/api/devices/adm%c4%b1n")
@example(path="/api/devices%ef%bc%8fadmin")
@example(path="/api/devices/x/%ef%bc%8e%ef%bc%8e/admin")
@given(path=PATHS)
def test_a_token_without_the_scope_never_reaches_the_admin_route(
    guarded: GatewayProcess, module_upstream: ScriptedUpstream, path: str
) -> None:
    status, arrived = send(guarded, module_upstream, path, bearer())
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
@example(path="/api/devices/PUBLIC")
@example(path="/api/devices/public.")
@given(path=PATHS)
def test_a_request_without_token_reaches_the_public_route_only(
    guarded: GatewayProcess, module_upstream: ScriptedUpstream, path: str
) -> None:
    status, arrived = send(guarded, module_upstream, path)
    assert status in (200, 400, 401, 404)
    for target in arrived:
        assert target == path
        for reading in readings(target):
            assert reading.rstrip("/") == "/api/devices/public", reading


@EXAMPLES
@example(path="/api/open/x%2f..%2fadmin")
@example(path="/api/open%2fx")
@example(path="/api/open/%FF%FE")
@example(path="/api/open/x%252Fy")
@example(path="/api/open/x%252F..%252Fadmin")
@example(path="/api/open/%252Fadmin")
@example(path="/api/open/admin%2fx")
@example(path="/api/open/adm%ffin")
@example(path="/api/open/%c1%a1dmin")
@example(path="/api/open/x%2FADMIN")
@example(path="/api/open/x/%c0%af%e2%80%a5%c0%afADMIN")
@example(path="/api/open%2fadmin")
@example(path="/api/open/x%2fy%5cz")
@example(path="/api/open/%2fadmin")
@example(path="/api/open/x%5c..%5cadmin")
@example(path="/api%2fopen/1")
@given(path=TAILS.map(lambda tail: "/api/open" + tail))
def test_allowed_encoded_slashes_never_leave_the_service_or_reach_its_admin_route(
    guarded: GatewayProcess, module_upstream: ScriptedUpstream, path: str
) -> None:
    status, arrived = send(guarded, module_upstream, path, bearer())
    assert status in (200, 400, 403, 404)
    for target in arrived:
        for reading in readings(target):
            assert is_below(reading, "/api/open"), reading
            assert not is_below(reading, "/api/open/admin"), reading


@pytest.mark.parametrize(
    "path", ["/api/open/a%2Fb%2fc", "/api/open/a%5C", "/api/open/%FF%FE", "/api/open/a%252Fb", "/api/open/M%FCnchen/A"]
)
def test_allowed_encodings_are_forwarded_unchanged(
    guarded: GatewayProcess, module_upstream: ScriptedUpstream, path: str
) -> None:
    assert send(guarded, module_upstream, path, bearer()) == (200, [path])


@pytest.mark.parametrize("path", ["/api%2Fopen", "/api%2Fopen/x", "/api/open%2Fx", "/api%5Copen%2Fx", "/%2Fapi/open"])
def test_an_encoded_slash_is_not_part_of_a_prefix(guarded: GatewayProcess, path: str) -> None:
    reply = guarded.get(path, bearer())
    assert (reply.status, reply.value("X-Gateway-Error")) == (404, "no_route")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/open/admin%2Fx", 400),
        ("/api/open/x%2Fadmin", 200),
        ("/api/open/x%2Fsecret", 400),
        # NFKC turns the ellipsis into three dots, which some servers then trim.
        ("/api/open/%E2%80%A6%252Fsecret", 400),
        ("/api/open/%E2%80%A6/secret", 400),
        ("/api/devices/ADMIN/x", 400),
        ("/api/devices/Admin", 400),
        ("/api/devices/admin./x", 400),
        ("/api/devices/.../admin/x", 400),
        ("/api/devices/%EF%BD%81dmin", 400),
        ("/api/devices/Public", 400),
        ("/api/devices/x/ADMIN", 200),
        ("/api/devices/AdminX", 200),
        ("/api/devices/01ARZ3NDEKTSV4RRFFQ69G5FAV", 200),
        ("/api/devices/caf%C3%89%20.txt", 200),
        ("/api/devices/A.", 200),
        ("/API/devices/x", 404),
        ("/api/Devices", 404),
    ],
)
def test_case_and_trailing_dots_are_refused_only_if_they_could_change_the_policy(
    guarded: GatewayProcess, module_upstream: ScriptedUpstream, path: str, status: int
) -> None:
    token = bearer(scope="admin")
    assert send(guarded, module_upstream, path, token) == (status, [path] if status == 200 else [])


@pytest.mark.parametrize("path", ["/api/devices/a%2Fb", "/api/devices/a%5Cb"])
def test_a_refused_encoded_slash_names_the_setting(guarded: GatewayProcess, path: str) -> None:
    reply = guarded.get(path, bearer())
    assert (reply.status, reply.value("X-Gateway-Error")) == (400, "bad_path")
    assert "encoded_slashes" in reply.json()["detail"]


@pytest.fixture(scope="module")
def rooted(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A service at / with one route that needs a token, and another service at the same target that needs a scope."""
    own = {"path": "/docs/private/**", "scopes": ["admin"]}
    services = {
        "web": {
            "prefix": "/",
            "targets": [module_upstream.url],
            "auth": "none",
            "routes": [own | {"auth": "required"}],
        },
        "admin": {"prefix": "/api/admin", "targets": [module_upstream.url], "scopes": ["admin"]},
        "mixed": {
            "prefix": "/Mixed",
            "targets": [module_upstream.url],
            "auth": "none",
            "routes": [{"path": "/Mixed/Admin", "auth": "required"}],
        },
    }
    return start_gateway({"default_services": False, "services": services}, workers=1)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/Index.html", 200),
        ("/api/administrator", 200),
        ("/api/admin/x", 401),
        ("/API/admin/x", 400),
        ("/api/ADMIN", 400),
        ("/api/admin.", 400),
        ("/api%2Fadmin", 400),
        ("/docs/nothing", 200),
        ("/docs/page.js/x", 200),
        ("/status/nothing", 200),
        ("/metrics/x", 200),
        ("/.well-known/acme-challenge/x", 200),
        ("/docs/private/x", 401),
        ("/docs/Private/x", 400),
        # A server that ignores case could serve its own /metrics.
        ("/Metrics", 400),
        ("/Mixed/x", 200),
        ("/Mixed/Admin", 401),
        ("/Mixed/admin", 400),
        ("/mixed/admin", 400),
        ("/mixed/x", 400),
    ],
)
def test_a_service_at_the_root_receives_all_other_paths(
    rooted: GatewayProcess, module_upstream: ScriptedUpstream, path: str, status: int
) -> None:
    assert send(rooted, module_upstream, path) == (status, [path] if status == 200 else [])


@pytest.mark.parametrize("path", ["/docs", "/docs/page.js", "/status", "/status/page.js", "/metrics"])
def test_the_gateways_own_paths_are_never_forwarded(
    rooted: GatewayProcess, module_upstream: ScriptedUpstream, path: str
) -> None:
    status, arrived = send(rooted, module_upstream, path)
    # Requests for documents may reach services, because /docs makes the gateway fetch them. The path itself must not.
    assert (status, path in arrived) == (200, False)
