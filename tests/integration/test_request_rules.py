"""What of a request goes on, what is made anew, and how its body is framed."""

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
    """A gateway that takes 100 kB at most, and waits 1 s at most for a client."""
    services = four_services(module_upstream.url)
    services["services"]["devices"]["max_body_bytes"] = 100_000
    return start_gateway(services | {"server": {"client_timeout_seconds": 1}})


def test_connection_specific_fields_stay_behind(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
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


def test_connection_cannot_strip_what_the_gateway_sets(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    named = "X-User-Id, X-User-Subject, X-Forwarded-For, X-Request-Id, Host, Content-Length, Via, Forwarded"
    gateway.request("POST", "/api/devices", [bearer(), ("Connection", named)], b"body")
    arrived = upstream.only
    assert arrived.values("x-user-id") == ["42"]
    assert arrived.values("x-user-subject") == ["ada@example.com"]
    assert arrived.values("x-forwarded-for") == ["127.0.0.1"]
    assert len(arrived.values("x-request-id")) == len(arrived.values("via")) == len(arrived.values("forwarded")) == 1
    assert arrived.values("host") == [upstream.url.removeprefix("http://")]
    assert arrived.body == b"body"


def test_forwarding_fields_of_an_untrusted_client_are_replaced(
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
    for name in ("x-real-ip", "x-original-url", "x-http-method-override", "x-gateway-identity"):
        assert arrived.values(name) == []
    for name in ("x-method-override", "x-forwarded-user", "proxy", "proxy-anything"):
        assert arrived.values(name) == []


def test_forwarding_fields_of_trusted_proxies_are_continued(
    upstream: ScriptedUpstream, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(four_services(upstream.url) | {"proxy": {"trusted_hops": 2}}, workers=1)
    gateway.get(
        "/api/devices",
        bearer(),
        ("X-Forwarded-For", "6.6.6.6, 203.0.113.9"),
        ("X-Forwarded-For", "10.0.0.2"),
        ("X-Forwarded-Host", "shop.test"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=203.0.113.9"),
    )
    arrived = upstream.only
    assert arrived.values("x-forwarded-for") == ["6.6.6.6, 203.0.113.9, 10.0.0.2, 127.0.0.1"]
    assert arrived.values("x-forwarded-host") == ["shop.test"]
    assert arrived.values("x-forwarded-proto") == ["https"]
    assert arrived.values("forwarded") == ['for=203.0.113.9, for=127.0.0.1;proto=http;host="gateway.test"']
    assert gateway.wait_for_log(lambda line: line["service"] == "devices")["client"] == "203.0.113.9"


def test_the_host_is_the_targets_or_the_clients(
    upstream: ScriptedUpstream, start_gateway: Callable[..., GatewayProcess]
) -> None:
    services = four_services(upstream.url)
    services["services"]["rules"] |= {"preserve_host": True, "strip_prefix": True}
    gateway = start_gateway(services, workers=1)
    gateway.get("/api/rules/1?x", bearer())
    assert upstream.only.values("host") == ["gateway.test"]
    assert upstream.only.target == "/1?x"
    upstream.reset()
    gateway.get("/%61pi/rules", bearer())
    assert upstream.only.target == "/"
    # A redirect comes back to where the client can follow it, however the service writes it.
    for location in ("/2", "http://gateway.test/2"):
        upstream.answers(b"HTTP/1.1 307 X\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location.encode())
        assert gateway.get("/api/rules/1", bearer()).value("Location") == "/api/rules/2"


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c, websocket"])
def test_a_websocket_is_refused_and_said_so(gateway: GatewayProcess, upstream: ScriptedUpstream, upgrade: str) -> None:
    fields = [bearer(), ("Connection", "Upgrade"), ("Upgrade", upgrade), ("Sec-WebSocket-Version", "13")]
    reply = gateway.get("/api/devices", *fields)
    assert (reply.status, reply.value("X-Gateway-Error")) == (501, "upgrade_refused")
    assert "WebSocket" in reply.json()["detail"]
    assert upstream.requests == []


def test_absolute_form_goes_where_its_path_says(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
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
def test_other_forms_of_target_are_refused(
    gateway: GatewayProcess, upstream: ScriptedUpstream, method: str, target: str
) -> None:
    reply = gateway.request(method, target, [bearer()])
    assert reply.status == 400
    assert reply.value("Content-Type") == "application/problem+json"
    assert upstream.requests == []


class TestExpect:
    """Expect: 100-continue (RFC 9110 10.1.1)."""

    head = request_bytes("POST", "/api/devices", [bearer(), ("Expect", "100-continue"), ("Content-Length", "4")])

    def test_the_body_is_asked_for_once_it_is_wanted(self, gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
        with Connection(gateway.port) as connection:
            connection.send(self.head)
            assert connection.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.send(b"body")
            assert connection.reply("POST").status == 200
        assert upstream.only.body == b"body"
        assert upstream.only.values("expect") == []

    def test_a_refused_request_is_not_asked_for_its_body(self, gateway: GatewayProcess) -> None:
        head = request_bytes("POST", "/api/devices", [("Expect", "100-continue"), ("Content-Length", "4")])
        with Connection(gateway.port) as connection:
            connection.send(head)
            reply = connection.reply("POST")
            assert reply.status == 401
            # Whether the body still comes can't be known, so nothing else is read from this connection.
            assert reply.value("Connection") == "close"
            assert connection.rest() == b""

    def test_another_expectation_is_refused(self, gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
        assert gateway.get("/api/devices", bearer(), ("Expect", "miracles")).status == 417
        assert upstream.requests == []


class TestBodyLimit:
    """max_body_bytes."""

    def test_a_length_over_the_limit_is_refused_before_anything_is_sent(
        self, small_bodies: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        reply = small_bodies.request("POST", "/api/devices", [bearer()], b"x" * 100_001)
        assert (reply.status, reply.value("X-Gateway-Error")) == (413, "body_too_large")
        assert upstream.requests == []

    def test_a_body_at_the_limit_passes(self, small_bodies: GatewayProcess, upstream: ScriptedUpstream) -> None:
        assert small_bodies.request("POST", "/api/devices", [bearer()], b"x" * 100_000).status == 200
        assert len(upstream.only.body) == 100_000

    def test_a_chunked_body_is_cut_where_it_passes_the_limit(
        self, small_bodies: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        head = request_bytes("POST", "/api/devices", [bearer(), ("Transfer-Encoding", "chunked")])
        piece = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        reply = exchange(small_bodies.port, head + piece * 8 + b"0\r\n\r\n")
        assert (reply.status, reply.value("Connection")) == (413, "close")
        assert upstream.wait_until(lambda: bool(upstream.requests) and not upstream.requests[0].is_whole)
        assert upstream.wait_until(lambda: upstream.only.connection in upstream.closed_connections)
        assert not upstream.only.is_whole

    def test_the_refusal_arrives_at_a_client_that_is_still_sending(self, small_bodies: GatewayProcess) -> None:
        with Connection(small_bodies.port) as connection:
            connection.send(request_bytes("POST", "/api/devices", [bearer(), ("Content-Length", "2000000")]))
            connection.send(b"x" * 2_000_000)
            assert connection.reply("POST").status == 413


class TestUnfinishedBodies:
    """A body that does not come to its end is never finished on the client's behalf."""

    @pytest.mark.parametrize(
        ("fields", "part"),
        [
            ([("Content-Length", "200000")], b"x" * 150_000),
            ([("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n5\r\nwor"),
            ([("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n"),
            ([("Transfer-Encoding", "chunked")], b"5\r\nhello\r\nzz\r\nworld\r\n0\r\n\r\n"),
        ],
    )
    def test_the_upstream_sees_it_cut(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream, fields: list[tuple[str, str]], part: bytes
    ) -> None:
        with Connection(gateway.port) as connection:
            connection.send(request_bytes("POST", "/api/devices", [bearer(), *fields]) + part)
            connection.socket.shutdown(socket.SHUT_WR)
            connection.rest()
        if upstream.wait_until(lambda: bool(upstream.requests), 2):
            assert upstream.wait_until(lambda: upstream.only.connection in upstream.closed_connections)
            assert not upstream.only.is_whole

    def test_a_small_one_never_reaches_the_upstream(self, gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
        with Connection(gateway.port) as connection:
            connection.send(request_bytes("POST", "/api/devices", [bearer(), ("Content-Length", "10")]) + b"12345")
            connection.socket.shutdown(socket.SHUT_WR)
            answer = connection.rest()
        assert b" 400 " in answer.split(b"\r\n")[0]
        assert upstream.requests == []

    def test_one_that_stalls_is_ended(self, small_bodies: GatewayProcess, upstream: ScriptedUpstream) -> None:
        with Connection(small_bodies.port) as connection:
            connection.send(request_bytes("POST", "/api/devices", [bearer(), ("Content-Length", "10")]) + b"12345")
            answer = connection.rest()
        assert b" 400 " in answer.split(b"\r\n")[0]
        assert b"Connection: close" in answer
        assert upstream.requests == []


def test_an_upstream_that_refuses_a_body_early_is_heard(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
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


def test_an_upstream_that_answers_while_it_reads_gets_the_whole_body(
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
    assert gateway.request("POST", "/api/devices", [bearer()], b"x" * 3_000_000).status == 200
    assert arrived == [3_000_000]


def test_pipelined_requests_are_answered_in_turn(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
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
def test_a_connection_is_closed_however_the_client_says_so(
    gateway: GatewayProcess, fields: list[tuple[str, str]]
) -> None:
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/devices", [bearer(), *fields]))
        reply = connection.reply()
        assert (reply.status, reply.value("Connection")) == (200, "close")
        assert connection.rest() == b""
