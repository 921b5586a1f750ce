"""Streamed request bodies: forwarded piece by piece, while the response is already read."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from gateway.gunicorn.response_writer import LINGER_SECONDS
from tests.support.client import Connection, read_until, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream, waiting_for_the_end

StartGateway = Callable[..., GatewayProcess]
MIB = 1 << 20
CONTINUE = ("Expect", "100-continue")
CHUNKED = ("Transfer-Encoding", "chunked")
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def eager() -> Iterator[socket.socket]:
    """A listener for a service that may respond before it has received a request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture(scope="module")
def impatient(start_gateway: StartGateway, module_upstream: ScriptedUpstream, eager: socket.socket) -> GatewayProcess:
    """A gateway with a read timeout of 0.5 s and a body timeout of 1 s. Its service `rules` has the target `eager`."""
    tree = four_services(module_upstream.url)
    tree["services"]["devices"]["read_timeout_seconds"] = 0.5
    tree["services"]["rules"]["targets"] = [f"http://127.0.0.1:{eager.getsockname()[1]}"]
    return start_gateway(tree | {"server": {"body_timeout_seconds": 1}}, workers=1)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def post(*fields: tuple[str, str], length: int | None = None) -> bytes:
    """The head of a request whose body is still to be sent."""
    framing = CHUNKED if length is None else ("Content-Length", str(length))
    return request_bytes("POST", "/api/devices", [bearer(), framing, *fields])


def echo(request: Received, connection: socket.socket) -> bool:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (16 * MIB))
    left = 16 * MIB
    while left:
        data = request.stream.read1(65536)
        left -= len(data)
        connection.sendall(data)
    return True


@pytest.mark.parametrize("length", [None, 200_000])
def test_each_piece_of_a_body_is_forwarded_at_once(
    gateway: GatewayProcess, upstream: ScriptedUpstream, length: int | None
) -> None:
    upstream.reads_bodies = False
    go_on, arrived = threading.Semaphore(0), list[bytes]()

    def piece_by_piece(request: Received, connection: socket.socket) -> bool:
        for _ in range(3):
            data = b""
            while b"!" not in data:
                data += request.stream.read1(65536)
            arrived.append(data)
            go_on.release()
        connection.sendall(OK)
        return False

    upstream.script = piece_by_piece
    with Connection(gateway.port) as connection:
        connection.send(post(length=length))
        for _ in range(3):
            connection.send(b"six!" if length else chunk(b"six!"))
            # Waits until this piece has arrived at the service.
            assert go_on.acquire(timeout=10)
        assert connection.reply("POST").status == 200
    assert arrived == ([b"six!"] * 3 if length else [chunk(b"six!")] * 3)


