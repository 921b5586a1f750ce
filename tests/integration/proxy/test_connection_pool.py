"""Idle connections to services: which request may use them, what comes on them, and when they are closed."""

from __future__ import annotations

import resource
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ServiceSettings
from gateway.errors import UpstreamConnectError, UpstreamConnectionStale, UpstreamProtocolError
from gateway.proxy.connection_pool import FRESH_SECONDS, QUARANTINE_SECONDS, UpstreamConnectionPool
from gateway.proxy.http1 import ResponseHead
from gateway.proxy.round_trip import UpstreamRequest, round_trip
from gateway.proxy.target import Target
from gateway.proxy.timeouts import Timeouts
from tests.support.certificates import Authority
from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess
from tests.support.upstream import OK, Received, ScriptedUpstream

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
NONE = b"HTTP/1.1 204 No Content\r\n"
UNCHANGED = b"HTTP/1.1 304 Not Modified\r\n"
STRAY_BYTES = [b"abcd", b"\r\n", b"0\r\n\r\n", b"HTTP/2", b"HTTX/1.1 200 OK\r\n\r\n"]
# Which begin as an answer does.
STRAY_BEGINNINGS = [b"HTTP/1.1 ", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX"]


class Gateway:
    """The gateway's side of a service, in this process. `now` is the clock of its idle connections."""

    def __init__(self, upstream: ScriptedUpstream, ca_file: Path | None) -> None:
        self.now = 1000.0
        self.target = Target.parse(upstream.url)
        self._settings = ServiceSettings(prefix="/x", targets=(upstream.url,), ca_file=ca_file)
        self.set_idle_seconds(60)

    def set_idle_seconds(self, seconds: float) -> None:
        """Starts a new pool, whose connections may be idle for so long."""
        settings = self._settings.model_copy(update={"keepalive_idle_seconds": seconds})
        self.pool = UpstreamConnectionPool(settings, "x", lambda: self.now)

    def ask(
        self, method: str, path: str, content: bytes = b"", client: socket.socket | None = None
    ) -> tuple[int, bytes]:
        def send_interim(_: ResponseHead, client: socket.socket | None = client) -> None:
            """Holds on to the client, as that of a request does."""

        fields = [("Host", "x"), ("Content-Length", str(len(content)))]
        limits = Timeouts(5, 5, 5)
        request = UpstreamRequest(method, self.target, path, fields, content, limits, client, send_interim)
        head, body = round_trip(self.pool, request)
        return head.status, b"".join(body)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls_upstream(authority: Authority) -> Iterator[ScriptedUpstream]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("good", "127.0.0.1"))
    upstream = ScriptedUpstream(context)
    yield upstream
    upstream.close()


@pytest.fixture(params=["plain", "tls"])
def service(
    request: pytest.FixtureRequest, upstream: ScriptedUpstream, tls_upstream: ScriptedUpstream
) -> ScriptedUpstream:
    tls_upstream.reset()
    return upstream if request.param == "plain" else tls_upstream


@pytest.fixture
def ours(service: ScriptedUpstream, authority: Authority) -> Iterator[Gateway]:
    gateway = Gateway(service, authority.ca_file if service.url.startswith("https") else None)
    yield gateway
    gateway.pool.close_idle()


def then_late(first: bytes, late: bytes) -> Callable[[Received, socket.socket], bool]:
    """Answers with `first`; the bytes that are late come when the connection is used again."""
    used: set[int] = set()

    def script(received: Received, connection: socket.socket) -> bool:
        if received.target == "/first":
            used.add(received.connection)
            connection.sendall(first)
        elif received.connection in used:
            connection.sendall(late + OK)
        else:
            connection.sendall(OK)
        return True

    return script


