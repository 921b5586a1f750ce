"""Streamed responses are forwarded at once. The gateway never completes a response that the upstream has not completed.
It ends the upstream connection when the client leaves."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

import pytest

from tests.support.client import Connection, read_until, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
UNFRAMED = b"HTTP/1.1 200 OK\r\n\r\n"
GET = request_bytes("GET", "/api/devices", [bearer()])


def reset(connection: socket.socket) -> bool:
    """Makes the system send a reset when the upstream closes the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


@pytest.mark.parametrize(
    ("head", "event"),
    [
        (CHUNKED, b"f\r\ndata: first\r\n\r\n\r\n"),
        # The CRLF after this chunk is still missing, but its data must be forwarded.
        (CHUNKED, b"f\r\ndata: first\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"data: first\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"data: first\r\n\r\n"),
    ],
)
def test_an_event_reaches_the_client_while_the_upstream_is_still_open(
    gateway: GatewayProcess, upstream: ScriptedUpstream, head: bytes, event: bytes
) -> None:
    seen = threading.Event()

    def stream(_: Received, connection: socket.socket) -> bool:
        connection.sendall(head + event)
        # If the gateway held the event back, the client's read would time out.
        return seen.wait(15) and False

    upstream.script = stream
    with Connection(gateway.port) as connection:
        connection.send(GET)
        assert b"data: first" in read_until(connection.socket, b"data: first")
        seen.set()


