"""Bodies in tiny pieces do not hold up other requests of the worker."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.greenlet_watch import assert_no_greenlet_ran_long, start_watched
from tests.support.tokens import bearer
from tests.support.upstream import Received, ScriptedUpstream

CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.fixture(scope="module")
def watched(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    return start_watched(start_gateway, four_services(module_upstream.url))


@pytest.mark.parametrize("size", [1, 16, 256])
def test_tiny_chunks_of_a_client(watched: GatewayProcess, upstream: ScriptedUpstream, size: int) -> None:
    piece = b"%x\r\n%b\r\n" % (size, b"a" * size)
    count = 200_000 // len(piece)
    with Connection(watched.port) as connection:
        connection.send(request_bytes("POST", "/api/devices", [bearer(), CHUNKED]) + count * piece + b"0\r\n\r\n")
        assert connection.reply("POST").status == 200
    assert upstream.only.body == b"a" * size * count
    assert_no_greenlet_ran_long(watched)


def test_chunks_of_a_client_with_long_extensions(watched: GatewayProcess, upstream: ScriptedUpstream) -> None:
    padded = b"1;" + b"p" * 1000 + b"\r\na\r\n"
    with Connection(watched.port) as connection:
        with suppress(OSError):
            connection.send(request_bytes("POST", "/api/devices", [bearer(), CHUNKED]) + 1000 * padded)
        assert connection.rest().startswith(b"HTTP/1.1 400 ")
    assert upstream.wait_until(lambda: len(upstream.closed_connections) == upstream.connections)
    assert not any(request.is_whole for request in upstream.requests)


def test_tiny_chunks_of_a_service(watched: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 200_000 + b"0\r\n\r\n")
    reply = watched.get("/api/devices", bearer())
    assert (reply.status, reply.body) == (200, b"a" * 200_000)
    assert_no_greenlet_ran_long(watched)


def test_tiny_writes_of_a_service(watched: GatewayProcess, upstream: ScriptedUpstream) -> None:
    def write(_: Received, connection: socket.socket) -> bool:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n")
        for _number in range(20_000):
            connection.sendall(b"a")
        return True

    upstream.script = write
    assert watched.get("/api/devices", bearer()).body == b"a" * 20_000
    assert_no_greenlet_ran_long(watched)
