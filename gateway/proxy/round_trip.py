"""One request and the head of its answer, over one connection; over a second one where the first was stale."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import UpstreamConnectError, UpstreamConnectionStale, UpstreamProtocolError
from gateway.http_fields import HeaderPairs
from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.connection_ends import ConnectionEnded
from gateway.proxy.http1 import ResponseHead, request_head
from gateway.proxy.idle_connections import IdleConnections
from gateway.proxy.request_body import RequestBody
from gateway.proxy.response_body import UpstreamBody
from gateway.proxy.retry import IDEMPOTENT
from gateway.proxy.target import Target
from gateway.proxy.timeouts import Timeouts
from gateway.proxy.upload import Upload
from gateway.system.shutdown import WorkerShutdown


@dataclass(slots=True)
class ReadyRequest:
    """A request that is sent byte for byte as it stands here. `request_target` is what is asked of the target;
    `client` the client's socket, to notice it leave. `send_interim` passes the head of an interim answer on."""

    method: str
    target: Target
    request_target: str
    fields: HeaderPairs
    content: bytes | RequestBody
    limits: Timeouts
    client: socket.socket | None = None
    send_interim: Callable[[ResponseHead], None] | None = None


class Connections(Protocol):
    worker_end: WorkerShutdown | None

    @property
    def idle(self) -> IdleConnections: ...
    def new_connection(self, target: Target, limits: Timeouts) -> UpstreamConnection: ...


def exchange(connections: Connections, request: ReadyRequest) -> tuple[ResponseHead, UpstreamBody]:
    """Sends the request and reads the answer's head. Raises UpstreamError or ClientDisconnected, or what the
    request's body raises; the connection is closed then, so that an unfinished request is never taken for a whole one.
    """
    # Only such a request may reach a service twice (RFC 9110 9.2.2, RFC 9112 9.3.1).
    is_repeatable = request.method in IDEMPOTENT and isinstance(request.content, bytes)
    idle = connections.idle.take(request.target, is_repeatable=is_repeatable)
    if idle is not None:
        try:
            return exchange_over(connections, idle, request)
        except UpstreamConnectError:
            # The service closed the idle connection just then. Whether it has seen the request can't be known.
            if not is_repeatable:
                raise
        except UpstreamProtocolError:
            # What came may be the rest of an answer from before.
            if not is_repeatable or idle.has_read_head:
                raise
    return exchange_over(connections, connections.new_connection(request.target, request.limits), request)


def exchange_over(
    connections: Connections, connection: UpstreamConnection, request: ReadyRequest
) -> tuple[ResponseHead, UpstreamBody]:
    connection.begin_exchange(request.client, request.limits.read_seconds, request.send_interim)
    connection.deadline = request.limits.deadline
    try:
        upload = send_request(connection, request)
        head = connection.read_head(request.method, request.limits.head_seconds)
        if head.status >= 300:
            # A service that refuses a request reads no more of it.
            connection.end_sending()
    except ConnectionEnded as error:
        connection.close()
        if connection.was_idle and not connection.has_answered:
            raise UpstreamConnectionStale("the service ended its idle connection") from error
        raise UpstreamConnectError("the service ended the connection") from error
    except BaseException:
        connection.close()
        raise

    def release(reusable: bool) -> None:
        if reusable and (upload is None or upload.is_whole):
            connection.end_sending()
            must_rest = head.status == 304 or request.method == "HEAD"
            connections.idle.put(request.target, connection, head, must_rest=must_rest)
        else:
            connection.close()

    return head, UpstreamBody(connection, head, release, connections.worker_end)


def send_request(connection: UpstreamConnection, request: ReadyRequest) -> Upload | None:
    """Sends head and body; a body that is not at hand goes on being sent while the answer is waited for."""
    head = request_head(request.method, request.request_target, request.fields)
    body = request.content
    if isinstance(body, bytes):
        connection.send(head + body)
        return None
    connection.send(head)
    connection.sending = upload = Upload(connection, body)
    return upload
