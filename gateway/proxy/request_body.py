"""A client's request body: read in pieces, checked against its Content-Length and `max_body_bytes`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from gateway.errors import BodyTooLarge, ClientDisconnected

PIECE_BYTES = 64 * 1024
BUFFERED_BYTES = 64 * 1024


class Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """Returns between 1 and `size` bytes as soon as they arrive, and no bytes at the end."""


class RequestBody:
    """A request's body, to be iterated once. `length` is None if the body is chunked.

    Raises BodyTooLarge beyond `max_bytes`, and ClientDisconnected if the body ends early: a truncated body is never
    forwarded as a complete one."""

    def __init__(self, stream: Readable, length: int | None, max_bytes: int) -> None:
        if length is not None and length > max_bytes:
            raise too_large(max_bytes)
        self._stream = stream
        self.length = length
        self._max_bytes = max_bytes
        self.received = 0
        # Called when the whole body has been read.
        self.on_complete: Callable[[], None] | None = None

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces()
        if self.on_complete is not None:
            self.on_complete()

    def _pieces(self) -> Iterator[bytes]:
        while self.length is None or self.received < self.length:
            wanted = PIECE_BYTES if self.length is None else min(PIECE_BYTES, self.length - self.received)
            try:
                piece = self._stream.read(wanted)
            except ClientDisconnected:
                raise
            except Exception as error:
                # The server's reader raises errors of many types. After any of them the rest can't be read.
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
        """Reads the whole body if its Content-Length is small, or if it is chunked and has arrived completely. Returns
        None if the body must be streamed."""
        if self.length is not None:
            return b"".join(self) if self.length <= BUFFERED_BYTES else None
        take_whole: Callable[[], bytes | None] | None = getattr(self._stream, "take_whole", None)
        whole = take_whole() if take_whole is not None else None
        if whole is not None and len(whole) > self._max_bytes:
            raise too_large(self._max_bytes)
        return whole


def too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the limit is {max_bytes} bytes")
