"""The chunked transfer coding (RFC 9112 7.1) of requests and responses, decoded as the bytes arrive. No I/O."""

from __future__ import annotations

import re

from gateway.http_fields import TEXT, TOKEN
from gateway.proxy.http1 import MAX_HEAD_BYTES

MAX_LINE_BYTES = 4096
# The maximum number of chunks that one call decodes, so that other greenlets can run between two calls.
MAX_CHUNKS_PER_CALL = 500
# Overhead that each chunk may have, which is all of its bytes but the data: 16 bytes, and twice the size of the data.
# All chunks of a body together may exceed this by MAX_EXCESS_BYTES. Without a limit, long chunk extensions around
# little data would cost the gateway much CPU time.
FREE_BYTES_PER_CHUNK = 16
FREE_BYTES_PER_DATA_BYTE = 2
MAX_EXCESS_BYTES = 16 * 1024

# The first line of a chunk. In requests it must follow the grammar. In responses the size may be followed by
# whitespace, with which old versions of Apache padded it, and the syntax of extensions is not checked.
QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
EXTENSION = rf"[ \t]*+;[ \t]*+{TOKEN}(?:[ \t]*+=[ \t]*+(?:{TOKEN}|{QUOTED}))?"
REQUEST_CHUNK_LINE = re.compile(rf"([0-9A-Fa-f]{{1,15}})(?:{EXTENSION})*+\r\n".encode("latin-1"))
RESPONSE_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*+(?:;[\t\x20-\x7e\x80-\xff]*+)?\r\n")
# Fields for framing, routing and authentication must not be in trailers: another recipient might apply them (RFC 9110
# 6.5.1).
FORBIDDEN_TRAILERS = "content-length|transfer-encoding|trailer|host|authorization|te"
TRAILER_LINE = re.compile(rf"(?!(?i:{FORBIDDEN_TRAILERS}):){TOKEN}:{TEXT}\r\n".encode("latin-1"))
CRLF = b"\r\n"


class MalformedChunks(ValueError):
    """The body violates the chunked coding, so its end is unknown."""


class ChunkDecoder:
    """Decodes one body: `feed` adds received bytes, `take` returns data. Trailers are validated and dropped. `line` is
    the pattern of a chunk's first line."""

    def __init__(self, line: re.Pattern[bytes]) -> None:
        self._line = line
        self._data = b""
        self._position = 0
        # How many bytes of the current chunk's data have not been taken.
        self._remaining = 0
        # Whether the CRLF after the current chunk's data has still to be read.
        self._line_end_is_due = False
        # How many bytes of an incomplete line have been searched for the line's end.
        self._searched_bytes = 0
        self._is_in_trailers = False
        self._trailer_bytes = 0
        self._excess_bytes = 0
        self.is_ended = False

    @property
    def rest(self) -> bytes:
        """Bytes that were fed and not taken. Once the body has ended, they belong to the next message."""
        return self._data[self._position :]

    def feed(self, data: bytes) -> None:
        self._data, self._position = (self.rest + data if self._position < len(self._data) else data), 0

    def take(self, limit: int) -> bytes:
        """Returns up to `limit` bytes of data, and no bytes if more must be fed or the body `is_ended`.

        Raises MalformedChunks."""
        pieces: list[bytes] = []
        for _ in range(MAX_CHUNKS_PER_CALL):
            if self._remaining:
                piece = self._data[self._position : self._position + min(self._remaining, limit)]
                if not piece:
                    break
                pieces.append(piece)
                limit -= len(piece)
                self._position += len(piece)
                self._remaining -= len(piece)
                if self._remaining:
                    break
            try:
                if self.is_ended or not self._begin_chunk():
                    break
            except MalformedChunks:
                if not pieces:
                    raise
                # The data before the error is valid, so it is returned. The next call raises the error.
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _begin_chunk(self) -> bool:
        """Reads up to the data of the next chunk, or to the end of the body. Returns False if more must be fed."""
        if self._line_end_is_due and not self._read_line_end():
            return False
        if self._is_in_trailers:
            return self._read_trailers()
        line = self._match_line(self._line, MAX_LINE_BYTES)
        if line is None:
            return False
        size, overhead = int(line[1], 16), line.end() - self._position + len(CRLF)
        if overhead > MAX_LINE_BYTES:
            raise MalformedChunks("a chunk's first line is too long")
        allowance = FREE_BYTES_PER_CHUNK + FREE_BYTES_PER_DATA_BYTE * size
        self._excess_bytes = max(0, self._excess_bytes + overhead - allowance)
        if self._excess_bytes > MAX_EXCESS_BYTES:
            raise MalformedChunks("the chunks have too much overhead")
        self._position = line.end()
        if not size:
            self._is_in_trailers = True
            return self._read_trailers()
        self._remaining, self._line_end_is_due = size, True
        return True

    def _read_line_end(self) -> bool:
        end = self._data[self._position : self._position + len(CRLF)]
        if not CRLF.startswith(end):
            raise MalformedChunks("a chunk is longer than its size")
        if end != CRLF:
            return False
        self._position += len(CRLF)
        self._line_end_is_due = False
        return True

    def _read_trailers(self) -> bool:
        while not self._data.startswith(CRLF, self._position):
            line = self._match_line(TRAILER_LINE, MAX_HEAD_BYTES)
            if line is None:
                return False
            self._trailer_bytes += line.end() - self._position
            if self._trailer_bytes > MAX_HEAD_BYTES:
                raise MalformedChunks("the trailers are too large")
            self._position = line.end()
        self._position += len(CRLF)
        self.is_ended = True
        return True

    def _match_line(self, pattern: re.Pattern[bytes], limit: int) -> re.Match[bytes] | None:
        """Matches the next line, or returns None if its end has not arrived. Remembers how far it has searched for the
        end, so that bytes that arrive one by one are not searched again each time. Raises MalformedChunks if the line
        does not match or is longer than `limit`."""
        if not self._searched_bytes and (line := pattern.match(self._data, self._position)):
            return line
        # The last byte searched is searched again: it may be the CR of a CRLF.
        line_end = self._data.find(CRLF, self._position + max(0, self._searched_bytes - 1))
        line = pattern.match(self._data, self._position) if line_end >= 0 and self._searched_bytes else None
        self._searched_bytes = len(self._data) - self._position if line_end < 0 else 0
        if self._searched_bytes > limit or (line_end >= 0 and line is None):
            raise MalformedChunks("a chunk's first line or a trailer is malformed")
        return line


def encode_chunked(data: bytes) -> bytes:
    """A complete chunked body with this data."""
    return (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + b"0\r\n\r\n"
