"""Services with TLS: their certificates are verified, and the gateway presents its client certificate."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess
from tests.support.tokens import bearer
from tests.support.upstream import Received, ScriptedUpstream


def server_context(
    authority: Authority, certificate: tuple[Path, Path], *, needs_client_certificate: bool = False
) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    if needs_client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.ca_file)
    return context


@pytest.fixture(scope="module")
def upstreams(authority: Authority) -> Iterator[dict[str, ScriptedUpstream]]:
    good = authority.issue("good", "127.0.0.1", "localhost")
    started = {
        "good": ScriptedUpstream(server_context(authority, good)),
        "needs certificate": ScriptedUpstream(server_context(authority, good, needs_client_certificate=True)),
        "misnamed": ScriptedUpstream(server_context(authority, authority.issue("misnamed", "other.test"))),
    }
    yield started
    for upstream in started.values():
        upstream.close()


@pytest.fixture(scope="module")
def gateway(
    start_gateway: Callable[..., GatewayProcess], authority: Authority, upstreams: dict[str, ScriptedUpstream]
) -> GatewayProcess:
    certificate, key = authority.issue("gateway")
    private = {"ca_file": str(authority.ca_file), "auth": "none"}
    return start_gateway(
        {
            "services": {
                "good": {"prefix": "/good", "targets": [upstreams["good"].url], **private},
                "unknown": {"prefix": "/unknown", "targets": [upstreams["good"].url], "auth": "none"},
                "misnamed": {"prefix": "/misnamed", "targets": [upstreams["misnamed"].url], **private},
                "anonymous": {"prefix": "/anonymous", "targets": [upstreams["needs certificate"].url], **private},
                "known": {
                    "prefix": "/known",
                    "targets": [upstreams["needs certificate"].url],
                    "client_certificate_file": str(certificate),
                    "client_key_file": str(key),
                    **private,
                },
                "plain": {
                    "prefix": "/plain",
                    "targets": [upstreams["good"].url.replace("https", "http")],
                    "auth": "none",
                },
            }
        },
        workers=1,
    )


def test_a_service_of_a_private_authority_is_reached(
    gateway: GatewayProcess, upstreams: dict[str, ScriptedUpstream]
) -> None:
    upstreams["good"].reset()
    before = upstreams["good"].connections
    for _ in range(3):
        assert gateway.get("/good/1", bearer()).status == 200
    assert upstreams["good"].connections == before + 1
    body = b"x" * 300_000
    assert gateway.request("POST", "/good/1", [], body).status == 200
    assert upstreams["good"].requests[-1].body == body


@pytest.mark.parametrize("path", ["/unknown", "/misnamed", "/plain"])
def test_a_service_that_can_not_be_verified_receives_nothing(
    gateway: GatewayProcess, upstreams: dict[str, ScriptedUpstream], path: str
) -> None:
    for upstream in upstreams.values():
        upstream.reset()
    reply = gateway.get(path)
    assert reply.status == 502
    assert all(upstream.requests == [] for upstream in upstreams.values())


def test_a_configured_client_certificate_is_presented(
    gateway: GatewayProcess, upstreams: dict[str, ScriptedUpstream]
) -> None:
    upstreams["needs certificate"].reset()
    assert gateway.get("/known").status == 200
    assert gateway.get("/anonymous").status == 502
    assert [request.target for request in upstreams["needs certificate"].requests] == ["/known"]


@pytest.mark.parametrize("is_orderly", [True, False], ids=["close_notify", "cut"])
def test_a_response_without_length_needs_close_notify_at_its_end(
    gateway: GatewayProcess, upstreams: dict[str, ScriptedUpstream], is_orderly: bool
) -> None:
    """Anyone on the network path can end a TCP connection (RFC 9112 9.8)."""

    def until_the_end(_: Received, connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\npart")
        if is_orderly:
            assert isinstance(connection, ssl.SSLSocket)
            connection.unwrap()
        else:
            connection.shutdown(socket.SHUT_WR)
        return False

    upstreams["good"].reset()
    upstreams["good"].script = until_the_end
    for version in (b"HTTP/1.1", b"HTTP/1.0"):
        with Connection(gateway.port) as connection:
            connection.send(request_bytes("GET", f"/good/{is_orderly}").replace(b"HTTP/1.1", version))
            data, is_reset = b"", False
            try:
                # With HTTP/1.1 the last chunk ends the response; the gateway keeps the connection open for the next
                # request.
                while not data.endswith(b"0\r\n\r\n") and (piece := connection.socket.recv(65536)):
                    data += piece
            except ConnectionResetError:
                is_reset = True
        assert b"part" in data
        if version == b"HTTP/1.1":
            assert data.endswith(b"0\r\n\r\n") == is_orderly
        else:
            assert is_reset != is_orderly
    line = gateway.wait_for_log(lambda line: line["path"] == f"/good/{is_orderly}")
    assert line["error"] == (None if is_orderly else "upstream_aborted")
