"""Interim responses (1xx) are forwarded at once, their number is limited, and the gateway never takes one for the final
response (RFC 9110 15.2)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from tests.support.client import Connection, read_until, request_bytes
from tests.support.gateway import GatewayProcess
from tests.support.greenlet_watch import assert_no_greenlet_ran_long, start_watched
from tests.support.upstream import OK, Received, ScriptedUpstream

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nLink: </y>; rel=preload\r\n\r\n"
UNKNOWN = b"HTTP/1.1 199 \r\nX-A: 1\r\n\r\n"


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    service = {"targets": [module_upstream.url], "auth": "none", "breaker": {"failures": 0}}
    services = {
        "devices": {"prefix": "/devices", **service},
        "hurried": {"prefix": "/hurried", "head_timeout_seconds": 0.5, **service},
        "other": {"prefix": "/other", **service},
    }
    cors = {"origins": ["https://app.test"]}
    return start_watched(start_gateway, {"default_services": False, "services": services, "cors": cors})


def raw_response(gateway: GatewayProcess, request: bytes) -> bytes:
    with Connection(gateway.port) as connection:
        connection.send(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        return connection.rest()


GET = request_bytes("GET", "/devices")


def test_interim_responses_reach_the_client_before_the_final_one(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    seen = threading.Event()

    def script(_: Received, connection: socket.socket) -> bool:
        connection.sendall(HINTS)
        assert seen.wait(15)
        connection.sendall(OK)
        return True

    upstream.script = script
    with Connection(gateway.port) as connection:
        connection.send(GET)
        assert read_until(connection.socket, b"\r\n\r\n") == HINTS
        seen.set()
        reply = connection.reply()
        assert (reply.status, reply.body, reply.values("Link")) == (200, b'{"ok":true}', [])
        # The connection can be reused.
        upstream.answers(OK)
        connection.send(GET)
        assert connection.reply().status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_all_but_100_are_passed_on_in_order(gateway: GatewayProcess, upstream: ScriptedUpstream, method: str) -> None:
    upstream.answers(CONTINUE + PROCESSING + HINTS + CONTINUE + UNKNOWN + OK)
    response = raw_response(gateway, request_bytes(method, "/devices", (), b"x" if method == "POST" else None))
    assert response.startswith(PROCESSING + HINTS + UNKNOWN + b"HTTP/1.1 200 OK\r\n")
    assert response.count(b"HTTP/1.1 ") == 4


def test_a_client_of_http_1_0_receives_none(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(PROCESSING + HINTS + OK)
    response = raw_response(gateway, GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert response.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"HTTP/1.1" not in response


def test_their_headers_are_filtered_like_those_of_final_responses(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.answers(
        b"HTTP/1.1 103 Early Hints\r\nX-Kept: 1\r\nConnection: X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Access-Control-Allow-Origin: *\r\nX-Request-Id: theirs\r\nX-Gateway-Error: theirs\r\nUpgrade: h2c\r\n"
        b"Location: " + upstream.url.encode() + b"/devices/x\r\n\r\n" + OK
    )
    response = raw_response(gateway, request_bytes("GET", "/devices", [("Origin", "https://app.test")]))
    assert response.startswith(
        b"HTTP/1.1 103 Early Hints\r\nX-Kept: 1\r\nLocation: /devices/x\r\n\r\nHTTP/1.1 200 OK\r\n"
    )


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_content_announced_by_an_interim_response_is_ignored(
    gateway: GatewayProcess, upstream: ScriptedUpstream, framing: bytes
) -> None:
    upstream.answers(b"HTTP/1.1 103 Early Hints\r\n" + framing + b"\r\n\r\n" + OK)
    response = raw_response(gateway, GET)
    assert response.startswith(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_they_are_passed_on_while_the_request_is_being_sent(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    seen = threading.Event()

    def script(received: Received, connection: socket.socket) -> bool:
        assert received.stream.read(4)
        connection.sendall(PROCESSING)
        assert received.stream.read(200_000 - 4)
        assert seen.wait(15)
        connection.sendall(HINTS + OK)
        return True

    upstream.reads_bodies = False
    upstream.script = script
    head, _, _ = request_bytes("PUT", "/devices", (), b"").partition(b"Content-Length")
    with Connection(gateway.port) as connection:
        connection.send(head + b"Content-Length: 200000\r\n\r\n" + b"x" * 100_000)
        connection.send(b"x" * 100_000)
        assert read_until(connection.socket, b"\r\n\r\n") == PROCESSING
        seen.set()
        assert read_until(connection.socket, b'{"ok":true}').startswith(HINTS + b"HTTP/1.1 200 OK\r\n")


def test_the_client_receives_one_100_continue(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(CONTINUE + OK)
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("PUT", "/devices", [("Expect", "100-continue"), ("Content-Length", "1")]))
        assert read_until(connection.socket, b"\r\n\r\n") == CONTINUE
        connection.send(b"x")
        assert read_until(connection.socket, b'{"ok":true}').startswith(b"HTTP/1.1 200 OK\r\n")


def test_32_are_passed_on(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(PROCESSING * 32 + OK)
    assert raw_response(gateway, GET).count(PROCESSING) == 32


@pytest.mark.parametrize(
    "interim",
    [
        PROCESSING * 33,
        b"HTTP/1.1 103 Early Hints\r\nX-A: %b\r\n\r\n" % (b"a" * 7000) * 10,
        b"HTTP/1.1 103 Early Hints\r\nX-A: %b" % (b"a" * 70_000),
    ],
    ids=["many", "large", "endless"],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_their_number_and_size_are_limited(
    gateway: GatewayProcess, upstream: ScriptedUpstream, interim: bytes, method: str
) -> None:
    upstream.answers(interim + OK)
    body = b"x" * 200_000 if method == "PUT" else None
    response = raw_response(gateway, request_bytes(method, "/devices", (), body))
    assert b"HTTP/1.1 502 Bad Gateway\r\n" in response
    assert b"X-Gateway-Error: upstream_protocol\r\n" in response
    used = {request.connection for request in upstream.requests}
    assert upstream.wait_until(lambda: used <= set(upstream.closed_connections))


def test_101_is_a_502(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(PROCESSING + b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
    assert b"HTTP/1.1 502 Bad Gateway\r\n" in raw_response(gateway, GET)


@pytest.mark.parametrize(
    ("piece", "status"),
    [(HINTS, 502), (b"HTTP/1.1 103 Early Hints\r\n" + b"X-A: 1\r\n" * 2000 + b"\r\n", 502), (b"H", 502), (b"", 504)],
    ids=["without end", "large", "no head at all", "one byte at a time"],
)
def test_an_endless_head_ends_at_the_head_timeout_and_delays_no_other_service(
    gateway: GatewayProcess, upstream: ScriptedUpstream, piece: bytes, status: int
) -> None:
    ended = threading.Event()

    def flood(_: Received, connection: socket.socket) -> bool:
        if not piece:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-A: ")
        while not ended.is_set():
            connection.sendall(piece or b"a")
            if not piece:
                # This pause is shorter than any wait of the gateway.
                ended.wait(0.0002)
        return False

    upstream.at["/hurried"] = flood
    replies: list[bytes] = []
    floods = [
        threading.Thread(target=lambda: replies.append(raw_response(gateway, request_bytes("GET", "/hurried"))))
        for _ in range(2)
    ]
    for one in floods:
        one.start()
    while any(one.is_alive() for one in floods):
        assert gateway.get("/other").status == 200
    ended.set()
    assert all(b"HTTP/1.1 %d " % status in reply for reply in replies), replies
    assert_no_greenlet_ran_long(gateway)
