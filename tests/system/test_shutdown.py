"""What clients see of a shutdown: it is announced in advance, event streams end between two events, and the gateway
does not wait longer than necessary."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from gateway.system.shutdown import GROUPS
from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream, answering

StartGateway = Callable[..., GatewayProcess]
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%X\r\n%b\r\n" % (len(data), data)


@contextmanager
def listening(gateway: GatewayProcess, until: bytes) -> Iterator[tuple[Connection, bytes]]:
    """Opens a stream and reads up to `until`. Yields the connection and the received bytes."""
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/devices", [bearer()]))
        seen = b""
        while until not in seen:
            seen += connection.socket.recv(65536)
        yield connection, seen


@pytest.fixture(scope="module")
def draining(start_gateway: StartGateway, module_upstream: ScriptedUpstream) -> GatewayProcess:
    return start_gateway(four_services(module_upstream.url) | {"server": {"drain_seconds": 3}})


def test_a_reload_does_not_announce_a_shutdown(draining: GatewayProcess) -> None:
    draining.process.send_signal(signal.SIGHUP)
    statuses = set()

    def is_reloaded() -> bool:
        statuses.add(draining.get("/readyz").status)
        return draining.output().count("Worker exiting") >= 2

    draining.wait_until(is_reloaded, "replace its workers")
    assert statuses == {200}


@pytest.mark.usefixtures("upstream")
def test_readyz_announces_the_shutdown_while_requests_are_served(draining: GatewayProcess) -> None:
    assert draining.get("/readyz").status == 200
    draining.begin_to_stop()
    draining.wait_until(lambda: draining.get("/readyz").status == 503, "say that it ends")
    assert draining.get("/readyz").json()["status"] == "ending"
    assert draining.get("/healthz").status == 200
    assert draining.get("/api/devices", bearer()).status == 200
    assert draining.stop() == 0


def test_idle_connections_do_not_delay_the_shutdown(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    patience = {"keepalive_seconds": 600, "graceful_timeout_seconds": 600}
    gateway = start_gateway(four_services(upstream.url) | {"server": patience})
    with Connection(gateway.port) as used, Connection(gateway.port):
        used.send(request_bytes("GET", "/api/devices", [bearer()]))
        assert used.reply().status == 200
        assert gateway.stop() == 0


def test_an_event_stream_ends_between_events(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    ending, halves = threading.Event(), [b"data: sec", b"ond\n\n"]

    def stream(_: Received, connection: socket.socket) -> bool:
        connection.sendall(STREAM_HEAD % b"text/event-stream; charset=utf-8" + chunk(b"data: first\n\n" + halves[0]))
        assert ending.wait(20)
        connection.sendall(chunk(halves[1]))
        # From here on the upstream sends nothing, and does not end the stream.
        return connection.recv(1) == b"x"

    upstream.script = stream
    gateway = start_gateway(four_services(upstream.url), workers=1)
    with listening(gateway, halves[0]) as (connection, begun):
        gateway.begin_to_stop()
        gateway.wait_until(lambda: "Handling signal: term" in gateway.output(), "hear it")
        ending.set()
        seen = begun + connection.rest()
    assert gateway.stop() == 0
    _, _, body = seen.partition(b"\r\n\r\n")
    assert body == chunk(b"data: first\n\ndata: sec") + chunk(b"ond\n\n") + b"0\r\n\r\n"
    assert upstream.wait_until(lambda: len(upstream.closed_connections) == upstream.connections)


class Streams:
    """Event streams of an upstream, one for each path. Each sends one event at the start, and more when the test asks
    for them."""

    def __init__(self) -> None:
        self._connections: dict[bytes, socket.socket] = {}

    def script(self, received: Received, connection: socket.socket) -> bool:
        path = received.head.split()[1]
        if b"/stream" not in path:
            return answering(OK)(received, connection)
        self._connections[path] = connection
        connection.sendall(STREAM_HEAD % b"text/event-stream" + chunk(b"data: first\n\n"))
        return connection.recv(1) == b"x"

    def send(self, number: int, event: bytes) -> None:
        self._connections[b"/api/devices/stream/%d" % number].sendall(chunk(event))

    def end(self, number: int) -> None:
        self._connections[b"/api/devices/stream/%d" % number].sendall(chunk(b""))

    @staticmethod
    def open(gateway: GatewayProcess, number: int) -> Connection:
        connection = Connection(gateway.port)
        connection.send(request_bytes("GET", f"/api/devices/stream/{number}", [bearer()]))
        read_through(connection, b"data: first\n\n")
        return connection


def read_through(connection: Connection, mark: bytes) -> None:
    seen = b""
    while mark not in seen:
        piece = connection.socket.recv(65536)
        assert piece, seen
        seen += piece


def wait_for_another_worker(gateway: GatewayProcess) -> None:
    """Waits until the first worker has been replaced and accepts no more connections."""
    gateway.wait_until(lambda: gateway.output().count("Booting worker") == 2, "start another worker")
    gateway.wait_until(lambda: gateway.get("/healthz").status == 200, "serve")


def test_a_reload_does_not_end_streams(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    streams = Streams()
    upstream.script = streams.script
    gateway = start_gateway(four_services(upstream.url), workers=1)
    with streams.open(gateway, 0) as ending, streams.open(gateway, 1) as silent:
        gateway.process.send_signal(signal.SIGHUP)
        wait_for_another_worker(gateway)
        # While the old worker is leaving, the new one serves. Another reload may replace the new one before the old one
        # has left.
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_until(lambda: gateway.output().count("Booting worker") == 3, "reload again")
        gateway.wait_until(lambda: gateway.output().count("Worker exiting") == 1, "end the second worker")
        for number, connection in enumerate((ending, silent)):
            streams.send(number, b"data: second\n\n")
            read_through(connection, b"data: second\n\n")
        streams.end(0)
        assert ending.rest() == b"0\r\n\r\n"
        # The old worker still has an open stream, but does not delay the shutdown of the gateway.
        assert gateway.stop() == 0
        assert silent.rest() == b"0\r\n\r\n"


def test_streams_end_between_events_at_the_deadline_of_a_reload(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    streams = Streams()
    upstream.script = streams.script
    gateway = start_gateway(four_services(upstream.url) | {"server": {"graceful_timeout_seconds": 2}}, workers=1)
    with streams.open(gateway, 0) as first, streams.open(gateway, 1) as second:
        gateway.process.send_signal(signal.SIGHUP)
        assert first.rest() == second.rest() == b"0\r\n\r\n"
    assert "graceful timeout" not in gateway.output()


def test_a_worker_that_retires_is_replaced_while_its_streams_continue(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    streams = Streams()
    upstream.script = streams.script
    gateway = start_gateway(four_services(upstream.url), workers=1, arguments=["--max-requests", "2"])
    with streams.open(gateway, 0) as connection:
        assert gateway.get("/healthz").status == 200
        wait_for_another_worker(gateway)
        streams.send(0, b"data: second\n\n")
        read_through(connection, b"data: second\n\n")
        streams.end(0)
        assert connection.rest() == b"0\r\n\r\n"


def test_streams_end_one_after_the_other_over_the_drain_time(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    streams = Streams()
    upstream.script = streams.script
    gateway = start_gateway(four_services(upstream.url) | {"server": {"drain_seconds": 7}}, workers=1)
    with ExitStack() as stack:
        connections = [stack.enter_context(streams.open(gateway, number)) for number in range(GROUPS)]
        gateway.begin_to_stop()
        read_through(connections[0], b"0\r\n\r\n")
        # The streams of the other groups continue, and a new stream joins one of these groups.
        late = stack.enter_context(streams.open(gateway, GROUPS))
        for number, connection in ((GROUPS - 1, connections[-1]), (GROUPS, late)):
            streams.send(number, b"data: second\n\n")
            read_through(connection, b"data: second\n\n")
        for connection in [*connections[1:], late]:
            assert connection.rest() == b"0\r\n\r\n"
    assert gateway.stop() == 0


def test_ctrl_c_ends_a_silent_event_stream_between_events(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    def stream(_: Received, connection: socket.socket) -> bool:
        connection.sendall(STREAM_HEAD % b"text/event-stream" + chunk(b"data: only\n\n"))
        return connection.recv(1) == b"x"

    upstream.script = stream
    gateway = start_gateway(four_services(upstream.url), workers=1)
    with listening(gateway, b"only") as (connection, begun):
        assert gateway.stop(signal.SIGINT) == 0
        seen = begun + connection.rest()
    assert seen.endswith(chunk(b"data: only\n\n") + b"0\r\n\r\n")
    assert [line["status"] for line in gateway.access_log()] == [200]


def test_a_connection_that_waits_at_the_deadline_gets_no_response(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    def stream(_: Received, connection: socket.socket) -> bool:
        connection.sendall(STREAM_HEAD % b"text/event-stream" + chunk(b"data: only\n\n"))
        return connection.recv(1) == b"x"

    upstream.script = stream
    # With this timeout the drain time ends before a connection that was just used counts as idle.
    gateway = start_gateway(four_services(upstream.url) | {"server": {"graceful_timeout_seconds": 1}}, workers=1)
    with listening(gateway, b"only") as (connection, begun):
        assert gateway.stop() == 0
        assert (begun + connection.rest()).endswith(chunk(b"data: only\n\n") + b"0\r\n\r\n")


def test_ctrl_c_leaves_requests_one_second(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    may_answer = threading.Event()

    def soon_or_never(received: Received, connection: socket.socket) -> bool:
        if b"/never" in received.head:
            return connection.recv(1) == b"x"
        may_answer.wait(20)
        return answering(OK)(received, connection)

    upstream.script = soon_or_never
    gateway = start_gateway(four_services(upstream.url), workers=1)
    with Connection(gateway.port) as soon, Connection(gateway.port) as never:
        soon.send(request_bytes("GET", "/api/devices/soon", [bearer()]))
        never.send(request_bytes("GET", "/api/devices/never", [bearer()]))
        assert upstream.wait_until(lambda: len(upstream.requests) == 2)
        gateway.process.send_signal(signal.SIGINT)
        gateway.wait_until(lambda: "Handling signal: int" in gateway.output(), "hear Ctrl-C")
        may_answer.set()
        assert soon.reply().status == 200
        assert never.rest() == b""
    assert gateway.stop() == 0


@pytest.mark.parametrize(
    "event", [b"data: x\r\n\r\n", b"data: " + b"x" * 100_003 + b"\n\n", b"data: " + b"x" * 777 + b"\r\r"]
)
def test_a_busy_event_stream_ends_between_events(
    start_gateway: StartGateway, upstream: ScriptedUpstream, event: bytes
) -> None:
    def stream(_: Received, connection: socket.socket) -> bool:
        connection.sendall(STREAM_HEAD % b"text/event-stream")
        while True:
            # Sends events without a pause until the gateway closes the connection.
            connection.sendall(chunk(event))

    upstream.script = stream
    gateway = start_gateway(four_services(upstream.url), workers=1)
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/devices", [bearer()]))
        connection.socket.recv(1000)
        gateway.begin_to_stop()
        seen = connection.rest()
    # The gateway may split an event into chunks of its own, so only the end is compared.
    assert seen.endswith(event[-5:] + b"\r\n0\r\n\r\n")
    assert gateway.stop() == 0


def test_a_stream_of_another_kind_is_not_ended_early(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    ending = threading.Event()

    def stream(_: Received, connection: socket.socket) -> bool:
        connection.sendall(STREAM_HEAD % b"text/plain" + chunk(b"one\n\n"))
        assert ending.wait(20)
        connection.sendall(chunk(b"two\n\n") + b"0\r\n\r\n")
        return True

    upstream.script = stream
    gateway = start_gateway(four_services(upstream.url), workers=1)
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/devices", [bearer()]))
        assert connection.socket.recv(65536)
        gateway.begin_to_stop()
        gateway.wait_until(lambda: "Handling signal: term" in gateway.output(), "hear it")
        ending.set()
        assert connection.rest().endswith(chunk(b"two\n\n") + b"0\r\n\r\n")
    assert gateway.stop() == 0


def test_a_request_beyond_the_deadline_is_cut_and_logged(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    def never_ends(received: Received, connection: socket.socket) -> bool:
        if b"/stream" in received.head:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\npart")
        return connection.recv(1) == b"x"

    upstream.script = never_ends
    gateway = start_gateway(four_services(upstream.url) | {"server": {"graceful_timeout_seconds": 2}}, workers=1)
    with Connection(gateway.port) as connection, Connection(gateway.port) as old:
        connection.send(request_bytes("GET", "/api/devices", [bearer()]))
        old.send(request_bytes("GET", "/api/devices/stream", [bearer()]).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert upstream.wait_until(lambda: len(upstream.requests) == 2)
        begun = b""
        while not begun.endswith(b"part"):
            begun += old.socket.recv(65536)
        assert gateway.stop() == 0
        assert connection.rest() == b""
        # With HTTP/1.0, a clean close would look like the end of a complete body, so the gateway sends a reset.
        with pytest.raises(ConnectionResetError):
            old.socket.recv(1)
    assert "Worker graceful timeout" in gateway.output()
