"""Which parts of a request are forwarded, replaced or refused, and how its body is framed."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.support.client import Connection, exchange, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream


@pytest.fixture(scope="module")
def small_bodies(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway with a body limit of 100 kB and a client timeout of 1 s."""
    services = four_services(module_upstream.url)
    services["services"]["devices"]["max_body_bytes"] = 100_000
    return start_gateway(services | {"server": {"client_timeout_seconds": 1}})


def test_hop_by_hop_headers_are_not_forwarded(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    fields = [
        ("Connection", "X-Private, keep-alive"),
        ("X-Private", "1"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Trailer", "X-Sum"),
        ("Upgrade", "h2c"),
        ("Proxy-Authorization", "Basic eA=="),
        ("Proxy-Connection", "keep-alive"),
        ("HTTP2-Settings", "AAMAAABk"),
        ("X-Kept", "1"),
    ]
    assert gateway.get("/api/devices", bearer(), *fields).status == 200
    names = {name.lower() for name, _ in upstream.only.fields}
    assert names.isdisjoint(name.lower() for name, _ in fields[:-1])
    assert "x-kept" in names


def test_connection_can_not_remove_headers_that_the_gateway_sets(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    named = "X-User-Id, X-User-Subject, X-Forwarded-For, X-Request-Id, Host, Content-Length, Via, Forwarded"
    gateway.request("POST", "/api/devices", [bearer(), ("Connection", named)], b"body")
    arrived = upstream.only
    assert arrived.values("x-user-id") == ["42"]
    assert arrived.values("x-user-subject") == ["ada@example.com"]
    assert arrived.values("x-forwarded-for") == ["127.0.0.1"]
    assert len(arrived.values("x-request-id")) == len(arrived.values("via")) == len(arrived.values("forwarded")) == 1
    assert arrived.values("host") == [upstream.url.removeprefix("http://")]
    assert arrived.body == b"body"


def test_forwarding_headers_of_an_untrusted_client_are_replaced(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    gateway.get(
        "/api/devices",
        bearer(),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=10.0.0.1"),
        ("X-Real-IP", "10.0.0.1"),
        ("True-Client-IP", "10.0.0.1"),
        ("CF-Connecting-IP", "10.0.0.1"),
        ("Fastly-Client-IP", "10.0.0.1"),
        ("X-Cluster-Client-IP", "10.0.0.1"),
        ("Client-IP", "10.0.0.1"),
        ("X-Original-URL", "/admin"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-Method-Override", "DELETE"),
        ("X-Forwarded-User", "admin"),
        ("Proxy", "http://evil.test"),
        ("Proxy-Anything", "x"),
        ("X-Gateway-Identity", "x"),
    )
    arrived = upstream.only
    assert arrived.values("x-forwarded-for") == ["127.0.0.1"]
    assert arrived.values("x-forwarded-host") == ["gateway.test"]
    assert arrived.values("x-forwarded-proto") == ["http"]
    assert arrived.values("forwarded") == ['for=127.0.0.1;proto=http;host="gateway.test"']
    assert not [value for _, value in arrived.fields if "10.0.0.1" in value]
    for name in ("x-real-ip", "x-original-url", "x-http-method-override", "x-gateway-identity"):
        assert arrived.values(name) == []
    for name in ("x-method-override", "x-forwarded-user", "proxy", "proxy-anything"):
        assert arrived.values(name) == []


FAMILIES = ["x-forwarded", "forwarded"]


@pytest.fixture(scope="module", params=FAMILIES)
def behind_two(
    request: pytest.FixtureRequest, start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream
) -> tuple[str, GatewayProcess]:
    """A gateway behind two trusted proxies, and the kind of header that these proxies write: X-Forwarded-* or
    Forwarded. The service `rules` receives the client's Host."""
    settings = four_services(module_upstream.url) | {"proxy": {"trusted_hops": 2, "forwarding_fields": request.param}}
    settings["services"]["rules"] |= {"preserve_host": True}
    return request.param, start_gateway(settings, workers=1)


def test_services_receive_the_accepted_client_and_nothing_forged(
    behind_two: tuple[str, GatewayProcess], upstream: ScriptedUpstream
) -> None:
    family, gateway = behind_two
    written = {
        "x-forwarded": [
            ("X-Forwarded-For", "6.6.6.6, [2001:db8::9]:4711"),
            ("X-Forwarded-For", "10.0.0.2:80"),
            ("X-Forwarded-Host", "evil.test"),
            ("X-Forwarded-Host", "shop.test, 10.0.0.2"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Proto", "http"),
        ],
        "forwarded": [
            ("Forwarded", 'for="6.6.6.6'),
            ("Forwarded", 'for=6.6.6.7;proto=http, for="[2001:db8::9]:4711";proto=https;host=shop.test'),
            ("Forwarded", "for=10.0.0.2;proto=http;host=10.0.0.2"),
        ],
    }
    # Proxies that write X-Forwarded-* pass on the client's Forwarded unchanged, and vice versa, so clients can forge
    # these headers.
    forged = {
        "x-forwarded": [("Forwarded", "for=7.7.7.7;proto=http;host=evil.test")],
        "forwarded": [
            ("X-Forwarded-For", "7.7.7.7"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "evil.test"),
        ],
    }
    reply = gateway.get("/api/rules", bearer(), *written[family], *forged[family], ("X-Forwarded-Prefix", "/evil"))
    arrived = upstream.only
    assert arrived.values("x-forwarded-for") == ["2001:db8::9, 10.0.0.2, 127.0.0.1"]
    assert arrived.values("x-forwarded-host") == ["shop.test"]
    assert arrived.values("x-forwarded-proto") == ["https"]
    assert arrived.values("x-forwarded-prefix") == []
    assert arrived.values("forwarded") == [
        'for="[2001:db8::9]";proto=https;host="shop.test", for=10.0.0.2, for=127.0.0.1'
    ]
    assert arrived.values("host") == ["shop.test"]
    line = gateway.wait_for_log(lambda line: line["request_id"] == reply.value("X-Request-Id"))
    assert line["client"] == "2001:db8::9"
    # The redirect is relative, so the client uses https again, whatever scheme the service writes.
    for location in ("http://shop.test/api/rules/", "https://shop.test:443/api/rules/"):
        upstream.answers(b"HTTP/1.1 307 X\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location.encode())
        assert gateway.get("/api/rules", bearer(), *written[family]).value("Location") == "/api/rules/"


def test_invalid_addresses_schemes_and_hosts_are_not_forwarded(
    behind_two: tuple[str, GatewayProcess], upstream: ScriptedUpstream
) -> None:
    family, gateway = behind_two
    fields = {
        "x-forwarded": [
            ("X-Forwarded-For", "unknown, 10.0.0.2"),
            ("X-Forwarded-Proto", "gopher, http"),
            ("X-Forwarded-Host", 'x";for="6.6.6.6, b'),
        ],
        "forwarded": [("Forwarded", r'for=unknown;proto=gopher;host="x\";for=\"6.6.6.6", for=10.0.0.2')],
    }
    reply = gateway.get("/api/devices", bearer(), *fields[family])
    arrived = upstream.only
    assert arrived.values("x-forwarded-for") == ["unknown, 10.0.0.2, 127.0.0.1"]
    assert arrived.values("x-forwarded-proto") == ["http"]
    assert arrived.values("x-forwarded-host") == ["gateway.test"]
    assert arrived.values("forwarded") == ['for=unknown;proto=http;host="gateway.test", for=10.0.0.2, for=127.0.0.1']
    line = gateway.wait_for_log(lambda line: line["request_id"] == reply.value("X-Request-Id"))
    assert line["client"] == "127.0.0.1"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_an_ipv4_client_of_an_ipv6_socket_has_an_ipv4_address(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream
) -> None:
    settings = four_services(upstream.url) | {
        "server": {"bind": "[::]:0"},
        "admin": {"allow": ["::ffff:127.0.0.0/104"]},
    }
    gateway = start_gateway(settings, workers=1)
    assert gateway.get("/api/devices", bearer()).status == 200
    assert upstream.only.values("x-forwarded-for") == ["127.0.0.1"]
    assert upstream.only.values("forwarded") == ['for=127.0.0.1;proto=http;host="gateway.test"']
    assert gateway.wait_for_log(lambda line: line["service"] == "devices")["client"] == "127.0.0.1"
    assert gateway.get("/metrics").status == 200


@pytest.fixture(scope="module")
def rearranged(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """The services `rules` and `livestreams` receive the client's Host; the prefixes of `rules` and `devices` are
    stripped."""
    settings = four_services(module_upstream.url)
    settings["services"]["rules"] |= {"preserve_host": True, "strip_prefix": True}
    settings["services"]["devices"] |= {"strip_prefix": True}
    settings["services"]["livestreams"] |= {"preserve_host": True}
    return start_gateway(settings, workers=1)


def test_preserve_host_and_strip_prefix(rearranged: GatewayProcess, upstream: ScriptedUpstream) -> None:
    rearranged.get("/api/rules/1?x", bearer(), ("X-Forwarded-Prefix", "/evil"))
    assert upstream.only.values("host") == ["gateway.test"]
    assert upstream.only.values("x-forwarded-prefix") == ["/api/rules"]
    assert upstream.only.target == "/1?x"
    upstream.reset()
    rearranged.get("/%61pi/rules", bearer())
    assert upstream.only.target == "/"


@pytest.mark.parametrize(
    ("path", "location", "expected"),
    [
        # The client can follow the redirect, whichever form the service uses.
        ("/api/rules/1", "/2", "/api/rules/2"),
        ("/api/rules/1", "http://gateway.test/2", "/api/rules/2"),
        ("/api/rules/1", "http://Gateway.Test:80/2", "/api/rules/2"),
        ("/api/rules/1", "TARGET/2", "/api/rules/2"),
        ("/api/rules/1", "2", "/api/rules/2"),
        ("/api/rules", "2", "/api/rules/2"),
        ("/api/rules", "../2?a", "/api/rules/2?a"),
        ("/api/rules", "?a", "?a"),
        ("/api/devices", "TARGET/", "/api/devices/"),
        # A service that uses X-Forwarded-Prefix adds the prefix itself.
        ("/api/rules/1", "/api/rules/2", "/api/rules/2"),
        ("/api/rules/1", "http://gateway.test/api/rules/2", "/api/rules/2"),
        # A redirect to https would loop if it were made relative.
        ("/api/livestreams/1", "https://gateway.test/api/livestreams/1", "https://gateway.test/api/livestreams/1"),
        ("/api/livestreams", r"TARGET/\evil.com/", "/evil.com/"),
        ("/api/livestreams", "TARGET/\t/evil.com/", "/evil.com/"),
    ],
)
@pytest.mark.parametrize("field", ["Location", "Content-Location"])
def test_redirects_are_rewritten_for_the_client(
    rearranged: GatewayProcess, upstream: ScriptedUpstream, field: str, path: str, location: str, expected: str
) -> None:
    value = location.replace("TARGET", upstream.url).encode()
    upstream.answers(b"HTTP/1.1 307 X\r\n%b: %b\r\nContent-Length: 0\r\n\r\n" % (field.encode(), value))
    assert rearranged.get(path, bearer()).value(field) == expected


def test_two_slashes_after_a_stripped_prefix_are_refused(
    rearranged: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    reply = rearranged.get("/api/rules//evil.test/x", bearer())
    assert (reply.status, reply.value("X-Gateway-Error")) == (400, "bad_path")
    assert upstream.requests == []
    assert rearranged.get("/api/rules/1//x", bearer()).status == 200
    assert upstream.only.target == "/1//x"


def test_cookie_paths_are_rewritten_for_the_client(rearranged: GatewayProcess, upstream: ScriptedUpstream) -> None:
    cookies = [b"a=1; Path=/; HttpOnly", b"b=Path=/;path=/x ; Secure", b"c=1; Path=/api/rules/y", b"__Host-d=1; Path=/"]
    head = b"HTTP/1.1 200 X\r\n%bContent-Length: 0\r\n\r\n" % b"".join(b"Set-Cookie: %b\r\n" % one for one in cookies)
    upstream.answers(head)
    assert rearranged.get("/api/rules/1", bearer()).values("Set-Cookie") == [
        "a=1; Path=/api/rules; HttpOnly",
        "b=Path=/;path=/api/rules/x ; Secure",
        "c=1; Path=/api/rules/y",
        "__Host-d=1; Path=/",
    ]
    assert rearranged.get("/api/livestreams", bearer()).values("Set-Cookie") == [one.decode() for one in cookies]


@pytest.mark.parametrize(
    ("method", "sent", "arrives"),
    [
        ("OPTIONS", ["0"], None),
        ("OPTIONS", ["000"], None),
        ("OPTIONS", ["1"], ["0"]),
        ("OPTIONS", ["0000000000005"], ["4"]),
        ("OPTIONS", ["9" * 5000], ["999"]),
        # Values other than a single number are ignored.
        ("OPTIONS", ["-1"], ["-1"]),
        ("OPTIONS", ["0", "5"], ["0", "5"]),
        # Max-Forwards applies to OPTIONS only, as TRACE is refused.
        ("GET", ["0"], ["0"]),
    ],
)
def test_max_forwards_of_options(
    gateway: GatewayProcess, upstream: ScriptedUpstream, method: str, sent: list[str], arrives: list[str] | None
) -> None:
    fields = [("Max-Forwards", value) for value in sent]
    assert gateway.request(method, "/api/devices", fields).status == 401
    reply = gateway.request(method, "/api/devices", [bearer(), *fields])
    if arrives is None:
        assert (reply.status, reply.body, upstream.requests) == (204, b"", [])
    else:
        assert (reply.status, upstream.only.values("max-forwards")) == (200, arrives)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_via_has_the_version_of_the_received_request(
    gateway: GatewayProcess, upstream: ScriptedUpstream, version: str
) -> None:
    data = request_bytes("GET", "/api/devices", [bearer(), ("Via", "1.0 front")])
    assert exchange(gateway.port, data.replace(b"HTTP/1.1", b"HTTP/" + version.encode())).status == 200
    assert upstream.only.values("via") == ["1.0 front", f"{version} gateway"]


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c, websocket"])
def test_a_websocket_handshake_is_refused_with_501(
    gateway: GatewayProcess, upstream: ScriptedUpstream, upgrade: str
) -> None:
    fields = [bearer(), ("Connection", "Upgrade"), ("Upgrade", upgrade), ("Sec-WebSocket-Version", "13")]
    reply = gateway.get("/api/devices", *fields)
    assert (reply.status, reply.value("X-Gateway-Error")) == (501, "upgrade_refused")
    assert "WebSocket" in reply.json()["detail"]
    assert upstream.requests == []


def test_absolute_form_is_routed_by_its_path(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    reply = gateway.get("http://other.test/api/devices/1?x=http://y", bearer())
    assert reply.status == 200
    assert upstream.only.target == "/api/devices/1?x=http://y"
    assert upstream.only.values("host") == [upstream.url.removeprefix("http://")]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("OPTIONS", "*"),
        ("GET", "//evil.test/api/devices"),
        ("GET", "http://user@host/api/devices"),
        ("GET", "http:///api/devices"),
        ("GET", "ftp://host/api/devices"),
        ("GET", "/api/devices#fragment"),
    ],
)
def test_other_forms_of_request_target_are_refused(
    gateway: GatewayProcess, upstream: ScriptedUpstream, method: str, target: str
) -> None:
    reply = gateway.request(method, target, [bearer()])
    assert reply.status == 400
    assert reply.value("Content-Type") == "application/problem+json"
    assert upstream.requests == []


class TestExpect:
    """Requests with `Expect: 100-continue` (RFC 9110 10.1.1)."""

    head = request_bytes("POST", "/api/devices", [bearer(), ("Expect", "100-continue"), ("Content-Length", "4")])

    def test_an_accepted_request_gets_100_continue(self, gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
        with Connection(gateway.port) as connection:
            connection.send(self.head)
            assert connection.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.send(b"body")
            assert connection.reply("POST").status == 200
        assert upstream.only.body == b"body"
        assert upstream.only.values("expect") == []

    def test_a_refused_request_gets_no_100_continue(self, gateway: GatewayProcess) -> None:
        head = request_bytes("POST", "/api/devices", [("Expect", "100-continue"), ("Content-Length", "4")])
        with Connection(gateway.port) as connection:
            connection.send(head)
            reply = connection.reply("POST")
            assert reply.status == 401
            # The client may or may not send the body, so the connection can't be reused.
            assert reply.value("Connection") == "close"
            assert connection.rest() == b""

    def test_another_expectation_is_refused(self, gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
        assert gateway.get("/api/devices", bearer(), ("Expect", "miracles")).status == 417
        assert upstream.requests == []


class TestBodyLimit:
    """Requests with bodies above and below max_body_bytes."""

    def test_a_content_length_over_the_limit_is_refused_before_anything_is_forwarded(
        self, small_bodies: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        reply = small_bodies.request("POST", "/api/devices", [bearer()], b"x" * 100_001)
        assert (reply.status, reply.value("X-Gateway-Error")) == (413, "body_too_large")
        assert upstream.requests == []

    def test_a_body_at_the_limit_passes(self, small_bodies: GatewayProcess, upstream: ScriptedUpstream) -> None:
        assert small_bodies.request("POST", "/api/devices", [bearer()], b"x" * 100_000).status == 200
        assert len(upstream.only.body) == 100_000

    def test_a_chunked_body_over_the_limit_is_never_completed(
        self, small_bodies: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        head = request_bytes("POST", "/api/devices", [bearer(), ("Transfer-Encoding", "chunked")])
        piece = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        reply = exchange(small_bodies.port, head + piece * 8 + b"0\r\n\r\n")
        assert (reply.status, reply.value("Connection")) == (413, "close")
        assert upstream.wait_until(lambda: bool(upstream.requests) and not upstream.requests[0].is_whole)
        assert upstream.wait_until(lambda: upstream.only.connection in upstream.closed_connections)
        assert not upstream.only.is_whole

    def test_the_refusal_reaches_a_client_that_is_still_sending(self, small_bodies: GatewayProcess) -> None:
        with Connection(small_bodies.port) as connection:
            connection.send(request_bytes("POST", "/api/devices", [bearer(), ("Content-Length", "2000000")]))
            connection.send(b"x" * 2_000_000)
            assert connection.reply("POST").status == 413


class TestUnfinishedBodies:
    """The gateway never completes a body that the client has not completed."""

    @pytest.mark.parametrize(
        ("fields", "part"),
        [
            ([("Content-Length", "200000")], b"x" * 150_000),
            ([("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n5\r\nwor"),
            ([("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n"),
            ([("Transfer-Encoding", "chunked")], b"5\r\nhello\r\nzz\r\nworld\r\n0\r\n\r\n"),
        ],
    )
    def test_a_truncated_body_stays_truncated_upstream(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream, fields: list[tuple[str, str]], part: bytes
    ) -> None:
        with Connection(gateway.port) as connection:
            connection.send(request_bytes("POST", "/api/devices", [bearer(), *fields]) + part)
            connection.socket.shutdown(socket.SHUT_WR)
            connection.rest()
        if upstream.wait_until(lambda: bool(upstream.requests), 2):
            assert upstream.wait_until(lambda: upstream.only.connection in upstream.closed_connections)
            assert not upstream.only.is_whole

    def test_a_truncated_small_body_is_not_forwarded(self, gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
        with Connection(gateway.port) as connection:
            connection.send(request_bytes("POST", "/api/devices", [bearer(), ("Content-Length", "10")]) + b"12345")
            connection.socket.shutdown(socket.SHUT_WR)
            response = connection.rest()
        assert b" 400 " in response.split(b"\r\n")[0]
        assert upstream.requests == []

    def test_a_stalled_body_ends_at_the_client_timeout(
        self, small_bodies: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        with Connection(small_bodies.port) as connection:
            connection.send(request_bytes("POST", "/api/devices", [bearer(), ("Content-Length", "10")]) + b"12345")
            response = connection.rest()
        assert b" 400 " in response.split(b"\r\n")[0]
        assert b"Connection: close" in response
        assert upstream.requests == []


def test_an_early_refusal_of_the_upstream_reaches_the_client(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.reads_bodies = False

    def refuse(request: Received, connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 422 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        connection.shutdown(socket.SHUT_WR)
        while request.stream.read1(65536):
            pass
        return False

    upstream.script = refuse
    reply = gateway.request("POST", "/api/devices", [bearer()], b"x" * 5_000_000)
    assert (reply.status, reply.body) == (422, b"no")


def test_an_upstream_that_sends_an_interim_response_receives_the_whole_body(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.reads_bodies = False
    arrived: list[int] = []

    def interim_first(request: Received, connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        count, wanted = 0, int(request.values("content-length")[0])
        while count < wanted:
            count += len(request.stream.read1(65536))
        arrived.append(count)
        connection.sendall(OK)
        return True

    upstream.script = interim_first
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("POST", "/api/devices", [bearer(), ("Connection", "close")], b"x" * 3_000_000))
        responses = connection.rest()
    assert responses.startswith(b"HTTP/1.1 102 Processing\r\n")
    assert responses.count(b"HTTP/1.1 200 OK\r\n") == 1
    assert arrived == [3_000_000]


def test_responses_to_pipelined_requests_are_in_order(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    def echo(request: Received, connection: socket.socket) -> bool:
        body = request.target.encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return True

    upstream.script = echo
    with Connection(gateway.port) as connection:
        connection.send(b"".join(request_bytes("GET", f"/api/devices/{n}", [bearer()]) for n in range(5)))
        data = b""
        while data.count(b"/api/devices/") < 5:
            data += connection.socket.recv(65536)
    assert [line for line in data.split(b"\r\n") if line.startswith(b"/api/devices")] != []
    assert [data.find(b"/api/devices/%d" % n) for n in range(5)] == sorted(
        data.find(b"/api/devices/%d" % n) for n in range(5)
    )


@pytest.mark.parametrize("fields", [[("Connection", "close, X-A")], [("Connection", "X-A"), ("Connection", "Close")]])
def test_connection_close_is_respected_in_any_form(gateway: GatewayProcess, fields: list[tuple[str, str]]) -> None:
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/devices", [bearer(), *fields]))
        reply = connection.reply()
        assert (reply.status, reply.value("Connection")) == (200, "close")
        assert connection.rest() == b""
