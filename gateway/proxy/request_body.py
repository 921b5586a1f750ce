"""A client's body, counted against its framing and its limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from gateway.errors import BodyTooLarge, ClientDisconnected

PIECE_BYTES = 64 * 1024
BUFFERED_BYTES = 64 * 1024


class Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """Between 1 and `size` bytes, as they come; none at the end."""


class RequestBody:
    """A request's body. `length` is None where it is chunked. Iterating reads it once, piece by piece.

    Raises BodyTooLarge past `max_bytes`, ClientDisconnected where it ends early: a short body is never a whole one."""

    def __init__(self, stream: Readable, length: int | None, max_bytes: int) -> None:
        if length is not None and length > max_bytes:
            raise too_large(max_bytes)
        self._stream = stream
        self.length = length
        self._max_bytes = max_bytes
        self.received = 0
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
            yield piece

    def read_if_small(self) -> bytes | None:
        """The whole body where its length is known and small, or it is chunked and has arrived already; None where it
        has to be streamed."""
        if self.length is not None:
            return b"".join(self) if self.length <= BUFFERED_BYTES else None
        take_whole: Callable[[], bytes | None] | None = getattr(self._stream, "take_whole", None)
        whole = take_whole() if take_whole is not None else None
        if whole is not None and len(whole) > self._max_bytes:
            raise too_large(self._max_bytes)
        return whole


def too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"at most {max_bytes} bytes are taken")
