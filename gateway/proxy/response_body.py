"""The body of a service's response, on its way to the client."""

from __future__ import annotations

import re
from collections.abc import Callable

from gevent.event import Event

from gateway.errors import (
    BodyTooLarge,
    ClientDisconnected,
    Overloaded,
    UpstreamBodyError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from gateway.proxy.chunked import RESPONSE_CHUNK_LINE, ChunkDecoder, MalformedChunks
from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.connection_errors import ConnectionAborted, ConnectionClosed, WorkerShuttingDown
from gateway.proxy.http1 import EVENT_STREAM, ResponseHead
from gateway.system.fair_scheduling import yield_if_due
from gateway.system.shutdown import WorkerShutdown

PIECE_BYTES = 128 * 1024
# An empty line ends a server-sent event (HTML Standard 9.2.6). After it the stream may end without losing an event.
END_OF_EVENT = b"\n\n"
EVENT_END = re.compile(rb"(?>\r\n|\r|\n){2}")


class ResponseBody:
    """A response's body: an iterator over pieces as they arrive, unchanged. When the body has been read completely, the
    connection goes back to the pool. If the body is closed earlier, the connection is closed.

    A stream of server-sent events has no end of its own. It ends when this worker shuts down, after a complete event.

    A response may be complete while the request is still being sent. `close` waits for the request then, so that the
    service receives all of it.

    Raises UpstreamBodyError if the body does not end as its framing says. Raises ClientDisconnected if the client has
    left, or if its request's body turns out to be incomplete or too large."""

    def __init__(
        self,
        connection: UpstreamConnection,
        head: ResponseHead,
        release: Callable[[bool], None],
        worker_shutdown: WorkerShutdown | None = None,
    ) -> None:
        self._connection = connection
        self._decoder = ChunkDecoder(RESPONSE_CHUNK_LINE) if head.chunked else None
        # Bytes still to be read; None if the body is chunked or ends with the connection.
        self._remaining = head.length
        self._has_length = head.length is not None
        self._is_head_reusable = head.reusable
        self._release = release
        self._is_released = False
        self._prefetched: bytes | None = None
        # Called once by `close`, however the body has ended.
        self.on_close: Callable[[], None] | None = None
        stream_type = head.stream_type
        # Whether the body is a stream without a known end, such as server-sent events.
        self.is_stream = stream_type != ""
        has_events = stream_type == EVENT_STREAM
        self._shutdown_signal = worker_shutdown.join() if worker_shutdown is not None and has_events else None
        self._last_bytes = END_OF_EVENT
        self.is_complete = False
        # Whether a body of known length ended early. Bodies without a length do not count, as their early end says
        # little about the service: many services end a stream after a silence, or without a last chunk.
        self.is_truncated = False
        if head.length == 0:
            self._finish()

    def __iter__(self) -> ResponseBody:
        return self

    def __next__(self) -> bytes:
        prefetched = self._prefetched
        if prefetched is not None:
            self._prefetched = None
            return prefetched
        if self._is_released or self.is_complete:
            raise StopIteration
        try:
            piece = self._next_piece() if self._shutdown_signal is None else self._next_events(self._shutdown_signal)
        except WorkerShuttingDown:
            self._end()
            raise StopIteration from None
        except ConnectionClosed as error:
            if self._remaining is None and self._decoder is None and not isinstance(error, ConnectionAborted):
                self._finish()
                raise StopIteration from None
            self._truncate()
            raise UpstreamBodyError("the response ended early") from error
        except (UpstreamTimeout, UpstreamProtocolError) as error:
            self._truncate()
            raise UpstreamBodyError("the response stopped or is malformed") from error
        except Overloaded as error:
            self._end()
            raise UpstreamBodyError("this worker has run out of a resource") from error
        except BodyTooLarge as error:
            # The response has begun, so a 413 can't be sent any more.
            self._end()
            raise ClientDisconnected("the request's body is too large") from error
        except BaseException:
            self._end()
            raise
        if not piece:
            raise StopIteration
        return piece

    def prefetch(self) -> None:
        """Reads the first piece, which the iterator then returns first. If the upstream fails before the first piece,
        the client receives a 502 or 504 instead of a truncated response.

        The first piece of a silent stream is empty, so that the head is sent at once: the first event may be minutes
        away. Raises UpstreamProtocolError, UpstreamTimeout, Overloaded or ClientDisconnected."""
        if self._may_stay_silent:
            self._prefetched = b""
            return
        try:
            self._prefetched = next(self, None)
        except UpstreamBodyError as error:
            if isinstance(error.__cause__, Overloaded):
                raise error.__cause__ from error
            if isinstance(error.__cause__, UpstreamTimeout):
                raise UpstreamTimeout("the service did not respond in time") from error
            raise UpstreamProtocolError("the service's response ended before its body") from error

    def close(self) -> None:
        on_close, self.on_close = self.on_close, None
        try:
            self._end()
        finally:
            if on_close is not None:
                on_close()

    @property
    def _may_stay_silent(self) -> bool:
        """Whether the next piece may take arbitrarily long: nothing has arrived, and the body has no length or the
        request is still being sent."""
        if self._is_released:
            return False
        if self._connection.is_uploading:
            return self.is_complete or not self._connection.buffer
        return self._remaining is None and not self._connection.buffer

    def _end(self) -> None:
        if self._is_released:
            return
        self._is_released = True
        if not self.is_complete:
            self._release(False)
            return
        try:
            self._connection.finish_upload()
        except BaseException:
            self._release(False)
            raise
        self._release(self._is_reusable)

    def _truncate(self) -> None:
        self.is_truncated = self._has_length
        self._end()

    def _next_events(self, shutdown_signal: Event) -> bytes:
        """The next piece of server-sent events. Raises WorkerShuttingDown between two events."""
        is_between = self._last_bytes.replace(b"\r\n", b"\n").replace(b"\r", b"\n").endswith(END_OF_EVENT)
        if is_between and shutdown_signal.is_set():
            raise WorkerShuttingDown
        self._connection.shutdown_signal = shutdown_signal if is_between else None
        piece = self._next_piece()
        if shutdown_signal.is_set() and not self.is_complete:
            # In a stream without pauses, pieces rarely end where an event ends. So the piece is cut after its last
            # event.
            ends = [found.end() - len(self._last_bytes) for found in EVENT_END.finditer(self._last_bytes + piece)]
            if ends and ends[-1] > 0:
                piece = piece[: ends[-1]]
        self._last_bytes = (self._last_bytes + piece)[-4:]
        return piece

    def _next_piece(self) -> bytes:
        """The next piece of the body; empty at its end."""
        if self._decoder is not None:
            return self._next_chunks(self._decoder)
        if self._remaining is None:
            return self._connection.read_some(PIECE_BYTES)
        piece = self._connection.read_some(min(PIECE_BYTES, self._remaining))
        self._remaining -= len(piece)
        if self._remaining == 0:
            self._finish()
        return piece

    def _next_chunks(self, decoder: ChunkDecoder) -> bytes:
        # If many small chunks have arrived at once, no receive lets other greenlets run.
        yield_if_due()
        deadline = self._connection.read_deadline()
        try:
            while not (piece := decoder.take(PIECE_BYTES)) and not decoder.is_ended:
                decoder.feed(self._connection.read_some(PIECE_BYTES, deadline))
        except MalformedChunks as error:
            raise UpstreamProtocolError(str(error)) from error
        if decoder.is_ended:
            self._is_head_reusable = self._is_head_reusable and not decoder.rest
            self._finish()
        return piece

    def _finish(self) -> None:
        self.is_complete = True
        if not self._connection.is_uploading:
            self._is_released = True
            self._release(self._is_reusable)

    @property
    def _is_reusable(self) -> bool:
        # Bytes after the response belong to no request: the connection is out of step (RFC 9112 9.2).
        return self._is_head_reusable and not self._connection.buffer
