"""Request bodies: `wsgi.input` with the facts that WSGI leaves out, read within the limits for slow clients."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from functools import partial

from gateway.gunicorn.request_heads import Request
from gateway.gunicorn.slow_clients import ClientTimeouts, MinRateReceiver
from gateway.proxy.chunked import REQUEST_CHUNK_LINE, ChunkDecoder

RECEIVE_BYTES = 64 * 1024
# If the unread rest of a body is at most this long, it is read and discarded so that the connection can be reused.
MAX_DRAINED_BYTES = 64 * 1024


class ClientStream:
    """A request's body, as `wsgi.input`. `fields` has the header fields of the request; repeated fields are separate.
    `received` is the number of body bytes that were read.

    100 Continue is sent when the body is first read: a request that is refused must not get it (RFC 9110 10.1.1)."""

    def __init__(self, request: Request, sock: socket.socket, timeouts: ClientTimeouts) -> None:
        self._unreader = request.unreader
        self._socket = sock
        self._receiver = MinRateReceiver(request.unreader, timeouts)
        self._decoder = ChunkDecoder(REQUEST_CHUNK_LINE) if request.body_length is None else None
        # None if the length is not known, as of a chunked body.
        self._unread = request.body_length
        self.fields: list[tuple[str, str]] = request.headers
        self.expects_continue: bool = request._expected_100_continue
        self.failed = False
        self.received = 0

    def read(self, size: int = -1) -> bytes:
        """Returns between 1 and `size` bytes as they arrive, and none at the end of the body. Without a size, returns
        the whole body.

        Raises OSError if the client has gone or is too slow, ValueError for malformed chunks."""
        if size < 0:
            return b"".join(iter(partial(self.read, RECEIVE_BYTES), b""))
        if self._unread == 0 or size == 0:
            return b""
        try:
            if self.expects_continue:
                self.expects_continue = False
                self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            data = self._read_plain(size) if self._decoder is None else self._read_chunks(self._decoder, size)
        except BaseException:
            self.failed = True
            raise
        self.received += len(data)
        return data

    def take_whole(self) -> bytes | None:
        """Returns the whole of a chunked body if its end arrived with the head or just after it. Otherwise returns
        None, and `read` returns the body. Does not wait."""
        if self._decoder is None or self.expects_continue or self._unread == 0:
            return None
        # An error is ignored here: `read` will raise it again.
        with suppress(OSError, ValueError):
            self._decoder.feed(self._unreader.take_buffered() or self._unreader.arrived_chunk() or b"")
            decoder = copy(self._decoder)
            data = decoder.take(RECEIVE_BYTES)
            if decoder.is_ended:
                self._decoder, self._unread = decoder, 0
                self._unreader.unread(decoder.rest)
                self.received = len(data)
                return data
        return None

    def readline(self, size: int = -1) -> bytes:
        """Returns a line of at most `size` bytes with its newline, and no bytes at the end of the body. Only views that
        an operator adds read lines."""
        line = bytearray()
        while len(line) != size and not line.endswith(b"\n") and (octet := self.read(1)):
            line += octet
        return bytes(line)

    def readlines(self, _: int = -1) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    @property
    def is_read(self) -> bool:
        """Whether the body was read to its end."""
        return self._unread == 0 and not self.failed

    @property
    def can_be_drained(self) -> bool:
        """Whether the unread rest is small enough to read and discard, so that the connection can be reused."""
        return (
            not self.failed
            and not (self.expects_continue and self._unread != 0)
            and self._unread is not None
            and self._unread <= MAX_DRAINED_BYTES
        )

    def _read_plain(self, size: int) -> bytes:
        unread = self._unread or 0
        data = self._next(min(size, unread))
        if not data:
            raise truncated()
        self._unread = unread - len(data)
        return data

    def _read_chunks(self, decoder: ChunkDecoder, size: int) -> bytes:
        while not (data := decoder.take(size)) and not decoder.is_ended:
            arrived = self._next(RECEIVE_BYTES)
            if not arrived:
                raise truncated()
            decoder.feed(arrived)
        if decoder.is_ended:
            self._unread = 0
            # The bytes after the body belong to the next request.
            self._unreader.unread(decoder.rest)
        return data

    def _next(self, size: int) -> bytes:
        """Returns buffered bytes; if there are none, the next bytes that arrive."""
        data: bytes = self._unreader.take_buffered() or self._receiver.receive(size)
        if len(data) > size:
            self._unreader.unread(data[size:])
        return data[:size]


def truncated() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "the body ended early")