class TestContentThatCannotBeThere:
    @pytest.mark.parametrize("late", [b"abcd", POISON], ids=["bytes", "an answer"])
    @pytest.mark.parametrize(
        "first",
        [
            NONE + b"Content-Length: 4\r\n\r\n",
            NONE + b"Transfer-Encoding: chunked\r\n\r\n",
            UNCHANGED + b"Transfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\n" + NONE + b"\r\n",
            b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n" + NONE + b"\r\n",
        ],
    )
    def test_a_connection_on_which_it_is_announced_is_not_used_again(
        self, service: ScriptedUpstream, ours: Gateway, first: bytes, late: bytes
    ) -> None:
        service.script = then_late(first, late)
        assert ours.ask("GET", "/first")[1] == b""
        assert ours.pool.idle_count(ours.target) == 0
        assert ours.ask("GET", "/next") == (200, b'{"ok":true}')

    @pytest.mark.parametrize("late", [b"abcd", POISON], ids=["bytes", "an answer"])
    @pytest.mark.parametrize(
        ("method", "first"),
        [
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
            ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
            ("GET", UNCHANGED + b"Content-Length: 4\r\n\r\n"),
            ("GET", UNCHANGED + b"\r\n"),
        ],
    )
    def test_a_connection_rests_where_it_may_still_come(
        self, service: ScriptedUpstream, ours: Gateway, method: str, first: bytes, late: bytes
    ) -> None:
        service.script = then_late(first, late)
        ours.ask(method, "/first")
        ours.now += QUARANTINE_SECONDS * 0.99
        assert ours.ask("GET", "/next") == (200, b'{"ok":true}')
        assert len({request.connection for request in service.requests}) == 2

    def test_a_connection_that_has_rested_is_used_again(self, service: ScriptedUpstream, ours: Gateway) -> None:
        service.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        for _ in range(3):
            ours.ask("HEAD", "/first")
            ours.now += QUARANTINE_SECONDS
        assert len({request.connection for request in service.requests}) == 1

    def test_what_comes_while_it_rests_answers_nobody(self, service: ScriptedUpstream, ours: Gateway) -> None:
        connections: list[socket.socket] = []

        def script(received: Received, connection: socket.socket) -> bool:
            connections.append(connection)
            connection.sendall(UNCHANGED + b"\r\n" if received.target == "/first" else OK)
            return True

        service.script = script
        ours.ask("GET", "/first")
        connections[0].sendall(POISON)
        ours.now += QUARANTINE_SECONDS
        assert ours.ask("GET", "/next") == (200, b'{"ok":true}')
        assert len({request.connection for request in service.requests}) == 2

    @pytest.mark.parametrize("first", [NONE + b"\r\n", NONE + b"Content-Length: 0\r\n\r\n"])
    def test_an_answer_that_announces_none_costs_no_connection(
        self, service: ScriptedUpstream, ours: Gateway, first: bytes
    ) -> None:
        service.answers(first)
        for _ in range(3):
            assert ours.ask("DELETE", "/first") == (204, b"")
        assert len({request.connection for request in service.requests}) == 1


class TestBytesThatBelongToNoRequest:
    """A service sends bytes of an earlier answer when it has got the next request already."""

    @pytest.mark.parametrize("late", STRAY_BYTES + STRAY_BEGINNINGS)
    def test_a_request_that_may_happen_twice_is_sent_again(
        self, service: ScriptedUpstream, ours: Gateway, late: bytes
    ) -> None:
        service.script = then_late(OK, late)
        ours.ask("GET", "/first")
        assert ours.ask("GET", "/next") == (200, b'{"ok":true}')
        assert [request.target for request in service.requests] == ["/first", "/next", "/next"]

    @pytest.mark.parametrize("late", STRAY_BYTES)
    def test_any_other_fails_without_blame_for_the_service(
        self, service: ScriptedUpstream, ours: Gateway, late: bytes
    ) -> None:
        service.script = then_late(OK, late)
        ours.ask("GET", "/first")
        with pytest.raises(UpstreamConnectionStale):
            ours.ask("POST", "/next")
        assert [request.target for request in service.requests] == ["/first", "/next"]

    def test_malformed_answers_of_a_service_are_its_fault_after_the_second(
        self, service: ScriptedUpstream, ours: Gateway
    ) -> None:
        ours.ask("GET", "/first")
        service.answers(b"HTTP/1.1 200 OK\r\nX-A\r\n\r\n")
        with pytest.raises(UpstreamProtocolError):
            ours.ask("GET", "/next")
        assert len(service.requests) == 3

    def test_on_a_new_connection_they_are_the_services_fault(self, service: ScriptedUpstream, ours: Gateway) -> None:
        service.answers(b"abcd")
        with pytest.raises(UpstreamProtocolError):
            ours.ask("GET", "/first")
        assert len(service.requests) == 1


