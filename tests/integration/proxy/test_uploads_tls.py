"""Uploads over TLS, from clients and to services."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPSConnection

import pytest

from tests.support.certificates import Authority
from tests.support.client import Connection, read_until, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import Received, ScriptedUpstream, waiting_for_the_end

StartGateway = Callable[..., GatewayProcess]
MIB = 1 << 20


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, module_upstream: ScriptedUpstream, authority: Authority) -> GatewayProcess:
    certificate, key = authority.issue("gateway", "127.0.0.1")
    files = ["--certfile", str(certificate), "--keyfile", str(key)]
    return start_gateway(four_services(module_upstream.url), workers=1, arguments=files)


@contextmanager
def connected(gateway: GatewayProcess, authority: Authority) -> Iterator[ssl.SSLSocket]:
    """A client's connection that raises an error if it ends without close_notify."""
    context = ssl.create_default_context(cafile=authority.ca_file)
    with (
        socket.create_connection(("127.0.0.1", gateway.port), 20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as sock,
    ):
        yield sock


def upload(gateway: GatewayProcess, authority: Authority, *fields: tuple[str, str]) -> int:
    """Uploads a body with http.client, which sends the whole body before it reads. Returns the received status."""
    context = ssl.create_default_context(cafile=authority.ca_file)
    client = HTTPSConnection("127.0.0.1", gateway.port, context=context, timeout=20)
    try:
        client.request("POST", "/api/devices", body=bytes(2 * MIB), headers=dict(fields))
        return client.getresponse().status
    finally:
        client.close()


def test_refusals_reach_clients_that_are_still_sending(
    gateway: GatewayProcess, upstream: ScriptedUpstream, authority: Authority
) -> None:
    assert [upload(gateway, authority) for _ in range(20)] == [401] * 20
    # The service refuses these uploads while they are being sent.
    upstream.reads_bodies = False
    upstream.answers(b"HTTP/1.1 422 X\r\nContent-Length: 0\r\n\r\n", keep=False)
    assert [upload(gateway, authority, bearer()) for _ in range(20)] == [422] * 20


def test_an_upload_arrives(gateway: GatewayProcess, upstream: ScriptedUpstream, authority: Authority) -> None:
    assert upload(gateway, authority, bearer()) == 200
    assert upstream.only.body == bytes(2 * MIB)


def test_a_response_that_ends_with_the_connection_ends_with_close_notify(
    gateway: GatewayProcess, authority: Authority
) -> None:
    with connected(gateway, authority) as sock:
        sock.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        read_until(sock, b'"alive"')
        while sock.recv(100):
            pass


def test_both_directions_at_the_same_time(
    gateway: GatewayProcess, upstream: ScriptedUpstream, authority: Authority
) -> None:
    upstream.reads_bodies = False

    def echo(request: Received, connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (8 * MIB))
        left = 8 * MIB
        while left:
            data = request.stream.read1(65536)
            left -= len(data)
            connection.sendall(data)
        return True

    upstream.script = echo
    body, got = os.urandom(8 * MIB), bytearray()
    with connected(gateway, authority) as sock:
        sock.sendall(request_bytes("POST", "/api/devices", [bearer(), ("Content-Length", str(len(body)))]))
        # Sending and receiving share one thread, as OpenSSL connections are not thread-safe.
        sock.setblocking(False)
        sent = 0
        deadline = time.monotonic() + 30
        while not bytes(got).endswith(body[-1000:]):
            assert time.monotonic() < deadline
            moved = False
            if sent < len(body):
                with suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    sent += sock.send(body[sent : sent + 16384])
                    moved = True
            with suppress(ssl.SSLWantReadError):
                got += sock.recv(65536)
                moved = True
            if not moved:
                time.sleep(0.001)
    assert bytes(got).partition(b"\r\n\r\n")[2] == body


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_client_that_leaves_is_noticed_despite_its_close_notify(
    gateway: GatewayProcess, upstream: ScriptedUpstream, authority: Authority, is_reset: bool
) -> None:
    left = threading.Event()
    upstream.script = waiting_for_the_end(left)
    with connected(gateway, authority) as sock:
        sock.sendall(request_bytes("GET", "/api/devices", [bearer()]) + request_bytes("GET", "/healthz"))
        assert upstream.wait_until(lambda: len(upstream.requests) == 1)
        sock.settimeout(0)
        with suppress(OSError):
            # Sends close_notify without waiting for the gateway's.
            sock.unwrap()
        if is_reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert left.wait(10)


@pytest.fixture(scope="module")
def service(authority: Authority) -> Iterator[ScriptedUpstream]:
    """A service with TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("service", "127.0.0.1"))
    service = ScriptedUpstream(context)
    yield service
    service.close()


def test_session_tickets_are_not_taken_for_a_response_during_a_slow_upload(
    start_gateway: StartGateway, service: ScriptedUpstream, authority: Authority
) -> None:
    settings = four_services(service.url)
    settings["services"]["devices"] |= {"ca_file": str(authority.ca_file), "read_timeout_seconds": 0.5}
    gateway = start_gateway(settings, workers=1)
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("POST", "/api/devices", [bearer(), ("Transfer-Encoding", "chunked")]))
        for _ in range(4):
            # The four pauses together are longer than the read timeout.
            time.sleep(0.3)
            connection.send(b"5\r\npiece\r\n")
        connection.send(b"0\r\n\r\n")
        assert connection.reply("POST").status == 200
    assert service.only.body == b"piece" * 4
