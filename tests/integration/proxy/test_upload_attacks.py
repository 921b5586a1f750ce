"""Uploads that are split anywhere, aborted at any moment or refused early. The service gets what was sent, or an
incomplete body."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream, read_body

pytestmark = pytest.mark.usefixtures("leaves_nothing")
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CHUNKED = ("Transfer-Encoding", "chunked")
REFUSALS, CLIENTS = 100, 8
SIZES = st.lists(st.one_of(st.integers(1, 40), st.integers(1, 70_000)), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway with one worker, so that its in-flight slots and descriptors can be counted."""
    tree = four_services(module_upstream.url) | {"ratelimit": {"enabled": False}}
    gateway = start_gateway(tree, workers=1)
    gateway.get("/api/devices", bearer())
    return gateway


@pytest.fixture
def leaves_nothing(gateway: GatewayProcess) -> Iterator[None]:
    """Fails the test if a slot or a descriptor of an upload is still in use after all requests have ended."""
    before = pipes_of(gateway)
    yield

    def is_idle() -> bool:
        lines = gateway.get("/metrics").body.decode().splitlines()
        taken = [line for line in lines if line.startswith("gateway_requests_in_flight{")]
        return bool(taken) and all(line.endswith(" 0.0") for line in taken) and pipes_of(gateway) == before

    gateway.wait_until(is_idle, "release slots and descriptors")


def pipes_of(gateway: GatewayProcess) -> int:
    """The number of pipe descriptors of the worker."""
    [worker], links = gateway.worker_pids(), list[str]()
    for descriptor in Path(f"/proc/{worker}/fd").iterdir():
        with suppress(OSError):
            links.append(os.readlink(descriptor))
    return sum(link.startswith("pipe:") for link in links)


def echo(request: Received, connection: socket.socket) -> bool:
    """Sends each piece of the body back as it arrives."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    left = int((request.values("content-length") or ["-1"])[0])
    while left:
        if left > 0:
            data = request.stream.read1(min(left, 65536))
            left -= len(data)
            assert data
        else:
            size = int(request.stream.readline(), 16)
            data = request.stream.read(size)
            request.stream.readline()
            left = -1 if size else 0
        request.body += data
        if data:
            connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))
    request.is_whole = True
    connection.sendall(b"0\r\n\r\n")
    return True


def read_and_respond(request: Received, connection: socket.socket) -> bool:
    read_body(request)
    connection.sendall(OK)
    return True


@EXAMPLES
@given(st.data())
def test_any_body_in_any_pieces_arrives_as_it_was_sent(
    gateway: GatewayProcess, upstream: ScriptedUpstream, data: st.DataObject
) -> None:
    upstream.reset()
    upstream.reads_bodies = False
    is_echo = data.draw(st.booleans())
    upstream.script = echo if is_echo else read_and_respond
    bodies, message = list[bytes](), b""
    for _ in range(data.draw(st.integers(1, 3))):
        chunks = [os.urandom(size) for size in data.draw(SIZES)]
        if data.draw(st.booleans()):
            extension = data.draw(st.sampled_from([b"", b";a", b' ; a="b\\"c"']))
            message += request_bytes("POST", "/api/devices", [bearer(), CHUNKED])
            message += b"".join(b"%X%b\r\n%b\r\n" % (len(one), extension, one) for one in chunks)
            message += b"0\r\n" + data.draw(st.sampled_from([b"", b"X-Sum: 1\r\n"])) + b"\r\n"
        else:
            message += request_bytes("POST", "/api/devices", [bearer()], b"".join(chunks))
        bodies.append(b"".join(chunks))
    message += request_bytes("GET", "/healthz", [("Connection", "close")])
    cuts = data.draw(st.lists(st.integers(0, len(message)), max_size=12))
    ends = sorted({*cuts, len(message)})
    with Connection(gateway.port) as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send() -> None:
            # Sending fails if the gateway responds early and closes the connection. The assertions below check the
            # responses.
            with suppress(OSError):
                begun = 0
                for end in ends:
                    connection.send(message[begun:end])
                    begun = end

        sender = threading.Thread(target=send)
        sender.start()
        responses = connection.rest()
        sender.join()
    arrived = [(request.body, request.is_whole) for request in upstream.requests]
    # If a response begins before its request is complete, the gateway closes the connection and reads no later
    # requests.
    count = len(arrived)
    assert arrived == [(body, True) for body in bodies[:count]]
    assert responses.count(b"HTTP/1.1 200 OK\r\n") == count + (b'"alive"' in responses)
    assert count >= 1
    if not is_echo:
        assert b'"alive"' in responses


@EXAMPLES
@given(st.data())
def test_an_upload_aborted_at_any_moment_is_never_completed(
    gateway: GatewayProcess, upstream: ScriptedUpstream, data: st.DataObject
) -> None:
    upstream.reset()
    upstream.reads_bodies = False
    ends, finished = threading.Event(), list[bool]()

    def abort_or_be_aborted(request: Received, connection: socket.socket) -> bool:
        if is_clients:
            with suppress(OSError, AssertionError, ValueError):
                (echo if is_echo else read_and_respond)(request, connection)
            finished.append(request.is_whole)
        else:
            request.stream.read1(after)
            if is_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ends.set()
        return False

    upstream.script = abort_or_be_aborted
    is_clients, is_echo, is_reset = (data.draw(st.booleans()) for _ in range(3))
    after = data.draw(st.integers(0, 100_000))
    body = os.urandom(100_001)
    if data.draw(st.booleans()):
        message = request_bytes("POST", "/api/devices", [bearer(), CHUNKED]) + b"%x\r\n%b" % (len(body), body)
    else:
        message = request_bytes("POST", "/api/devices", [bearer()], body)
    with Connection(gateway.port) as connection:
        if is_clients:
            connection.send(message[: len(message) - len(body) + after])
            if is_reset:
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            with suppress(OSError):
                connection.send(message)
            assert connection.reply("POST").status == 502
    if is_clients and not upstream.wait_until(lambda: bool(upstream.requests), 0.2):
        # The gateway noticed that the client had left before it had forwarded anything.
        return
    assert ends.wait(10)
    assert True not in finished


@pytest.mark.parametrize("status", [b"422 Unprocessable Content", b"200 OK"])
def test_an_early_response_reaches_each_of_many_clients(
    gateway: GatewayProcess, upstream: ScriptedUpstream, status: bytes
) -> None:
    """The gateway closes these connections without a reset, which would discard the response at the client."""
    upstream.reads_bodies = False
    upstream.answers(b"HTTP/1.1 %b\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno" % status, keep=False)
    seen = Counter[int]()

    def upload() -> None:
        for _ in range(REFUSALS // CLIENTS):
            with Connection(gateway.port) as connection:
                connection.send(request_bytes("POST", "/api/devices", [bearer()], bytes(1 << 20)))
                seen[connection.reply("POST").status] += 1

    clients = [threading.Thread(target=upload) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert seen == {int(status[:3]): REFUSALS // CLIENTS * CLIENTS}