class TestRequestsThatCannotBeRepeated:
    def test_they_use_connections_that_were_used_a_moment_ago(self, service: ScriptedUpstream, ours: Gateway) -> None:
        for _ in range(3):
            ours.ask("POST", "/", b"x")
            ours.now += FRESH_SECONDS
        assert len({request.connection for request in service.requests}) == 1

    def test_they_use_no_others(self, service: ScriptedUpstream, ours: Gateway) -> None:
        for method in ("POST", "POST", "PATCH", "GET"):
            ours.ask(method, "/", b"x")
            ours.now += FRESH_SECONDS + 0.01
        # Those are still there for requests that can be repeated.
        assert [request.connection for request in service.requests][3] == service.requests[2].connection
        assert len({request.connection for request in service.requests}) == 3

    def test_the_end_of_an_idle_connection_under_one_is_not_the_services_failure(
        self, service: ScriptedUpstream, ours: Gateway
    ) -> None:
        def script(received: Received, connection: socket.socket) -> bool:
            connection.sendall(OK if received.target == "/first" else b"")
            return received.target == "/first"

        service.script = script
        ours.ask("POST", "/first")
        with pytest.raises(UpstreamConnectionStale):
            ours.ask("POST", "/next")

    @pytest.mark.parametrize("service_seconds", [5.0, 2.0], ids=["uvicorn", "gunicorn"])
    def test_by_default_none_meets_a_service_that_closes_idle_connections(
        self, service: ScriptedUpstream, ours: Gateway, service_seconds: float
    ) -> None:
        """It closes at the moment at which the request arrives, whenever it may."""
        used: dict[int, float] = {}

        def script(received: Received, connection: socket.socket) -> bool:
            if ours.now - used.get(received.connection, ours.now) > service_seconds - 0.1:
                return False
            used[received.connection] = ours.now
            connection.sendall(OK)
            return True

        service.script = script
        ours.set_idle_seconds(ServiceSettings.model_fields["keepalive_idle_seconds"].default)
        for number in range(60):
            assert ours.ask("POST", "/", b"x")[0] == 200
            ours.now += number / 10

    def test_the_end_of_a_new_connection_is(self, service: ScriptedUpstream, ours: Gateway) -> None:
        service.answers(b"", keep=False)
        with pytest.raises(UpstreamConnectError) as caught:
            ours.ask("POST", "/first")
        assert not isinstance(caught.value, UpstreamConnectionStale)

    def test_an_end_in_the_middle_of_a_head_is(self, service: ScriptedUpstream, ours: Gateway) -> None:
        def script(received: Received, connection: socket.socket) -> bool:
            connection.sendall(OK if received.target == "/first" else b"HTTP/1.1 2")
            return received.target == "/first"

        service.script = script
        ours.ask("POST", "/first")
        with pytest.raises(UpstreamConnectError) as caught:
            ours.ask("POST", "/next")
        assert not isinstance(caught.value, UpstreamConnectionStale)


def test_an_idle_connection_holds_nothing_of_the_client(service: ScriptedUpstream, ours: Gateway) -> None:
    client, other = socket.socketpair()
    with client, other:
        held = weakref.ref(client)
        ours.ask("GET", "/", client=client)
    del client
    assert ours.pool.idle_count(ours.target) == 1
    assert held() is None


