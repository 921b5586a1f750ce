"""More or slower clients than a worker can serve, and workers that run out of descriptors or memory."""

from __future__ import annotations

import os
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream

StartGateway = Callable[..., GatewayProcess]
PLACES = 20
HALF_A_HEAD = b"GET /api/devices HTTP/1.1\r\nHost: x\r\nX-A: "


@contextmanager
def crowd(port: int, count: int, data: bytes = b"") -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(port)) for _ in range(count)]
        for connection in connections:
            connection.send(data)
        yield connections


def is_closed(connection: Connection) -> bool:
    connection.socket.setblocking(False)
    try:
        return connection.socket.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.fixture(scope="module")
def small(start_gateway: StartGateway, module_upstream: ScriptedUpstream) -> GatewayProcess:
    settings = {"connections_per_worker": PLACES, "keepalive_seconds": 600}
    return start_gateway(four_services(module_upstream.url) | {"server": settings}, workers=1)


class TestPlaces:
    """There are more connections than a worker may have."""

    @pytest.mark.usefixtures("upstream")
    @pytest.mark.parametrize("data", [b"", HALF_A_HEAD], ids=["idle", "half a head"])
    def test_the_connections_that_have_waited_longest_are_evicted(self, small: GatewayProcess, data: bytes) -> None:
        with crowd(small.port, 3 * PLACES, data) as connections:
            for _ in range(PLACES):
                assert small.get("/api/devices", bearer()).status == 200
            small.wait_until(lambda: is_closed(connections[0]), "evict the first connection")
            # The other connections are still served.
            late = connections[-1]
            late.send(b"1\r\nConnection: close\r\n\r\n" if data else request_bytes("GET", "/healthz"))
            late.socket.setblocking(True)
            assert late.reply().status == (401 if data else 200)

    def test_a_request_in_flight_is_not_evicted(self, small: GatewayProcess, upstream: ScriptedUpstream) -> None:
        def slow(_: object, connection: socket.socket) -> bool:
            with crowd(small.port, 2 * PLACES) as connections:
                small.wait_until(lambda: is_closed(connections[0]), "evict the first connection")
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
            return True

        upstream.script = slow
        assert small.get("/api/devices", bearer()).body == b"slow"


def test_with_tls_silent_handshakes_are_evicted_and_neither_hide_a_disconnect_nor_delay_the_exit(
    start_gateway: StartGateway, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    certificate, key = Authority(tmp_path).issue("gateway", "127.0.0.1")
    patience = {"connections_per_worker": PLACES, "keepalive_seconds": 600, "graceful_timeout_seconds": 600}
    gateway = start_gateway(
        four_services(upstream.url) | {"server": patience},
        workers=1,
        arguments=["--certfile", str(certificate), "--keyfile", str(key)],
    )
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with crowd(gateway.port, 2 * PLACES) as connections:
        gateway.wait_until(lambda: is_closed(connections[0]), "evict the first connection")
        with Connection(gateway.port) as late:
            late.socket = trusting.wrap_socket(late.socket)
            late.send(request_bytes("GET", "/api/devices", [bearer()]))
            assert late.reply().status == 200
        upstream.script = lambda _, connection: connection.recv(1) == b"x"
        before = len(upstream.requests)
        with Connection(gateway.port) as leaving:
            leaving.socket = trusting.wrap_socket(leaving.socket)
            leaving.send(request_bytes("GET", "/api/devices", [bearer()]))
            assert upstream.wait_until(lambda: len(upstream.requests) == before + 1)
        assert upstream.wait_until(lambda: upstream.requests[-1].connection in upstream.closed_connections)
        with Connection(gateway.port) as confused:
            confused.send(request_bytes("GET", "/healthz"))
            confused.rest()
        assert gateway.stop() == 0
    # A failed handshake is logged as one line, not as a traceback.
    assert "Traceback" not in gateway.output()


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, module_upstream: ScriptedUpstream) -> GatewayProcess:
    settings = {"connections_per_client": 3}
    return start_gateway(four_services(module_upstream.url) | {"server": settings}, workers=1)


def test_the_limit_of_connections_holds_for_each_address(gateway: GatewayProcess) -> None:
    with crowd(gateway.port, 3) as connections:
        refused = gateway.get("/healthz")
        assert (refused.status, refused.value("X-Gateway-Error")) == (503, "overloaded")
        assert refused.json()["title"] == "Too many connections from this address"
        assert refused.value("Date") is not None
        request_id = refused.value("X-Request-Id")
        assert refused.json()["instance"] == request_id
        line = gateway.wait_for_log(lambda line: line["request_id"] == request_id)
        assert (line["status"], line["error"], line["client"]) == (503, "overloaded", "127.0.0.1")
        with socket.create_connection(("127.0.0.1", gateway.port), 20, ("127.0.0.2", 0)) as other:
            other.sendall(request_bytes("GET", "/healthz"))
            assert other.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        connections[0].send(request_bytes("GET", "/healthz", [("Connection", "close")]))
        assert connections[0].reply().status == 200
        gateway.wait_until(lambda: gateway.get("/healthz").status == 200, "have a free place again")


