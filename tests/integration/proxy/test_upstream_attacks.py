"""Services send arbitrary bytes on reused connections. Each request must get its own response or an error."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import ServiceSettings
from gateway.document_fetch import FetchError, url_fetcher
from gateway.errors import StreamAborted, UpstreamError
from gateway.proxy.connection_pool import UpstreamConnectionPool
from gateway.proxy.round_trip import UpstreamRequest, round_trip
from gateway.proxy.target import Target
from gateway.proxy.timeouts import Timeouts
from tests.support.certificates import Authority
from tests.support.upstream import Received, ScriptedUpstream

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


def ca_file_for(service: ScriptedUpstream, authority: Authority) -> Path | None:
    return authority.ca_file if service.url.startswith("https") else None


def pool_for(service: ScriptedUpstream, authority: Authority) -> UpstreamConnectionPool:
    ca_file = ca_file_for(service, authority)
    return UpstreamConnectionPool(ServiceSettings(prefix="/x", targets=(service.url,), ca_file=ca_file), "x")


def send(pool: UpstreamConnectionPool, service: ScriptedUpstream, method: str, path: str) -> tuple[int, bytes] | None:
    """Sends a request. Returns status and body of the response, or None if it is incomplete."""
    request = UpstreamRequest(method, Target.parse(service.url), path, [("Host", "x")], b"", Timeouts(5, 5, 5))
    try:
        head, body = round_trip(pool, request)
        return head.status, b"".join(body)
    except (UpstreamError, StreamAborted):
        return None


@dataclass
class Step:
    """A request, and all bytes that the service sends before it reads the next request."""

    method: str
    status: int
    framing: str
    interim: Sequence[bytes]
    stray: bytes

    def response(self, path: bytes) -> bytes:
        body = b"for " + path
        head = b"".join(self.interim) + b"HTTP/1.1 %d X\r\n" % self.status
        if self.framing == "length":
            head += b"Content-Length: %d\r\n" % len(body)
        elif self.framing == "chunked":
            head += b"Transfer-Encoding: chunked\r\n"
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        elif self.framing == "none":
            head += b"Content-Length: 0\r\n"
            body = b""
        has_body = self.method != "HEAD" and self.status not in (204, 304)
        return head + b"\r\n" + (body if has_body else b"") + self.stray


STEPS = st.builds(
    Step,
    method=st.sampled_from(["GET", "HEAD", "POST", "DELETE"]),
    status=st.sampled_from([200, 204, 205, 304, 404]),
    framing=st.sampled_from(["length", "chunked", "none"]),
    interim=st.lists(
        st.sampled_from(
            [
                b"HTTP/1.1 103 X\r\nLink: </x>\r\n\r\n",
                b"HTTP/1.1 102 X\r\n\r\n",
                b"HTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\n",
            ]
        ),
        max_size=2,
    ),
    stray=st.one_of(
        st.sampled_from([b"", b"", b"", POISON, b"HTTP/1.1 103 X\r\n\r\n", b"\r\n", b"HTTP/1.1 ", b"0\r\n\r\n"]),
        st.binary(max_size=20),
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(STEPS, min_size=2, max_size=6))
def test_no_request_receives_bytes_of_another_response(
    service: ScriptedUpstream, authority: Authority, steps: list[Step]
) -> None:
    def script(received: Received, connection: socket.socket) -> bool:
        connection.sendall(steps[int(received.target[1:])].response(received.target.encode()))
        return True

    service.script = script
    pool = pool_for(service, authority)
    for number, step in enumerate(steps):
        response = send(pool, service, step.method, f"/{number}")
        has_body = step.method != "HEAD" and step.status not in (204, 304) and step.framing != "none"
        # A repeatable request gets its response even if the previous step left an unusable connection in the pool.
        assert response in [(step.status, b"for /%d" % number if has_body else b""), None]
        assert response is not None or step.method == "POST"
    pool.close_idle()


HEAD = b"HTTP/1.1 200 OK\r\n"
WHOLE = {
    "length": HEAD + b"Content-Length: 5\r\n\r\nwhole",
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n2\r\nle\r\n0\r\nX-A: 1\r\n\r\n",
    "until the end": HEAD + b"\r\nwhole",
}


@pytest.mark.parametrize("end", ["orderly", "reset"])
@pytest.mark.parametrize("framing", WHOLE)
def test_a_response_that_ends_at_any_byte_is_complete_or_an_error(
    service: ScriptedUpstream, authority: Authority, framing: str, end: str
) -> None:
    whole = WHOLE[framing]

    def script(received: Received, connection: socket.socket) -> bool:
        connection.sendall(whole[: int(received.target[1:])])
        if end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif isinstance(connection, ssl.SSLSocket):
            connection.unwrap()
        return False

    service.script = script
    pool = pool_for(service, authority)
    for length in range(len(whole) + 1):
        response = send(pool, service, "GET", f"/{length}")
        if framing == "until the end" and end == "orderly" and length >= len(HEAD) + 2:
            assert response == (200, whole[len(HEAD) + 2 : length])
        elif framing != "until the end" and end == "orderly" and length == len(whole):
            assert response == (200, b"whole")
        else:
            # A reset may discard the bytes that the service sent before it.
            assert response is None or (
                framing != "until the end" and length == len(whole) and response == (200, b"whole")
            )
    pool.close_idle()


@pytest.mark.parametrize("end", ["orderly", "cut"])
def test_a_truncated_document_is_an_error(service: ScriptedUpstream, authority: Authority, end: str) -> None:
    def script(_: Received, connection: socket.socket) -> bool:
        connection.sendall(WHOLE["until the end"])
        if end == "orderly" and isinstance(connection, ssl.SSLSocket):
            connection.unwrap()
        elif end == "cut" and isinstance(connection, ssl.SSLSocket):
            # Ends TCP without close_notify, as anyone on the network path can do.
            connection.shutdown(socket.SHUT_WR)
        elif end == "cut":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    service.script = script
    fetcher = url_fetcher(service.url + "/jwks.json", "jwt.jwks_ca_file", 1000, ca_file_for(service, authority))
    if end == "orderly":
        assert fetcher.fetch().content == b"whole"
    else:
        with pytest.raises(FetchError):
            fetcher.fetch()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=300), prefix=st.sampled_from([b"", b"HTTP/1.1 ", HEAD, HEAD + b"Content-Length: "]))
def test_any_bytes_are_a_response_or_an_error(
    service: ScriptedUpstream, authority: Authority, data: bytes, prefix: bytes
) -> None:
    """The service sends any bytes for the first request. The next request must get its own response."""

    def script(received: Received, connection: socket.socket) -> bool:
        connection.sendall(prefix + data if received.target == "/first" else WHOLE["length"])
        return received.target != "/first"

    service.script = script
    pool = pool_for(service, authority)
    for _ in range(2):
        send(pool, service, "GET", "/first")
        assert send(pool, service, "GET", "/next") == (200, b"whole")
    pool.close_idle()