class TestTime:
    @pytest.mark.parametrize(
        ("field", "seconds"),
        [
            (b"X: y", 60),
            (b"Keep-Alive: timeout=5", 4),
            (b"Keep-Alive: max=100, timeout=5", 4),
            (b'keep-alive: Timeout = "2"', 1),
            (b"Keep-Alive: timeout=1", 0.5),
            (b"Keep-Alive: timeout=1000", 60),
            (b"Keep-Alive: notimeout=5", 60),
            (b"Keep-Alive: timeout=x", 60),
        ],
    )
    def test_a_connection_is_used_until_its_time_is_over(
        self, service: ScriptedUpstream, ours: Gateway, field: bytes, seconds: float
    ) -> None:
        service.answers(OK.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n\r\n", 1))
        for _ in range(2):
            ours.ask("GET", "/")
            ours.now += seconds - 0.01
        ours.ask("GET", "/")
        ours.now += seconds
        ours.ask("GET", "/")
        numbers = [request.connection for request in service.requests]
        assert numbers[0] == numbers[1] == numbers[2] != numbers[3]

    def test_one_that_a_service_does_not_keep_is_not_kept(self, service: ScriptedUpstream, ours: Gateway) -> None:
        service.answers(OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=0\r\n\r\n", 1))
        ours.ask("GET", "/")
        assert ours.pool.idle_count(ours.target) == 0

    def test_it_is_closed_without_traffic(self, service: ScriptedUpstream, ours: Gateway) -> None:
        ours.ask("GET", "/")
        ours.pool.close_expired()
        assert ours.pool.idle_count(ours.target) == 1
        ours.now += 60
        # Nobody asks: the background thread of this process does it.
        number = service.requests[0].connection
        assert service.wait_until(lambda: number in service.closed_connections)
        assert ours.pool.idle_count(ours.target) == 0

    def test_what_the_service_closes_is_closed_here_too(self, service: ScriptedUpstream, ours: Gateway) -> None:
        service.answers(OK, keep=False)
        ours.ask("GET", "/")
        number = service.requests[0].connection
        assert service.wait_until(lambda: number in service.closed_connections)
        deadline = threading.Event()
        for _ in range(200):
            if not ours.pool.idle_count(ours.target):
                break
            deadline.wait(0.05)
        assert ours.pool.idle_count(ours.target) == 0


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    def service(prefix: str, **more: Any) -> dict[str, Any]:
        return {"prefix": prefix, "targets": [module_upstream.url], "auth": "none", **more}

    return start_gateway(
        {
            "default_services": False,
            "services": {
                "fragile": service("/fragile", breaker={"failures": 1, "open_seconds": 60, "max_open_seconds": 60}),
                "brief": service("/brief", keepalive_idle_seconds=0.02),
                "lasting": service("/lasting", keepalive_idle_seconds=3600),
            },
        },
        workers=1,
    )


class TestTheGateway:
    def test_the_end_of_an_idle_connection_opens_no_breaker(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        seen: set[int] = set()

        def script(received: Received, connection: socket.socket) -> bool:
            if received.connection in seen:
                return False
            seen.add(received.connection)
            connection.sendall(OK)
            return True

        upstream.script = script
        statuses = [gateway.request("POST", "/fragile", [], b"x").status for _ in range(6)]
        assert 502 in statuses
        assert set(statuses) <= {200, 502}
        line = gateway.wait_for_log(lambda line: line["status"] == 502)
        assert [one["outcome"] for one in line["attempts"]] == ["stale connection"]

    def test_idle_connections_are_given_back_where_descriptors_run_out(
        self, gateway: GatewayProcess, upstream: ScriptedUpstream
    ) -> None:
        together = threading.Barrier(10)

        def all_at_once(_: Received, connection: socket.socket) -> bool:
            together.wait(15)
            connection.sendall(OK)
            return True

        upstream.script = all_at_once
        clients = [Connection(gateway.port) for _ in range(10)]
        for client in clients:
            client.send(request_bytes("GET", "/lasting"))
        assert [client.reply().status for client in clients] == [200] * 10
        upstream.reset()
        (pid,) = gateway.worker_pids()
        open_now = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now, before[1]))
            # Another service, so none of the idle connections is one for it.
            clients[0].send(request_bytes("GET", "/brief"))
            assert clients[0].reply().status == 200
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        for client in clients:
            client.socket.close()
        assert upstream.wait_until(lambda: len(upstream.closed_connections) >= 10)
