"""Bodies of requests as they come from clients: their bytes, what is known of them, and how slow they may be."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import partial

from gateway.gunicorn.request_heads import Request
from gateway.proxy.chunked import REQUEST_CHUNK_LINE, ChunkDecoder

RECEIVE_BYTES = 64 * 1024
# An unread rest of a body up to this is read and thrown away, to keep the connection; beyond it, the connection goes.
DRAINED_BYTES = 64 * 1024
# A body may begin as slowly as it likes, for so long.
PACE_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client may take: for a piece of a body to come or to be taken, for a whole body to come (0: as long as
    it likes), and how fast a body has to come in (0: at any speed)."""

    piece_seconds: float = 30.0
    body_seconds: float = 0.0
    min_bytes_per_second: int = 0


class ClientStream:
    """A request's body as `wsgi.input`, with what WSGI does not tell: `fields`, the header with duplicates apart.

    100 Continue is sent when the body is asked for, not before: a request that is refused must not send it at all
    (RFC 9110 10.1.1)."""

    def __init__(self, request: Request, sock: socket.socket, patience: Patience) -> None:
        self._unreader = request.unreader
        self._socket = sock
        self._patience = patience
        self._decoder = ChunkDecoder(REQUEST_CHUNK_LINE) if request.body_length is None else None
        # None: not known, as it is chunked.
        self._unread = request.body_length
        self.fields: list[tuple[str, str]] = request.headers
        self.expects_continue: bool = request._expected_100_continue
        self.failed = False
        self.received = 0
        # Monotonic seconds, from the first look for it on; and how long the client has been waited for since.
        self._began = 0.0
        self._waited_seconds = 0.0
        # With the chunks' own lines.
        self._arrived_bytes = 0

    def read(self, size: int = -1) -> bytes:
        """Between 1 and `size` bytes as they come, none at the end; without a size, all of it.

        Raises OSError where the client has gone or is too slow, ValueError where its chunks are malformed."""
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
        """All of a chunked body where its end has arrived with the head, or just behind it; else None, and `read` gives
        it. Does not wait."""
        if self._decoder is None or self.expects_continue or self._unread == 0:
            return None
        with suppress(OSError, ValueError):
            # What is wrong with it shows when it is read.
            self._decoder.feed(self._unreader.take_buffered() or self._unreader.chunk_arrived() or b"")
            trial = copy(self._decoder)
            data = trial.take(RECEIVE_BYTES)
            if trial.is_ended:
                self._decoder, self._unread = trial, 0
                self._unreader.unread(trial.rest)
                self.received = len(data)
                return data
        return None

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

    def _read_plain(self, size: int) -> bytes:
        unread = self._unread or 0
        data = self._more(min(size, unread))
        if not data:
            raise ended_early()
        self._unread = unread - len(data)
        return data

    def _read_chunks(self, decoder: ChunkDecoder, size: int) -> bytes:
        while not (data := decoder.take(size)) and not decoder.is_ended:
            more = self._more(RECEIVE_BYTES)
            if not more:
                raise ended_early()
            decoder.feed(more)
        if decoder.is_ended:
            self._unread = 0
            # The next request.
            self._unreader.unread(decoder.rest)
        return data

    def _more(self, size: int) -> bytes:
        """What has arrived already, else what arrives next."""
        data: bytes = self._unreader.take_buffered() or self._receive(size)
        if len(data) > size:
            self._unreader.unread(data[size:])
        return data[:size]

    def _receive(self, size: int) -> bytes:
        patience, now = self._patience, time.monotonic()
        self._began = self._began or now
        left = self._began + patience.body_seconds - now if patience.body_seconds else patience.piece_seconds
        if left <= 0:
            raise TimeoutError("the body takes too long")
        is_last_moment = left < patience.piece_seconds
        try:
            if is_last_moment:
                self._socket.settimeout(left)
            data: bytes = self._unreader.chunk(size)
        finally:
            if is_last_moment:
                self._socket.settimeout(patience.piece_seconds)
        self._arrived_bytes += len(data)
        # Only the time spent waiting for the client counts; that its service takes the body slowly is not its fault.
        self._waited_seconds += time.monotonic() - now
        least = self._waited_seconds * patience.min_bytes_per_second
        if self._waited_seconds > PACE_GRACE_SECONDS and self._arrived_bytes < least:
            raise TimeoutError("the body comes in too slowly")
        return data


def ended_early() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "the body ended early")
