"""A client that sends without a pause does not hold up other clients of the worker."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.greenlet_watch import assert_no_greenlet_ran_long, start_watched
from tests.support.upstream import Received, ScriptedUpstream

PREFLIGHT = (("Origin", "https://a.test"), ("Access-Control-Request-Method", "PUT"))
# So many requests together take longer than a greenlet may run in these tests.
PIPELINED = 600
ANSWERED_HERE = {
    "no route": request_bytes("GET", "/nope"),
    "health": request_bytes("GET", "/healthz"),
    "bad path": request_bytes("GET", "/api/%2e%2e/x"),
    "preflight": request_bytes("OPTIONS", "/api/devices", PREFLIGHT),
    "no token": request_bytes("GET", "/api/devices"),
    "HEAD": request_bytes("HEAD", "/healthz"),
    "small body": request_bytes("POST", "/nope", (), b"a"),
    "read by gunicorn's parser": request_bytes("GET", "http://gateway.test/nope"),
}


@pytest.fixture(scope="module")
def watched(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    return start_watched(start_gateway, four_services(module_upstream.url))


def test_a_long_head_is_refused_early_and_holds_up_nobody(watched: GatewayProcess) -> None:
    field = b"X-%d: " + b"a" * 16_000 + b"\r\n"
    head = b"GET /api/devices HTTP/1.1\r\nHost: a\r\n" + b"".join(field % number for number in range(94))
    clients = [Connection(watched.port) for _ in range(4)]
    for client in clients:
        threading.Thread(target=send_what_is_taken, args=(client, head), daemon=True).start()
    for client in clients:
        assert client.reply().status == 431
        client.socket.close()
    assert_no_greenlet_ran_long(watched)


def test_a_long_head_of_short_fields_holds_up_nobody(watched: GatewayProcess) -> None:
    with Connection(watched.port) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 15_000 + b"\r\n")
        assert connection.reply().status == 431
    assert_no_greenlet_ran_long(watched)


def send_what_is_taken(client: Connection, data: bytes) -> None:
    with suppress(OSError):
        client.send(data)


@pytest.mark.parametrize("request_of", ANSWERED_HERE.values(), ids=ANSWERED_HERE.keys())
def test_pipelined_requests_to_the_gateways_own_routes_hold_up_nobody(
    watched: GatewayProcess, request_of: bytes
) -> None:
    last = request_bytes("GET", "/healthz", [("Connection", "close")])
    with Connection(watched.port, timeout=60) as connection:
        answers: list[bytes] = []
        reader = threading.Thread(target=lambda: answers.append(connection.rest()))
        reader.start()
        connection.send(request_of * PIPELINED + last)
        reader.join()
    assert answers[0].count(b"HTTP/1.1 ") == PIPELINED + 1
    assert_no_greenlet_ran_long(watched)


def test_an_api_document_in_tiny_pieces_holds_up_nobody(watched: GatewayProcess, upstream: ScriptedUpstream) -> None:
    document = json.dumps({"openapi": "3.1.0", "info": {"title": "x" * 30_000, "version": "1"}, "paths": {}}).encode()

    def tiny(_: Received, connection: socket.socket) -> bool:
        pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in document)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n")
        return True

    upstream.at["/openapi.json"] = tiny
    assert watched.get("/openapi.json").status == 200
    assert upstream.wait_until(lambda: "/openapi.json" in [request.target for request in upstream.requests])
    watched.wait_until(lambda: watched.get("/openapi/devices.json").json()["info"]["title"] == "x" * 30_000)
    assert_no_greenlet_ran_long(watched)