@pytest.mark.parametrize("head", [CHUNKED, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"])
def test_the_head_of_a_silent_stream_reaches_the_client_before_its_first_event(
    gateway: GatewayProcess, upstream: ScriptedUpstream, head: bytes
) -> None:
    seen = threading.Event()

    def stay_silent(_: Received, connection: socket.socket) -> bool:
        connection.sendall(head)
        return seen.wait(15) and False

    upstream.script = stay_silent
    with Connection(gateway.port) as connection:
        connection.send(GET)
        assert read_until(connection.socket, b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
        seen.set()


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
        CHUNKED + b"4\r\npart\r\n",
        CHUNKED + b"4\r\npart\r\nzz\r\nmore\r\n0\r\n\r\n",
        CHUNKED + b"4\r\npartXX4\r\nmore\r\n0\r\n\r\n",
        CHUNKED + b"8\r\npart",
    ],
)
def test_a_response_truncated_after_its_head_is_truncated_for_the_client(
    gateway: GatewayProcess, upstream: ScriptedUpstream, response: bytes
) -> None:
    upstream.answers(response, keep=False)
    with Connection(gateway.port) as connection:
        connection.send(GET)
        data = connection.rest()
    assert b"part" in data
    assert not data.endswith(b"0\r\n\r\n")
    assert b"more" not in data
    assert gateway.wait_for_log(lambda line: line["error"] == "upstream_aborted")["status"] == 200


def test_a_response_without_length_that_ends_with_a_reset_is_truncated(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    seen = threading.Event()

    def truncate(_: Received, connection: socket.socket) -> bool:
        connection.sendall(UNFRAMED + b"part")
        return seen.wait(15) and reset(connection)

    upstream.script = truncate
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/devices/reset", [bearer()]))
        data = read_until(connection.socket, b"part\r\n")
        seen.set()
        assert not (data + connection.rest()).endswith(b"0\r\n\r\n")
    line = gateway.wait_for_log(lambda line: line["path"] == "/api/devices/reset")
    assert (line["status"], line["error"]) == (200, "upstream_aborted")


@pytest.mark.parametrize(
    ("head", "part", "is_reset"),
    [
        (CHUNKED, b"4\r\npart\r\n", False),
        (CHUNKED, b"4\r\npart\r\n", True),
        # Without a reset, the head alone would look like a complete empty document.
        (CHUNKED, b"", False),
        (UNFRAMED, b"part", True),
        (UNFRAMED, b"", True),
    ],
)
def test_a_client_of_http_1_0_gets_a_reset_instead_of_an_orderly_end(
    gateway: GatewayProcess, upstream: ScriptedUpstream, head: bytes, part: bytes, is_reset: bool
) -> None:
    seen = threading.Event()

    def truncate(_: Received, connection: socket.socket) -> bool:
        connection.sendall(head + part)
        seen.wait(15)
        return reset(connection) if is_reset else False

    upstream.script = truncate
    with Connection(gateway.port) as connection:
        connection.send(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        read_until(connection.socket, b"part" if part else b"\r\n\r\n")
        seen.set()
        with pytest.raises(ConnectionResetError):
            read_until(connection.socket, b"never comes")


def test_a_response_that_ends_before_its_body_is_a_502(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", keep=False)
    reply = gateway.get("/api/devices", bearer())
    assert (reply.status, reply.value("X-Gateway-Error")) == (502, "upstream_protocol")


class TestClientLeaves:
    """If the client leaves, the gateway closes the upstream connection."""

    def hang_after(self, upstream: ScriptedUpstream, data: bytes) -> threading.Event:
        ended = threading.Event()

        def hang(_: Received, connection: socket.socket) -> bool:
            connection.sendall(data)
            connection.settimeout(15)
            if connection.recv(1) == b"":
                ended.set()
            return False

        upstream.script = hang
        return ended

    def test_while_it_waits_for_the_head(self, gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
        ended = self.hang_after(upstream, b"")
        with Connection(gateway.port) as connection:
            connection.send(GET)
            assert upstream.wait_until(lambda: bool(upstream.requests))
        assert ended.wait(10)
        assert gateway.wait_for_log(lambda line: line["error"] == "client_disconnected")

    def test_while_a_stream_is_silent(self, gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
        ended = self.hang_after(upstream, CHUNKED + b"4\r\npart\r\n")
        with Connection(gateway.port) as connection:
            connection.send(GET)
            read_until(connection.socket, b"part")
        assert ended.wait(10)

    def test_by_a_reset(self, gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
        ended = self.hang_after(upstream, CHUNKED + b"4\r\npart\r\n")
        with Connection(gateway.port) as connection:
            connection.send(GET)
            read_until(connection.socket, b"part")
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert ended.wait(10)

    def test_a_pipelined_request_does_not_count_as_leaving(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        release = threading.Event()

        def late(request: Received, connection: socket.socket) -> bool:
            if len(upstream.requests) == 1:
                release.wait(15)
            connection.sendall(OK)
            return True

        upstream.script = late
        with Connection(gateway.port) as connection:
            connection.send(GET)
            assert upstream.wait_until(lambda: bool(upstream.requests))
            connection.send(GET)
            release.set()
            data = b""
            while data.count(b'{"ok":true}') < 2:
                data += connection.socket.recv(65536)
        assert len(upstream.requests) == 2


@pytest.fixture(scope="module")
def impatient(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway with read timeouts of 1 s, one worker, and an in-flight limit of 2 for devices."""
    services = four_services(module_upstream.url)
    for service in services["services"].values():
        service["read_timeout_seconds"] = 1
    services["services"]["devices"]["max_in_flight"] = 2
    services["services"]["rules"]["targets"] = ["http://127.0.0.1:1"]
    services["services"]["auth"]["targets"] = ["http://does-not-exist.invalid"]
    return start_gateway(services, workers=1)


class TestSlowUpstreams:
    """Timeouts of slow services. In-flight limits keep slow services from affecting others."""

    def test_an_upstream_that_never_responds_is_a_504(
        self, impatient: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        silence = threading.Event()
        upstream.script = lambda *_: silence.wait(15) and False
        reply = impatient.get("/api/livestreams", bearer())
        silence.set()
        assert (reply.status, reply.value("X-Gateway-Error")) == (504, "upstream_timeout")

    def test_a_head_sent_one_byte_at_a_time_is_a_504(
        self, impatient: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        silence = threading.Event()

        def send_byte_by_byte(_request: Received, connection: socket.socket) -> bool:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-A: ")
            for _ in range(100):
                connection.sendall(b"a")
                if silence.wait(0.1):
                    break
            return False

        upstream.script = send_byte_by_byte
        reply = impatient.get("/api/livestreams", bearer())
        silence.set()
        assert (reply.status, reply.value("X-Gateway-Error")) == (504, "upstream_timeout")

    def test_an_upstream_that_stops_within_its_body_truncates_the_response(
        self, impatient: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        silence = threading.Event()

        def stop(_: Received, connection: socket.socket) -> bool:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
            return silence.wait(15) and False

        upstream.script = stop
        with Connection(impatient.port) as connection:
            connection.send(request_bytes("GET", "/api/livestreams", [bearer()]))
            assert connection.rest().endswith(b"\r\n\r\npart")
        silence.set()

    @pytest.mark.parametrize("path", ["/api/rules", "/api/auth/me"])
    def test_an_unreachable_upstream_is_a_502(self, impatient: GatewayProcess, path: str) -> None:
        reply = impatient.get(path, bearer())
        assert (reply.status, reply.value("X-Gateway-Error")) == (502, "upstream_unreachable")
        assert b"127.0.0.1" not in reply.body
        assert b"invalid" not in reply.body

    def test_an_upstream_that_hangs_fills_its_own_slots_only(
        self, impatient: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        release = threading.Event()
        upstream.at["/api/devices"] = lambda *_: release.wait(15) and False
        with Connection(impatient.port) as one, Connection(impatient.port) as two:
            one.send(GET)
            two.send(GET)
            assert upstream.wait_until(lambda: len(upstream.requests) == 2)
            refused = impatient.get("/api/devices", bearer())
            assert (refused.status, refused.value("X-Gateway-Error")) == (503, "overloaded")
            assert refused.value("Retry-After") == "1"
            assert impatient.get("/api/livestreams", bearer()).status == 200
            assert [one.reply().status, two.reply().status] == [504, 504]
        release.set()
        del upstream.at["/api/devices"]
        assert impatient.get("/api/devices", bearer()).status == 200
