"""Large bodies pass in constant memory, and a slow reader slows down the sender."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import pytest

from tests.support import census
from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream

# The bodies are several times as large as the memory by which the worker may grow.
SIZE = 1 << 26
PIECE = bytes(1 << 20)
ALLOWED_GROWTH_KIB = 16 * 1024


def chunk(text: str) -> bytes:
    return f"{len(text):x}\r\n{text}\r\n0\r\n\r\n".encode()


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    services = four_services(module_upstream.url)
    services["services"]["devices"]["max_body_bytes"] = SIZE
    gateway = start_gateway(services, workers=1)
    for _ in range(20):
        gateway.get("/api/devices", bearer())
    return gateway


def resident_kib(gateway: GatewayProcess) -> int:
    [worker] = gateway.worker_pids()
    status = Path(f"/proc/{worker}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_request_body_passes_in_constant_memory(
    gateway: GatewayProcess, upstream: ScriptedUpstream, chunked: bool
) -> None:
    upstream.reads_bodies = False
    arrived = []

    def count(request: Received, connection: socket.socket) -> bool:
        total, end = 0, b""
        while (not end.endswith(b"\r\n0\r\n\r\n")) if chunked else (total < SIZE):
            data = request.stream.read1(1 << 20)
            assert data
            total += len(data)
            end = (end + data)[-8:]
        arrived.append(total)
        connection.sendall(OK)
        return False

    upstream.script = count
    before = resident_kib(gateway)
    framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(SIZE))
    with Connection(gateway.port, timeout=60) as connection:
        connection.send(request_bytes("POST", "/api/devices", [bearer(), framing]))
        for _ in range(SIZE // len(PIECE)):
            connection.send(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
        if chunked:
            connection.send(b"0\r\n\r\n")
        assert connection.reply("POST").status == 200
    assert arrived[0] >= SIZE
    assert resident_kib(gateway) - before < ALLOWED_GROWTH_KIB


def test_a_large_response_body_passes_in_constant_memory(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    def pour(_request: Received, connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for _ in range(SIZE // len(PIECE)):
            connection.sendall(PIECE)
        return True

    upstream.script = pour
    before = resident_kib(gateway)
    total = 0
    with Connection(gateway.port, timeout=60) as connection:
        connection.send(request_bytes("GET", "/api/devices", [bearer(), ("Connection", "close")]))
        buffer = bytearray(1 << 20)
        while size := connection.socket.recv_into(buffer):
            total += size
    assert total > SIZE
    assert resident_kib(gateway) - before < ALLOWED_GROWTH_KIB


def test_a_client_that_reads_nothing_slows_its_upstream_down(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    sent = 0
    blocked = threading.Event()

    def pour(_: Received, connection: socket.socket) -> bool:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        connection.settimeout(2)
        try:
            while True:
                sent += connection.send(PIECE)
        except TimeoutError:
            blocked.set()
        return False

    upstream.script = pour
    before = resident_kib(gateway)
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/devices", [bearer()]))
        assert blocked.wait(30)
    assert sent < SIZE // 2
    assert resident_kib(gateway) - before < ALLOWED_GROWTH_KIB


def test_an_idle_connection_holds_no_memory_of_its_last_request(
    start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream
) -> None:
    # With a long timeout no connection ends before all have been used, also on a slow machine.
    settings = four_services(module_upstream.url) | {"server": {"keepalive_seconds": 300}}
    gateway = start_gateway(settings, workers=1, application="tests.support.census:counted_app()")
    assert gateway.get(census.PATH).json() == {"exchanges": 0, "marked": 0}
    large = [(f"X-Large-{number}", census.MARK + str(number) * 700) for number in range(8)]
    # The fast parser accepts no head of this size, so gunicorn's parser reads it.
    larger = [*large, ("X-Larger", census.MARK + "y" * 4000)]
    requests = [
        request_bytes("GET", "/api/devices", [bearer(), *large]),
        request_bytes("GET", "/api/devices", [bearer(), *larger]),
        request_bytes("POST", "/api/devices", [bearer(), *large], (census.MARK + "z" * 5000).encode()),
        request_bytes("POST", "/api/devices", [bearer(), *large, ("Transfer-Encoding", "chunked")])
        + chunk(census.MARK + "z" * 5000),
        request_bytes("GET", "/nobody/has/this", large),
        request_bytes("GET", f"/api/devices?{census.MARK}{'q' * 2000}", [bearer()]),
        request_bytes("GET", "/api/devices/%2e%2e", large),
        request_bytes("GET", "/healthz", larger),
        request_bytes("GET", "/api/devices", [bearer(), ("Connection", "keep-alive"), *large]).replace(
            b"/1.1", b"/1.0"
        ),
    ]
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(gateway.port)) for _ in range(160)]
        for connection, data in zip(connections, cycle(requests), strict=False):
            connection.send(data)
            connection.reply()
        gateway.wait_until(lambda: gateway.get(census.PATH).json() == {"exchanges": 0, "marked": 0}, "let all go")
        # The connections can still be used.
        for connection, data in zip(connections[-20:], cycle(requests), strict=False):
            connection.send(data)
            connection.reply()
