"""Which parts of a response reach the client, and which responses are refused."""

from __future__ import annotations

import socket

import pytest

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream

HEAD_200 = b"HTTP/1.1 200 OK\r\n"


def raw_response(gateway: GatewayProcess, method: str = "GET", version: str = "1.1") -> bytes:
    """All bytes that the client receives for a request with `Connection: close`."""
    data = request_bytes(method, "/api/devices", [bearer(), ("Connection", "close")])
    with Connection(gateway.port) as connection:
        connection.send(data.replace(b"HTTP/1.1", b"HTTP/" + version.encode()))
        return connection.rest()


def test_hop_by_hop_headers_do_not_reach_the_client(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(
        HEAD_200 + b"Connection: X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nTrailer: X-Sum\r\n"
        b'Upgrade: h2c\r\nProxy-Authenticate: Basic\r\nAlt-Svc: h3=":8443"\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n'
    )
    reply = gateway.get("/api/devices", bearer())
    for name in ("X-Private", "Keep-Alive", "Trailer", "Upgrade", "Proxy-Authenticate", "Alt-Svc"):
        assert reply.values(name) == []
    assert reply.value("X-Kept") == "1"
    assert reply.value("Connection") == "keep-alive"


def test_a_response_to_head_has_its_headers_and_no_body(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(HEAD_200 + b"Content-Length: 1234\r\nContent-Type: image/png\r\n\r\n")
    response = raw_response(gateway, "HEAD")
    assert response.endswith(b"\r\n\r\n")
    assert b"Content-Length: 1234\r\n" in response
    assert b"Content-Type: image/png\r\n" in response


@pytest.mark.parametrize(
    ("start", "field"),
    [
        (b"HTTP/1.1 204 No Content\r\n", b"ETag: x\r\n"),
        (b"HTTP/1.1 304 Not Modified\r\n", b"ETag: x\r\n"),
        (b"HTTP/1.1 304 Not Modified\r\n", b"Content-Length: 1234\r\n"),
        (b"HTTP/1.1 304 Not Modified\r\n", b"Content-Type: text/css\r\nLast-Modified: x\r\n"),
    ],
)
def test_responses_without_content_keep_their_headers(
    gateway: GatewayProcess, upstream: ScriptedUpstream, start: bytes, field: bytes
) -> None:
    upstream.answers(start + field + b"\r\n")
    response = raw_response(gateway)
    assert response.startswith(start)
    assert response.endswith(b"\r\n\r\n")
    assert field in response
    # The upstream connection can be reused.
    upstream.answers(OK)
    assert gateway.get("/api/devices", bearer()).body == b'{"ok":true}'


def test_a_chunked_response_is_complete_and_without_trailers(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.answers(
        HEAD_200 + b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"5;name=value\r\nhello\r\n0006\r\n world\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"
    )
    for _ in range(4):
        reply = gateway.get("/api/devices", bearer())
        assert (reply.body, reply.values("X-Sum")) == (b"hello world", [])
        assert reply.value("Transfer-Encoding") == "chunked"


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    ],
)
def test_a_body_that_ends_with_the_upstream_connection_becomes_chunked(
    gateway: GatewayProcess, upstream: ScriptedUpstream, response: bytes
) -> None:
    upstream.answers(response, keep=False)
    reply = gateway.get("/api/devices", bearer())
    assert (reply.status, reply.body) == (200, b"until the end")
    assert reply.value("Transfer-Encoding") == "chunked"


def test_a_client_of_http_1_0_gets_a_body_that_ends_with_the_connection(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.answers(HEAD_200 + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    response = raw_response(gateway, version="1.0")
    assert b"Transfer-Encoding" not in response
    assert response.endswith(b"\r\n\r\nhello")


class TestLocation:
    """Redirects are passed on, not followed. Only URLs at the target itself are made relative."""

    @pytest.mark.parametrize("field", ["Location", "Content-Location"])
    def test_a_url_at_the_target_is_made_relative(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream, field: str
    ) -> None:
        upstream.answers(
            b"HTTP/1.1 307 Temporary Redirect\r\n%b: %b/api/devices/?x=1#y\r\nContent-Length: 0\r\n\r\n"
            % (field.encode(), upstream.url.encode())
        )
        reply = gateway.get("/api/devices", bearer())
        assert (reply.status, reply.value(field)) == (307, "/api/devices/?x=1#y")
        assert len(upstream.requests) == 1

    @pytest.mark.parametrize(
        "value",
        [
            "https://id.example.com/login?next=/",
            "//cdn.example.com/x",
            "/api/devices/2",
            "../other",
            "?page=2",
            "http://127.0.0.1:1/api/devices",
            "mailto:a@example.com",
        ],
    )
    def test_any_other_reference_is_unchanged(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream, value: str
    ) -> None:
        upstream.answers(b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % value.encode())
        assert gateway.get("/api/devices", bearer()).value("Location") == value

    def test_a_port_with_the_same_first_digits_is_another_host(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        value = upstream.url + "0/api/devices"
        upstream.answers(b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % value.encode())
        assert gateway.get("/api/devices", bearer()).value("Location") == value


END = b"0\r\n\r\n"
MALFORMED = {
    "not HTTP": b"SSH-2.0-OpenSSH_9\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n" + b"\r\n\r\n",
    "obs-fold": b"HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
    "space before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n",
    "control byte": b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "bare CR": b"HTTP/1.1 200 OK\r\nX-A: a\rX-B: b\r\nContent-Length: 0\r\n\r\n",
    "Content-Length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    "Content-Length list": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
    "Content-Length signed": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
    "Content-Length negative": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "Content-Length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "gzip coded": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "switched protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "oversized head": b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X-A: a\r\n" * 20_000,
    "first chunk malformed": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "chunk size too large": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\n",
}


@pytest.mark.parametrize("response", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_response_is_a_502(gateway: GatewayProcess, upstream: ScriptedUpstream, response: bytes) -> None:
    upstream.answers(response)
    reply = gateway.get("/api/devices", bearer())
    assert (reply.status, reply.value("X-Gateway-Error")) == (502, "upstream_protocol")
    # If the request was sent on a reused connection, the malformed bytes may belong to an earlier response, so the
    # gateway sends the request again on a new connection. All connections that it used must be closed.
    used = {request.connection for request in upstream.requests}
    assert upstream.wait_until(lambda: used <= set(upstream.closed_connections))


def test_a_connection_with_bytes_after_the_response_is_not_reused(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.answers(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    for _ in range(6):
        assert gateway.get("/api/devices", bearer()).body == b'{"ok":true}'
    assert len({request.connection for request in upstream.requests}) == 6


class TestStaleConnections:
    """Idle connections that the upstream closes."""

    def close_after(self, upstream: ScriptedUpstream) -> None:
        def once(request: Received, connection: socket.socket) -> bool:
            # Closes the connection without announcing it by `Connection: close`.
            connection.sendall(OK)
            return False

        upstream.script = once

    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    def test_a_closed_idle_connection_is_replaced(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream, method: str
    ) -> None:
        self.close_after(upstream)
        for _ in range(8):
            number = len(upstream.closed_connections)
            assert gateway.request(method, "/api/devices", [bearer()]).status == 200
            assert upstream.wait_until(lambda number=number: len(upstream.closed_connections) > number)  # type: ignore[misc]

    def test_a_response_without_a_request_is_discarded(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        connections: list[socket.socket] = []

        def script(request: Received, connection: socket.socket) -> bool:
            connections.append(connection)
            connection.sendall(OK)
            return True

        upstream.script = script
        # One client connection is served by one worker. Without the stray responses this worker would reuse its idle
        # upstream connection.
        with Connection(gateway.port) as connection:
            for method in ("GET", "POST", "GET"):
                connection.send(request_bytes(method, "/api/devices", [bearer()]))
                assert connection.reply(method).status == 200
                connections[-1].sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        assert len({request.connection for request in upstream.requests}) == 3

    def close_on_second_request(self, upstream: ScriptedUpstream) -> None:
        seen: set[int] = set()

        def script(request: Received, connection: socket.socket) -> bool:
            if request.connection in seen:
                return False
            seen.add(request.connection)
            connection.sendall(OK)
            return True

        upstream.script = script

    def test_get_is_sent_again_if_its_connection_is_closed(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        self.close_on_second_request(upstream)
        for _ in range(10):
            assert gateway.get("/api/devices", bearer()).status == 200

    def test_post_is_not_replayed_if_its_connection_is_closed(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        self.close_on_second_request(upstream)
        # One client connection is served by one worker, so the second request uses the idle connection.
        with Connection(gateway.port) as connection:
            statuses = []
            for number in range(2):
                body = b"%d" % number
                connection.send(request_bytes("POST", "/api/devices", [bearer()], body))
                statuses.append(connection.reply("POST").status)
        assert statuses == [200, 502]
        assert [request.body for request in upstream.requests] == [b"0", b"1"]
