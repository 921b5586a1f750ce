"""One round trip to an upstream: sends a request and reads the head of its response.

A request that finds its idle connection closed is sent again on a new connection, if that is safe.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import UpstreamConnectError, UpstreamConnectionStale, UpstreamProtocolError
from gateway.http_fields import HeaderPairs
from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.connection_errors import ConnectionClosed
from gateway.proxy.connection_pool import UpstreamConnectionPool
from gateway.proxy.http1 import ResponseHead, request_head
from gateway.proxy.request_body import RequestBody
from gateway.proxy.response_body import ResponseBody
from gateway.proxy.response_head_reader import ResponseHeadReader
from gateway.proxy.retry import IDEMPOTENT
from gateway.proxy.target import Target
from gateway.proxy.timeouts import Timeouts
from gateway.proxy.upload import Upload
from gateway.system.shutdown import WorkerShutdown


@dataclass(slots=True)
class UpstreamRequest:
    """A request that is complete and sent as it is. `client_socket` is watched while waiting for the upstream.
    `send_interim` passes the head of an interim response on to the client."""

    method: str
    target: Target
    request_target: str
    headers: HeaderPairs
    body: bytes | RequestBody
    timeouts: Timeouts
    client_socket: socket.socket | None = None
    send_interim: Callable[[ResponseHead], None] | None = None


def round_trip(
    pool: UpstreamConnectionPool, request: UpstreamRequest, worker_shutdown: WorkerShutdown | None = None
) -> tuple[ResponseHead, ResponseBody]:
    """Sends the request and reads the response's head; the body is still to be read. `worker_shutdown` signals the
    shutdown, at which streams of server-sent events end.

    Raises UpstreamError, Overloaded or ClientDisconnected, or what the request's body raises. The connection is closed
    then, so that the upstream does not take an unfinished request for a complete one."""
    # Only an idempotent request whose body is in memory may be sent again (RFC 9110 9.2.2, RFC 9112 9.3.1).
    is_repeatable = request.method in IDEMPOTENT and isinstance(request.body, bytes)
    idle = pool.take_idle(request.target, is_repeatable=is_repeatable)
    if idle is not None:
        reader = ResponseHeadReader(idle, request.method, request.send_interim)
        try:
            return round_trip_on(pool, idle, reader, request, worker_shutdown)
        except UpstreamConnectError:
            # The service closed the idle connection at that moment, and may or may not have seen the request.
            if not is_repeatable:
                raise
        except UpstreamProtocolError:
            # The bytes received may be the rest of an earlier response.
            if not is_repeatable or reader.has_read_head:
                raise
    connection = pool.connect(request.target, request.timeouts)
    reader = ResponseHeadReader(connection, request.method, request.send_interim)
    return round_trip_on(pool, connection, reader, request, worker_shutdown)


def round_trip_on(
    pool: UpstreamConnectionPool,
    connection: UpstreamConnection,
    reader: ResponseHeadReader,
    request: UpstreamRequest,
    worker_shutdown: WorkerShutdown | None,
) -> tuple[ResponseHead, ResponseBody]:
    connection.begin_round_trip(request.client_socket, request.timeouts)
    try:
        upload = send_request(connection, request)
        head = reader.read(request.timeouts.head_seconds)
        if head.status >= 300:
            # A service that refuses a request has no use for the rest of the request's body.
            connection.stop_upload()
    except ConnectionClosed as error:
        connection.close()
        if connection.was_idle and not reader.has_started:
            raise UpstreamConnectionStale("the service closed its idle connection") from error
        raise UpstreamConnectError("the service closed the connection") from error
    except BaseException:
        connection.close()
        raise

    def release(is_reusable: bool) -> None:
        if is_reusable and (upload is None or upload.is_complete):
            connection.stop_upload()
            must_quarantine = head.status == 304 or request.method == "HEAD"
            pool.put_idle(request.target, connection, head, must_quarantine=must_quarantine)
        else:
            connection.close()

    return head, ResponseBody(connection, head, release, worker_shutdown)


def send_request(connection: UpstreamConnection, request: UpstreamRequest) -> Upload | None:
    """Sends head and body. A body that is not in memory is sent in the background while the response is awaited."""
    head = request_head(request.method, request.request_target, request.headers)
    body = request.body
    if isinstance(body, bytes):
        connection.send(head + body)
        return None
    connection.send(head)
    return connection.start_upload(body, is_chunked=body.length is None)