def test_a_service_that_responds_while_it_reads(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    """There would be a deadlock if the gateway read no response before it had sent the whole request."""
    upstream.reads_bodies = False
    upstream.script = echo
    body = os.urandom(16 * MIB)
    with Connection(gateway.port) as connection:
        sender = threading.Thread(target=connection.send, args=(post(length=len(body)) + body,))
        sender.start()
        reply = connection.reply("POST")
        sender.join()
    assert reply.status == 200
    assert reply.body == body


def test_a_client_that_pauses_reading_causes_no_upstream_timeout(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    """While the client does not read its response, the service can't read the request any further."""
    upstream.reads_bodies = False
    upstream.script = echo
    settings = four_services(upstream.url)
    settings["services"]["devices"]["read_timeout_seconds"] = 0.5
    gateway = start_gateway(settings, workers=1)
    body = os.urandom(16 * MIB)
    with Connection(gateway.port) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sender = threading.Thread(target=connection.send, args=(post(length=len(body)) + body,))
        sender.start()
        # For longer than the read timeout no byte is transferred.
        time.sleep(2)
        assert connection.reply("POST").body == body
        sender.join()


def test_head_and_body_of_an_early_response_are_streamed(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.reads_bodies = False

    def shout(request: Received, connection: socket.socket) -> bool:
        connection.sendall(STREAM_HEAD)
        while (data := request.stream.readline()) != b"0\r\n":
            size = int(data, 16)
            connection.sendall(chunk(request.stream.read(size).upper()))
            request.stream.read(2)
        request.stream.read(2)
        connection.sendall(b"0\r\n\r\n")
        return True

    upstream.script = shout
    with Connection(gateway.port) as connection:
        connection.send(post())
        assert read_until(connection.socket, b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
        for word in (b"one", b"two"):
            connection.send(chunk(word))
            assert read_until(connection.socket, word.upper())
        connection.send(b"0\r\n\r\n")
        assert read_until(connection.socket, b"0\r\n\r\n")
    (line,) = [gateway.wait_for_log(lambda line: line["received_bytes"] == 6)]
    assert (line["status"], line["error"]) == (200, None)


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("POST", OK),
        ("POST", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("POST", STREAM_HEAD + chunk(b"all of it") + b"0\r\n\r\n"),
        ("HEAD", STREAM_HEAD),
    ],
)
def test_a_response_that_is_complete_before_its_request(
    gateway: GatewayProcess, upstream: ScriptedUpstream, method: str, response: bytes
) -> None:
    upstream.reads_bodies = False
    arrived, has_arrived = list[bytes](), threading.Event()

    def respond_first(request: Received, connection: socket.socket) -> bool:
        connection.sendall(response)
        arrived.append(request.stream.read(3 * MIB))
        has_arrived.set()
        return True

    upstream.script = respond_first
    body = os.urandom(3 * MIB)
    with Connection(gateway.port) as connection:
        connection.send(post(length=len(body)).replace(b"POST", method.encode(), 1) + body[:1000])
        # The client receives the whole response while it still sends, and the service receives the rest.
        assert connection.reply(method).status == int(response[9:12])
        connection.send(body[1000:])
        assert has_arrived.wait(10)
    assert arrived == [body]


def test_a_service_that_responds_and_stops_reading_ends_the_upload(
    impatient: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.reads_bodies, has_ended = False, threading.Event()

    def respond_without_reading(_: Received, connection: socket.socket) -> bool:
        connection.sendall(OK)
        # Keeps the connection open without reading the request.
        has_ended.wait(60)
        return False

    upstream.script = respond_without_reading
    with Connection(impatient.port, timeout=1) as connection:
        # The gateway accepts only a part of the body, then sending fails.
        with suppress(OSError):
            connection.send(post(("X-Request-Id", "unread"), length=100 * MIB) + bytes(50 * MIB))
        assert connection.reply("POST").status == 200
        try:
            impatient.wait_for_log(lambda line: line["request_id"] == "unread")
        finally:
            has_ended.set()


def test_100_continue_is_not_sent_after_the_head_of_the_response(
    impatient: GatewayProcess, eager: socket.socket
) -> None:
    """If 100 Continue were sent then, it would become part of the response."""
    head = post(CONTINUE).replace(b"/api/devices", b"/api/rules")

    def serve() -> None:
        service, _ = eager.accept()
        with service:
            # The head and the first chunk usually arrive before the gateway reads the client's body.
            service.sendall(STREAM_HEAD + chunk(b"one"))
            read_until(service, b"piece")
            service.sendall(chunk(b"two") + b"0\r\n\r\n")
            read_until(service, b"0\r\n\r\n")

    for _ in range(10):
        serving = threading.Thread(target=serve)
        serving.start()
        with Connection(impatient.port) as connection:
            connection.send(head)
            received = read_until(connection.socket, b"one")
            connection.send(chunk(b"piece"))
            received += read_until(connection.socket, b"0\r\n\r\n")
            connection.send(b"0\r\n\r\n")
            serving.join(20)
        _, _, after_head = received.partition(b"HTTP/1.1 200 OK\r\n")
        assert after_head.endswith(b"\r\n\r\n" + chunk(b"one") + chunk(b"two") + b"0\r\n\r\n")


def test_an_early_refusal_ends_the_upload(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.reads_bodies = False
    upstream.answers(b"HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 2\r\n\r\nno")
    with Connection(gateway.port) as connection:
        # The client announces a body, but never sends it.
        connection.send(post(length=10 * MIB))
        reply = connection.reply("POST")
    assert (reply.status, reply.body, reply.value("Connection")) == (422, b"no", "close")
    assert upstream.wait_until(lambda: len(upstream.closed_connections) == upstream.connections)


def test_a_service_that_closes_during_the_upload_is_a_502(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.reads_bodies = False
    upstream.script = lambda *_: False
    with Connection(gateway.port) as connection:
        connection.send(post(length=10 * MIB) + bytes(100_000))
        reply = connection.reply("POST")
    assert (reply.status, reply.value("X-Gateway-Error")) == (502, "upstream_unreachable")


@pytest.mark.parametrize("sent", [chunk(b"part"), chunk(b"part") + b"5\r\nhel", chunk(b"part") + b"zz\r\n"])
def test_a_truncated_body_is_never_completed(gateway: GatewayProcess, upstream: ScriptedUpstream, sent: bytes) -> None:
    with Connection(gateway.port) as connection:
        connection.send(post() + sent)
        connection.socket.shutdown(socket.SHUT_WR)
        connection.rest()
    # The request may reach the service after the response has reached the client.
    assert upstream.wait_until(lambda: len(upstream.requests) == 1)
    assert upstream.wait_until(lambda: upstream.only.connection in upstream.closed_connections)
    assert [request.is_whole for request in upstream.requests] == [False]
    line = gateway.wait_for_log(lambda line: line["error"] == "client_disconnected")
    assert line["attempts"][-1]["outcome"] == "given up"


def test_a_body_truncated_during_the_response_truncates_the_response(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.reads_bodies = False

    def begin(request: Received, connection: socket.socket) -> bool:
        connection.sendall(STREAM_HEAD + chunk(b"begun"))
        return request.stream.read() == b"x"

    upstream.script = begin
    with Connection(gateway.port) as connection:
        connection.send(post())
        read_until(connection.socket, b"begun")
        connection.send(b"zz\r\n")
        rest = connection.rest()
    assert b"0\r\n\r\n" not in rest
    assert upstream.wait_until(lambda: len(upstream.closed_connections) == upstream.connections)


def test_a_response_without_length_that_is_reset_during_the_upload_is_truncated(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.reads_bodies = False
    seen = threading.Event()

    def reset(_request: Received, connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\npart")
        assert seen.wait(15)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    upstream.script = reset
    with Connection(gateway.port) as connection:
        connection.send(post(length=10 * MIB))
        read_until(connection.socket, b"part\r\n")
        stop = threading.Event()

        def go_on() -> None:
            with suppress(OSError):
                while not stop.is_set():
                    connection.send(bytes(1000))

        sender = threading.Thread(target=go_on)
        sender.start()
        seen.set()
        rest = connection.rest()
        stop.set()
        sender.join()
    assert b"0\r\n\r\n" not in rest


def test_a_body_over_the_limit_during_the_response_truncates_the_response(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    settings = four_services(upstream.url)
    settings["services"]["devices"]["max_body_bytes"] = 1000
    gateway = start_gateway(settings, workers=1)
    upstream.reads_bodies = False

    def begin(request: Received, connection: socket.socket) -> bool:
        connection.sendall(STREAM_HEAD + chunk(b"begun"))
        return request.stream.read() == b"x"

    upstream.script = begin
    with Connection(gateway.port) as connection:
        connection.send(post() + chunk(b"a" * 900))
        read_until(connection.socket, b"begun")
        connection.send(chunk(b"a" * 900))
        assert b"0\r\n\r\n" not in connection.rest()
    # If the body exceeds the limit before the response has begun, the client gets a 413.
    upstream.script = lambda request, _: request.stream.read() == b"x"
    with Connection(gateway.port) as connection:
        connection.send(post() + chunk(b"a" * 900) + chunk(b"a" * 900))
        assert connection.reply("POST").status == 413
    # The request's head may reach the service after the refusal has reached the client.
    assert upstream.wait_until(lambda: len(upstream.requests) == 2)


def test_a_chunked_body_that_arrives_with_its_head_is_buffered(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    with Connection(gateway.port) as connection:
        connection.send((post() + chunk(b"bo") + chunk(b"dy") + b"0\r\nX-A: 1\r\n\r\n") * 2)
        # Both responses may arrive at once.
        responses = b""
        while responses.count(b'{"ok":true}') < 2:
            responses += read_until(connection.socket, b"}")
        assert responses.count(b"HTTP/1.1 200 OK\r\n") == 2
        connection.send(post() + b"0\r\n\r\n")
        assert connection.reply("POST").status == 200
    assert [request.body for request in upstream.requests] == [b"body", b"body", b""]
    assert [request.values("transfer-encoding") for request in upstream.requests] == [["chunked"]] * 3
    assert gateway.wait_for_log(lambda line: line["received_bytes"] == 4)


def test_pipelined_requests_after_chunked_bodies(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    requests = [post() + chunk(b"a" * 70_000) + chunk(b"%d" % number) + b"0\r\n\r\n" for number in range(3)]
    requests.append(request_bytes("GET", "/healthz"))
    with Connection(gateway.port) as connection:
        sender = threading.Thread(target=connection.send, args=(b"".join(requests),))
        sender.start()
        responses = read_until(connection.socket, b'"alive"')
        sender.join()
    assert responses.count(b"HTTP/1.1 200 OK\r\n") == 4
    assert [request.body[70_000:] for request in upstream.requests] == [b"0", b"1", b"2"]


def test_a_client_that_leaves_after_a_pipelined_request_is_noticed(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    """A plain read event would not show the end of the connection, as there are bytes before it."""
    left = threading.Event()
    upstream.script = waiting_for_the_end(left)
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/devices", [bearer()]) + request_bytes("GET", "/healthz"))
        assert upstream.wait_until(lambda: len(upstream.requests) == 1)
    assert left.wait(10)


def test_a_refusal_before_a_small_body_is_not_lost_when_the_connection_closes(gateway: GatewayProcess) -> None:
    fields = [("Content-Length", "2000"), ("Connection", "close")]
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("POST", "/api/devices", fields))
        assert connection.reply("POST").status == 401
        # The refused client can go on sending. If sending failed, some clients would not read the response.
        for _ in range(20):
            connection.send(bytes(100))
            assert connection.socket.recv(1) == b""


def test_the_logged_time_excludes_lingering(gateway: GatewayProcess) -> None:
    """After its request has ended, a refused client may still send its body for a while."""
    fields = [("Content-Length", "1000000"), ("X-Request-Id", "lingers")]
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("POST", "/api/devices", fields))
        assert connection.reply("POST").status == 401
        line = gateway.wait_for_log(lambda line: line["request_id"] == "lingers")
    assert line["seconds"] < LINGER_SECONDS


def test_a_steady_body_ends_at_the_body_timeout(impatient: GatewayProcess, upstream: ScriptedUpstream) -> None:
    with Connection(impatient.port) as connection:
        connection.send(post())
        with suppress(OSError):
            # Sends pieces in time and fast enough, until the gateway closes the connection.
            while not is_readable(connection.socket):
                connection.send(chunk(b"a" * 100))
        assert connection.rest().startswith(b"HTTP/1.1 400 ")
    assert upstream.wait_until(lambda: len(upstream.closed_connections) == upstream.connections)
    assert not any(request.is_whole for request in upstream.requests)


def is_readable(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0.01)[0])
