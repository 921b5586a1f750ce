"""Bodies of requests as they come from clients: what is told of them beside their bytes, and how slow they may be."""

from __future__ import annotations

import socket
import time
from typing import Any

from gateway.serving.request_heads import Request

# An unread rest of a body up to this is read and thrown away, to keep the connection; beyond it, the connection goes.
DRAINED_BYTES = 64 * 1024
# A body may begin as slowly as it likes, for so long.
PACE_GRACE_SECONDS = 5.0


class ClientStream:
    """A request's body as `wsgi.input`, with what WSGI does not tell: `fields`, the header with duplicates apart.

    100 Continue is sent when the body is asked for, not before: a request that is refused must not send it at all
    (RFC 9110 10.1.1)."""

    def __init__(self, request: Request, sock: socket.socket) -> None:
        self._body: Any = request.body
        self._socket = sock
        self.fields: list[tuple[str, str]] = request.headers
        self.expects_continue: bool = request._expected_100_continue
        self.failed = False
        self.received = 0
        # None: not known, as it is chunked.
        self._unread = request.body_length

    def read(self, size: int = -1) -> bytes:
        if self.expects_continue:
            self.expects_continue = False
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            data: bytes = self._body.read(None if size < 0 else size)
        except BaseException:
            self.failed = True
            raise
        self.received += len(data)
        if self._unread is not None:
            self._unread -= len(data)
        elif not data:
            self._unread = 0
        return data

    def readline(self, size: int = -1) -> bytes:
        raise NotImplementedError("the gateway reads bodies as bytes, not as lines")

    @property
    def is_read(self) -> bool:
        """Whether there is nothing left of it."""
        return self._unread == 0 and not self.failed

    @property
    def can_be_drained(self) -> bool:
        """Whether what is left is little enough to read, so that the connection can take another request."""
        return (
            not self.failed
            and not (self.expects_continue and self._unread != 0)
            and self._unread is not None
            and self._unread <= DRAINED_BYTES
        )


class Paced:
    """A client's socket while a body is read from it: one that comes in too slowly is a timeout.

    Only the time spent waiting for the client counts; that its service takes the body slowly is not its fault."""

    def __init__(self, sock: socket.socket, min_bytes_per_second: int) -> None:
        self._socket = sock
        self._min_bytes_per_second = min_bytes_per_second
        self._waited = 0.0
        self._received = 0

    def recv(self, size: int) -> bytes:
        started = time.monotonic()
        data = self._socket.recv(size)
        self._waited += time.monotonic() - started
        self._received += len(data)
        if self._waited > PACE_GRACE_SECONDS and self._received < self._waited * self._min_bytes_per_second:
            raise TimeoutError("the body comes in too slowly")
        return data
