"""The Host header: its syntax, its precedence, what services receive of it, and which hosts are served."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.client import Connection, Reply, exchange, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream

PATTERNS = ["api.example.com", "*.apps.example.com", "admin.example.com:8443", "web.example.com:443", "192.0.2.7"]


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    settings = four_services(module_upstream.url)
    settings["services"]["rules"]["preserve_host"] = True
    return start_gateway(settings, workers=1)


@pytest.fixture(scope="module")
def choosy(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    settings = four_services(module_upstream.url)
    origins = {"cors": {"origins": ["https://app.example.com"]}, "proxy": {"trusted_hops": 1}}
    return start_gateway(settings | origins | {"server": {"allowed_hosts": PATTERNS}}, workers=1)


@pytest.mark.parametrize(
    "host",
    [
        *['x", for=6.6.6.6;proto=https;host="y', "a b", "user@x", "user:secret@x", "x:abc", "[::1", "::1]", "x\\", ""],
        *["b\u00fccher.example", "x:65536", "x:99999", "x:-1", "x:1:2", "x:1_0", "x:\u00b2", "[::1]:x", "[::1]x", "[]"],
        *[
            "[::g]",
            "[1.2.3.4]",
            "[v1.fe80::a]",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "::1",
            "a,b",
            "a, b",
            "a;b",
            "a=b",
        ],
        *["a/b", "a?b", "a#b", "http://a", "%61", "a%00", "a\tb", "a" * 64, "<a>", "a'b", "(a)", "a|b", "*"],
        *[":80", ".", "a..b", ".a", "a." * 128],
    ],
)
def test_a_malformed_host_is_refused(gateway: GatewayProcess, upstream: ScriptedUpstream, host: str) -> None:
    replies = [
        exchange(gateway.port, data)
        for data in (
            request_bytes("GET", "/api/devices", [bearer()], host=host),
            # The host is also sent in heads that the fast parser does not handle, and as the authority of a target.
            request_bytes("GET", "/api/devices", [bearer(), ("Expect", "100-continue")], host=host),
            f"GET /api/devices HTTP/1.0\r\nHost: {host}\r\n\r\n".encode("latin-1"),
            f"GET http://{host}/api/devices HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"),
        )
    ]
    statuses = [reply.status for reply in replies]
    assert statuses[:3] == [400] * 3
    # In a target, the text after the authority `a` is a path or a query.
    assert statuses[3] == (404 if host in ("a/b", "a?b") else 400)
    assert all(reply.value("Connection") == "close" for reply in replies[:3])
    assert upstream.requests == []


@pytest.mark.parametrize(
    "host",
    [
        *["a", "A.Example", "gateway.test.", "under_score", "x-1.y~2", "a:80", "a:", "a:0", "a:65535", "127.0.0.1"],
        *["127.0.0.1:8000", "[::1]", "[::1]:8000", "[2001:DB8::1]", "[::ffff:1.2.3.4]:1", "xn--bcher-kva.example"],
        ".".join(["a" * 63] * 4),
    ],
)
def test_services_get_the_host_as_it_was_sent(gateway: GatewayProcess, upstream: ScriptedUpstream, host: str) -> None:
    assert gateway.request("GET", "/api/rules", [bearer()], host=host).status == 200
    arrived = upstream.only
    assert arrived.values("Host") == arrived.values("X-Forwarded-Host") == [host]
    assert f'host="{host}"' in arrived.values("Forwarded")[0] or f"host={host}" in arrived.values("Forwarded")[0]


@pytest.mark.parametrize("sent", ["Host: inner.test\r\n", "host: other.test:80\r\n"])
def test_the_authority_of_the_target_wins(gateway: GatewayProcess, upstream: ScriptedUpstream, sent: str) -> None:
    token = ": ".join(bearer())
    for version in ("1.1", "1.0"):
        data = f"GET http://outer.test:8080/api/rules?a HTTP/{version}\r\n{sent}{token}\r\n\r\n"
        assert exchange(gateway.port, data.encode()).status == 200
        arrived = upstream.requests[-1]
        assert arrived.target == "/api/rules?a"
        assert arrived.values("Host") == arrived.values("X-Forwarded-Host") == ["outer.test:8080"]
        assert 'host="outer.test:8080"' in arrived.values("Forwarded")[0]


def test_http_1_0_needs_no_host(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    token = ": ".join(bearer()).encode()
    assert exchange(gateway.port, b"GET /api/devices HTTP/1.0\r\n" + token + b"\r\n\r\n").status == 200
    assert exchange(gateway.port, b"GET http://outer.test/api/rules HTTP/1.0\r\n" + token + b"\r\n\r\n").status == 200
    assert upstream.requests[-1].values("Host") == ["outer.test"]
    assert exchange(gateway.port, b"GET /metrics HTTP/1.0\r\n\r\n").status == 200


def test_a_higher_minor_version_is_handled_as_http_1_1(gateway: GatewayProcess) -> None:
    for version in (b"1.2", b"1.9"):
        with Connection(gateway.port) as connection:
            # The connection stays open after a response, as with HTTP/1.1.
            connection.send(b"GET /healthz HTTP/%b\r\nHost: a\r\n\r\n" % version * 2)
            connection.send(b"GET /healthz HTTP/%b\r\nHost: a\r\nConnection: close\r\n\r\n" % version)
            answer = connection.rest()
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
        assert answer.count(b"HTTP/") == 3


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        *[
            ("localhost", True),
            ("LOCALHOST:8000", True),
            ("a.localhost.", True),
            ("127.0.0.1:1", True),
            ("[::1]", True),
        ],
        *[("10.1.2.3", True), ("evil.test", False), ("localhost.evil.test", False), ("127.0.0.1.evil.test", False)],
        *[("evillocalhost", False), ("1.2.3", False)],
    ],
)
def test_operators_paths_are_served_for_local_names_and_addresses_only(
    gateway: GatewayProcess, host: str, is_local: bool
) -> None:
    for path in ("/metrics", "/status", "/status/page.js"):
        reply = gateway.request("GET", path, host=host)
        assert (reply.status, reply.value("X-Gateway-Error")) == ((200, None) if is_local else (421, "misdirected"))
    # All other paths are served under any name.
    assert gateway.request("GET", "/api/devices", [bearer()], host=host).status == 200


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        *[("api.example.com", True), ("API.Example.com.", True), ("api.example.com:1234", True)],
        *[("x.apps.example.com", True), ("x.y.apps.example.com:1", True), ("apps.example.com", False)],
        *[("xapps.example.com", False), ("x.api.example.com", False), ("api.example.com.evil.test", False)],
        *[("admin.example.com:8443", True), ("admin.example.com", False), ("admin.example.com:443", False)],
        *[("web.example.com", True), ("web.example.com:443", True), ("web.example.com:80", False)],
        *[("192.0.2.7:8000", True), ("192.0.2.8", False), ("127.0.0.1", False), ("localhost", False)],
    ],
)
def test_listed_hosts_are_served(
    choosy: GatewayProcess, upstream: ScriptedUpstream, host: str, is_served: bool
) -> None:
    reply = choosy.request("GET", "/api/devices", [bearer()], host=host)
    assert (reply.status, reply.value("X-Gateway-Error")) == ((200, None) if is_served else (421, "misdirected"))
    assert len(upstream.requests) == is_served
    # The authority of the target takes precedence over the Host header.
    target = request_bytes("GET", f"http://{host}/api/devices", [bearer()], host="api.example.com")
    assert exchange(choosy.port, target).status == reply.status
    # A load balancer may send probes under any name.
    for path in ("/healthz", "/readyz"):
        assert choosy.request("GET", path, host=host).status == 200
    assert choosy.request("GET", "/openapi.json", host=host).status in ((200, 503) if is_served else (421,))
    assert choosy.request("GET", "/metrics", host=host).status == (200 if is_served else 421)


def test_a_misdirected_request_gets_a_problem_document(choosy: GatewayProcess) -> None:
    origin = ("Origin", "https://app.example.com")
    refused = choosy.request("GET", "/api/devices", [bearer(), origin], host="evil.test")
    assert refused.value("Access-Control-Allow-Origin") == origin[1]
    check(refused)
    wanted = ("Access-Control-Request-Method", "PUT")
    check(choosy.request("OPTIONS", "/api/devices", [origin, wanted], host="evil.test"))
    # HTTP/1.0 allows a request without Host.
    check(exchange(choosy.port, b"GET /api/devices HTTP/1.0\r\n\r\n"))
    line = choosy.wait_for_log(lambda line: line["request_id"] == refused.value("X-Request-Id"))
    assert (line["status"], line["error"], line["principal"]) == (421, "misdirected", None)


def check(reply: Reply) -> None:
    assert (reply.status, reply.value("X-Gateway-Error")) == (421, "misdirected")
    assert reply.json()["instance"] == reply.value("X-Request-Id")


def test_parser_errors_have_cors_headers_and_are_counted(choosy: GatewayProcess) -> None:
    def refused(*lines: str) -> Reply:
        return exchange(choosy.port, "\r\n".join(["GET /api/x HTTP/1.1", *lines, "", ""]).encode())

    before = refusals_counted(choosy)
    replies = {
        "https://app.example.com": refused("Origin: https://app.example.com", "Bad Name: x", "Host: api.example.com"),
        "https://app.example.com ": refused("Bad Name: x", "origin:\t https://app.example.com "),
        None: refused("Origin: https://evil.test", "Bad Name: x"),
        "two": refused("Origin: https://app.example.com", "Origin: https://app.example.com", "Bad Name: x"),
        "none": refused("X-Origin: https://app.example.com", "Bad Name: x"),
        "a body's": exchange(
            choosy.port, b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\nOrigin: https://app.example.com\r\n\r\n"
        ),
    }
    for origin, reply in replies.items():
        allowed = origin.strip() if origin and origin.startswith("https") else None
        assert (reply.status, reply.value("Access-Control-Allow-Origin")) == (400, allowed)
        assert "Origin" in (reply.value("Vary") or "")
        line = choosy.wait_for_log(lambda line, reply=reply: line["request_id"] == reply.value("X-Request-Id"))  # type: ignore[misc]
        assert (line["error"], line["cause"]) == ("bad_request", "RequestRefused: InvalidHeaderName")
    choosy.wait_until(lambda: refusals_counted(choosy) == before + len(replies), "count the refusals")


def refusals_counted(gateway: GatewayProcess) -> float:
    name = 'gateway_requests_total{method="GET",route="gateway",service="gateway",status="4xx"} '
    lines = gateway.request("GET", "/metrics", host="api.example.com").body.decode().splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_a_refused_head_request_gets_no_body(gateway: GatewayProcess) -> None:
    with Connection(gateway.port) as connection:
        connection.send(b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n")
        answer = connection.rest()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("host", "told", "is_served"),
    [
        ("api.example.com", "web.example.com", True),
        ("api.example.com", "evil.com", False),
        # The hostile page has a name that resolves to the gateway (DNS rebinding). It can set any header but Host.
        ("evil.com", "api.example.com", False),
    ],
)
def test_a_forwarded_host_must_be_served_as_well(
    choosy: GatewayProcess, upstream: ScriptedUpstream, host: str, told: str, is_served: bool
) -> None:
    reply = choosy.request("GET", "/api/devices", [bearer(), ("X-Forwarded-Host", told)], host=host)
    assert reply.status == (200 if is_served else 421)
    assert [request.values("x-forwarded-host") for request in upstream.requests] == ([[told]] if is_served else [])