def test_a_body_below_the_minimum_rate_is_refused(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("POST", "/api/devices", [bearer(), ("Content-Length", "1000")]))
        sent = 0
        while not is_closed_or_answered(connection):
            # Sends about ten bytes a second, so the whole body would take more than a minute.
            connection.send(b"x")
            sent += 1
            assert sent < 1000
        connection.socket.setblocking(True)
        reply = connection.reply("POST")
    assert (reply.status, reply.value("X-Gateway-Error")) == (400, "bad_request")
    assert upstream.requests == []
    assert gateway.wait_for_log(lambda line: line["status"] == 400)["error"] == "client_disconnected"


def is_closed_or_answered(connection: Connection) -> bool:
    connection.socket.settimeout(0.1)
    try:
        connection.socket.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return False
    return True


def limit(pid: int, what: int, most: int) -> None:
    _, hard = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (most, hard))


class TestExhaustion:
    """A worker that has no more descriptors or memory."""

    def test_no_descriptor_for_accepting(self, start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
        gateway = start_gateway(four_services(upstream.url) | {"server": {"keepalive_seconds": 600}}, workers=1)
        assert gateway.get("/api/devices", bearer()).status == 200
        [worker] = gateway.worker_pids()
        limit(worker, resource.RLIMIT_NOFILE, 64)
        with crowd(gateway.port, 200):
            # Waiting connections are evicted, so that these requests are served.
            for _ in range(20):
                assert gateway.get("/api/devices", bearer()).status == 200
        assert "has run out of a resource: Too many open files" in gateway.output()
        assert gateway.output().count("has run out of a resource") < 5
        assert "Traceback" not in gateway.output()
        assert gateway.worker_pids() == [worker]

    def test_no_descriptor_for_connecting(self, start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
        gateway = start_gateway(
            {"services": {"devices": {"targets": [upstream.url], "breaker": {"failures": 1}}}}, workers=1
        )
        with Connection(gateway.port) as connection:
            connection.send(request_bytes("GET", "/healthz"))
            assert connection.reply().status == 200
            [worker] = gateway.worker_pids()
            used = {int(name) for name in descriptors(worker)}
            soft, _ = resource.prlimit(worker, resource.RLIMIT_NOFILE)
            # The system assigns the lowest free descriptor to the next file. The limit forbids this one.
            limit(worker, resource.RLIMIT_NOFILE, min(set(range(len(used) + 1)) - used))
            connection.send(request_bytes("GET", "/api/devices", [bearer()]))
            reply = connection.reply()
            assert (reply.status, reply.value("X-Gateway-Error")) == (503, "overloaded")
            # The exhaustion is not counted as a failure of the service: its breaker is closed.
            limit(worker, resource.RLIMIT_NOFILE, soft)
            connection.send(request_bytes("GET", "/api/devices", [bearer()]))
            assert connection.reply().status == 200
        assert "has run out of a resource: Too many open files" in gateway.output()

    def test_a_worker_over_its_memory_limit_is_replaced(
        self, start_gateway: StartGateway, upstream: ScriptedUpstream
    ) -> None:
        # The limit is lower than the memory that any worker needs, so each worker is replaced.
        gateway = start_gateway(four_services(upstream.url) | {"server": {"max_worker_memory_mib": 64}})
        gateway.wait_until(lambda: gateway.output().count("Booting worker") >= 4, "replace its workers")
        assert "MiB of memory and makes room for a new one" in gateway.output()
        assert gateway.get("/api/devices", bearer()).status == 200

    def test_a_worker_without_memory_is_replaced(self, start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
        settings = {"graceful_timeout_seconds": 2}
        gateway = start_gateway(four_services(upstream.url) | {"server": settings}, workers=1)
        assert gateway.get("/api/devices", bearer()).status == 200
        [worker] = gateway.worker_pids()
        pages = int(Path(f"/proc/{worker}/statm").read_text().split()[0])
        limit(worker, resource.RLIMIT_AS, pages * resource.getpagesize())
        most_of_a_body = request_bytes("POST", "/api/devices", [bearer(), ("Content-Length", "65536")]) + bytes(65000)

        def has_been_replaced() -> bool:
            with suppress(OSError), crowd(gateway.port, 50, most_of_a_body):
                gateway.pause()
            return worker not in gateway.worker_pids()

        gateway.wait_until(has_been_replaced, "replace its worker")
        assert "has run out of a resource: out of memory" in gateway.output()
        gateway.wait_until(lambda: len(gateway.worker_pids()) == 1, "start another")
        assert gateway.get("/api/devices", bearer()).status == 200


def descriptors(pid: int) -> list[str]:
    return os.listdir(f"/proc/{pid}/fd")
