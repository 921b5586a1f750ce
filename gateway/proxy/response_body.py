"""A service's response on its way to the client."""

from __future__ import annotations

import re
from collections.abc import Callable

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
from gateway.proxy.connection_ends import ConnectionBroken, ConnectionEnded, WorkerEnding
from gateway.proxy.http1 import EVENT_STREAM, ResponseHead
from gateway.system.shutdown import StreamEnd, WorkerShutdown
from gateway.system.time_slice import yield_if_due

PIECE_BYTES = 128 * 1024
# An empty line, after which a stream of events may end without one being lost (HTML, 9.2.6).
END_OF_EVENT = b"\n\n"
EVENT_END = re.compile(rb"(?>\r\n|\r|\n){2}")


class UpstreamBody:
    """An answer's body as it comes, unchanged. Closing it early closes the connection; reading it whole returns it.
    A stream of events, which has no end of its own, ends with this worker, behind a whole event.

    An answer may be complete while the request is still being sent: closing it waits for that, so that the service gets
    all of the request.

    Raises UpstreamBodyError where it does not end as its framing says, ClientDisconnected where the request doesn't."""

    def __init__(
        self,
        connection: UpstreamConnection,
        head: ResponseHead,
        release: Callable[[bool], None],
        worker_end: WorkerShutdown | None = None,
    ) -> None:
        self._connection = connection
        self._decoder = ChunkDecoder(RESPONSE_CHUNK_LINE) if head.chunked else None
        # Of a body with a length; None where the body ends with the connection.
        self._remaining = head.length
        self._reusable = head.reusable
        self._release = release
        self._released = False
        stream_type = head.stream_type
        self.is_stream = stream_type != ""
        self._end = worker_end.join() if worker_end is not None and stream_type == EVENT_STREAM else None
        self._last = END_OF_EVENT
        self._has_length = head.length is not None
        self.is_whole = False
        # Whether an answer of known length did not come to its end. That of a stream says little of its service: many
        # end when they are silent, or without a last chunk.
        self.is_cut = False
        if head.length == 0:
            self._finish()

    def __iter__(self) -> UpstreamBody:
        return self

    def __next__(self) -> bytes:
        if self._released or self.is_whole:
            raise StopIteration
        try:
            piece = self._next_piece() if self._end is None else self._next_events(self._end)
        except WorkerEnding:
            self.close()
            raise StopIteration from None
        except ConnectionEnded as error:
            if self._remaining is None and self._decoder is None and not isinstance(error, ConnectionBroken):
                self._finish()
                raise StopIteration from None
            self._cut()
            raise UpstreamBodyError("the answer ended early") from error
        except (UpstreamTimeout, UpstreamProtocolError) as error:
            self._cut()
            raise UpstreamBodyError("the answer stopped or is malformed") from error
        except Overloaded as error:
            self.close()
            raise UpstreamBodyError("this worker has run out of something") from error
        except BodyTooLarge as error:
            # It is too late to say so.
            self.close()
            raise ClientDisconnected("the request's body is too large") from error
        except BaseException:
            self.close()
            raise
        if not piece:
            raise StopIteration
        return piece

    @property
    def is_awaited(self) -> bool:
        """Whether the next piece may take as long as it likes: of a stream of which nothing has come yet, or as long as
        the request is still being sent."""
        if self._released:
            return False
        if self._connection.is_sending:
            return self.is_whole or not self._connection.buffered
        return self._remaining is None and not self._connection.buffered

    def close(self) -> None:
        if self._released:
            return
        self._released = True
        if not self.is_whole:
            self._release(False)
            return
        try:
            self._connection.finish_sending()
        except BaseException:
            self._release(False)
            raise
        self._release(self._is_reusable)

    def _next_events(self, end: StreamEnd) -> bytes:
        """The next piece of a stream of events. Raises WorkerEnding between two of them."""
        is_between = self._last.replace(b"\r\n", b"\n").replace(b"\r", b"\n").endswith(END_OF_EVENT)
        if is_between and end.is_told:
            raise WorkerEnding
        self._connection.end_watch = end if is_between else None
        piece = self._next_piece()
        if end.is_told and not self.is_whole:
            # In a stream that never pauses no piece may end with an event for long.
            ends = [found.end() - len(self._last) for found in EVENT_END.finditer(self._last + piece)]
            if ends and ends[-1] > 0:
                piece = piece[: ends[-1]]
        self._last = (self._last + piece)[-4:]
        return piece

    def _cut(self) -> None:
        self.is_cut = self._has_length
        self.close()

    def _next_piece(self) -> bytes:
        """None of it at the end."""
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
        # Many small chunks may have arrived at once.
        yield_if_due()
        deadline = self._connection.read_deadline()
        try:
            while not (piece := decoder.take(PIECE_BYTES)) and not decoder.is_ended:
                decoder.feed(self._connection.read_some(PIECE_BYTES, deadline))
        except MalformedChunks as error:
            raise UpstreamProtocolError(str(error)) from error
        if decoder.is_ended:
            self._reusable = self._reusable and not decoder.rest
            self._finish()
        return piece

    def _finish(self) -> None:
        self.is_whole = True
        if not self._connection.is_sending:
            self._released = True
            self._release(self._is_reusable)

    @property
    def _is_reusable(self) -> bool:
        # Bytes beyond the answer belong to nobody: such a connection is out of step (RFC 9112 9.2).
        return self._reusable and not self._connection.buffered


def first_piece(body: UpstreamBody) -> bytes | None:
    """The first piece of an answer's body, None where it has none: so an upstream that fails before it gets its request
    a 502 or 504 and not a broken answer. Raises UpstreamProtocolError, UpstreamTimeout or ClientDisconnected.

    Of a stream that is still silent, no bytes, with which the head goes out: its first event may be minutes away."""
    if body.is_awaited:
        return b""
    try:
        return next(body, None)
    except UpstreamBodyError as error:
        if isinstance(error.__cause__, Overloaded):
            raise error.__cause__ from error
        if isinstance(error.__cause__, UpstreamTimeout):
            raise UpstreamTimeout("the service did not answer in time") from error
        raise UpstreamProtocolError("the service's answer ended before its body") from error


class ResponseBody:
    """An answer's body whose first piece has been read. It tells when it ends, whichever way."""

    __slots__ = ("_body", "_first", "_when_ended")

    def __init__(self, first: bytes | None, rest: UpstreamBody, when_ended: Callable[[], None]) -> None:
        self._first = first
        self._body = rest
        self._when_ended: Callable[[], None] | None = when_ended

    @property
    def is_stream(self) -> bool:
        """Whether it goes on as long as there is something new."""
        return self._body.is_stream

    def __iter__(self) -> ResponseBody:
        return self

    def __next__(self) -> bytes:
        first, self._first = self._first, None
        return next(self._body) if first is None else first

    def close(self) -> None:
        when_ended, self._when_ended = self._when_ended, None
        if when_ended is not None:
            try:
                self._body.close()
            finally:
                when_ended()
