"""Bodies on their way: the client's, counted against its framing and its limit, and the upstream's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from gateway.errors import (
    BodyTooLarge,
    ClientDisconnected,
    UpstreamBodyError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from gateway.proxy.connection import ConnectionBroken, ConnectionEnded, UpstreamConnection, WorkerEnding
from gateway.proxy.wire import ResponseHead
from gateway.system.ending import StreamEnd, WorkerEnd

PIECE_BYTES = 64 * 1024
BUFFERED_BYTES = 64 * 1024
PIECES_IN_A_ROW = 16
# An empty line, after which a stream of events may end without one being lost (HTML, 9.2.6).
END_OF_EVENT = b"\n\n"


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Turn:
    """Lets others have theirs once in a while: where every read finds something at once, a greenlet would never wait,
    and all others of its worker would."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken = 0

    def take(self) -> None:
        self._taken += 1
        if self._taken % PIECES_IN_A_ROW == 0:
            time.sleep(0)


class ClientBody:
    """A request's body. `length` is None where it is chunked. Iterating reads it once, piece by piece.

    Raises BodyTooLarge past `max_bytes`, ClientDisconnected where it ends early: a short body is never a whole one."""

    def __init__(self, stream: Readable, length: int | None, max_bytes: int) -> None:
        if length is not None and length > max_bytes:
            raise too_large(max_bytes)
        self._stream = stream
        self.length = length
        self._max_bytes = max_bytes
        self.received = 0
        self._turn = Turn()
        # Called when all of it has been read.
        self.when_whole: Callable[[], None] | None = None

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces()
        if self.when_whole is not None:
            self.when_whole()

    def _pieces(self) -> Iterator[bytes]:
        while self.length is None or self.received < self.length:
            wanted = PIECE_BYTES if self.length is None else min(PIECE_BYTES, self.length - self.received)
            try:
                piece = self._stream.read(wanted)
            except ClientDisconnected:
                raise
            except Exception as error:
                # Whatever the server's reader raises, the rest of this body can't be had.
                raise ClientDisconnected("the body can't be read") from error
            if not piece:
                if self.length is None:
                    return
                raise ClientDisconnected("the body ended early")
            self.received += len(piece)
            if self.received > self._max_bytes:
                raise too_large(self._max_bytes)
            self._turn.take()
            yield piece

    def read_if_small(self) -> bytes | None:
        """The whole body where its length is known and small; None where it has to be streamed."""
        if self.length is None or self.length > BUFFERED_BYTES:
            return None
        return b"".join(self)


def too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"at most {max_bytes} bytes are taken")


class UpstreamBody:
    """An answer's body as it comes, unchanged. Closing it early closes the connection; reading it whole returns it.
    A stream of events, which has no end of its own, ends with this worker, behind a whole event.

    Raises UpstreamBodyError where it does not end as its framing says."""

    def __init__(
        self,
        connection: UpstreamConnection,
        head: ResponseHead,
        release: Callable[[bool], None],
        worker_end: WorkerEnd | None = None,
    ) -> None:
        self._connection = connection
        self._chunked = head.chunked
        # Of the whole body, or of the current chunk; None until the connection ends.
        self._remaining = 0 if head.chunked else head.length
        self._after_chunk = False
        self._reusable = head.reusable
        self._release = release
        self._released = False
        self._end = worker_end.join() if worker_end is not None and head.is_event_stream else None
        self._last = END_OF_EVENT
        self._turn = Turn()
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
        if self._released:
            raise StopIteration
        self._turn.take()
        try:
            piece = self._next_piece() if self._end is None else self._next_events(self._end)
        except WorkerEnding:
            self.close()
            raise StopIteration from None
        except ConnectionEnded as error:
            if self._remaining is None and not isinstance(error, ConnectionBroken):
                self._finish()
                raise StopIteration from None
            self._cut()
            raise UpstreamBodyError("the answer ended early") from error
        except (UpstreamTimeout, UpstreamProtocolError) as error:
            self._cut()
            raise UpstreamBodyError("the answer stopped or is malformed") from error
        except BaseException:
            self.close()
            raise
        if piece is None:
            raise StopIteration
        return piece

    @property
    def is_awaited(self) -> bool:
        """Whether this is a stream of which nothing has come yet: its next piece may take as long as it likes."""
        is_stream = self._chunked or self._remaining is None
        return is_stream and not self._released and not self._connection.buffered

    def close(self) -> None:
        if not self._released:
            self._released = True
            self._release(False)

    def _next_events(self, end: StreamEnd) -> bytes | None:
        """The next piece of a stream of events. Raises WorkerEnding between two of them."""
        is_between = self._last.replace(b"\r\n", b"\n").replace(b"\r", b"\n").endswith(END_OF_EVENT)
        if is_between and end.is_told:
            raise WorkerEnding
        self._connection.end_watch = end if is_between else None
        piece = self._next_piece()
        self._last = (self._last + (piece or b""))[-4:]
        return piece

    def _cut(self) -> None:
        self.is_cut = self._has_length
        self.close()

    def _next_piece(self) -> bytes | None:
        connection = self._connection
        if self._remaining is None:
            return connection.read_some(PIECE_BYTES)
        if self._chunked and self._remaining == 0:
            # Read only now: a chunk's bytes must not wait for what comes after them.
            if self._after_chunk:
                connection.read_chunk_end()
            self._after_chunk = True
            self._remaining = connection.read_chunk_head()
            if self._remaining == 0:
                self._finish()
                return None
        piece = connection.read_some(min(PIECE_BYTES, self._remaining))
        self._remaining -= len(piece)
        if self._remaining == 0 and not self._chunked:
            self._finish()
        return piece

    def _finish(self) -> None:
        # Bytes beyond the answer belong to nobody: such a connection is out of step (RFC 9112 9.2).
        self._released = self.is_whole = True
        self._release(self._reusable and not self._connection.buffered)


def first_piece(body: UpstreamBody) -> bytes | None:
    """The first piece of an answer's body, None where it has none: so an upstream that fails before it gets its request
    a 502 or 504 and not a broken answer. Raises UpstreamProtocolError, UpstreamTimeout or ClientDisconnected.

    Of a stream that is still silent, no bytes, with which the head goes out: its first event may be minutes away."""
    if body.is_awaited:
        return b""
    try:
        return next(body, None)
    except UpstreamBodyError as error:
        if isinstance(error.__cause__, UpstreamTimeout):
            raise UpstreamTimeout("the service did not answer in time") from error
        raise UpstreamProtocolError("the service's answer ended before its body") from error


class AnswerBody:
    """An answer's body whose first piece has been read. It tells when it ends, whichever way."""

    __slots__ = ("_body", "_first", "_when_ended")

    def __init__(self, first: bytes | None, rest: UpstreamBody, when_ended: Callable[[], None]) -> None:
        self._first = first
        self._body = rest
        self._when_ended: Callable[[], None] | None = when_ended

    def __iter__(self) -> AnswerBody:
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
