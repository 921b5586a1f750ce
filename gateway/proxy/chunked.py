"""Chunked bodies (RFC 9112 7.1), clients' and services': decoded as their bytes arrive, without any I/O."""

from __future__ import annotations

import re

from gateway.http_fields import TEXT, TOKEN
from gateway.proxy.http1 import MAX_HEAD_BYTES

MAX_LINE_BYTES = 4096
# How much one call decodes, so that its caller can let others run in between.
MAX_CHUNKS_AT_ONCE = 500
# What a chunk may take beside its data: 16 bytes, and as much again as twice its data; beyond that, so much in all.
# Padded chunk extensions would cost a server far more than the data that comes with them.
FREE_BYTES_PER_CHUNK = 16
FREE_BYTES_PER_DATA_BYTE = 2
MAX_EXCESS_BYTES = 16 * 1024

# Of clients nothing but the grammar is taken. Some services fill up the line with blanks, as Apache once did.
QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
EXTENSION = rf"[ \t]*+;[ \t]*+{TOKEN}(?:[ \t]*+=[ \t]*+(?:{TOKEN}|{QUOTED}))?"
REQUEST_CHUNK_LINE = re.compile(rf"([0-9A-Fa-f]{{1,15}})(?:{EXTENSION})*+\r\n".encode("latin-1"))
RESPONSE_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*+(?:;[\t\x20-\x7e\x80-\xff]*+)?\r\n")
# Not of a field that says where messages end or go, or who asks, which another reader might believe (RFC 9110 6.5.1).
NO_TRAILERS = "content-length|transfer-encoding|trailer|host|authorization|te"
TRAILER_LINE = re.compile(rf"(?!(?i:{NO_TRAILERS}):){TOKEN}:{TEXT}\r\n".encode("latin-1"))
CRLF = b"\r\n"


class MalformedChunks(ValueError):
    """The body is not chunked as it should be; where it ends is unknown."""


class ChunkDecoder:
    """Takes what has arrived by `feed`, gives the data by `take`. Trailers are checked and dropped. `line` is the
    pattern of a chunk's first line."""

    def __init__(self, line: re.Pattern[bytes]) -> None:
        self._line = line
        self._data = b""
        self._position = 0
        # Of the current chunk, what has not been taken; whether its line end has still to come.
        self._remaining = 0
        self._line_end_is_due = False
        # Of a line whose end has not come yet, how much has been looked through for it.
        self._searched_bytes = 0
        self._is_in_trailers = False
        self._trailer_bytes = 0
        self._excess_bytes = 0
        self.is_ended = False

    @property
    def rest(self) -> bytes:
        """What has been fed and not been taken; once the body has ended, it belongs to what comes after the body."""
        return self._data[self._position :]

    def feed(self, data: bytes) -> None:
        self._data, self._position = (self.rest + data if self._position < len(self._data) else data), 0

    def take(self, limit: int) -> bytes:
        """Up to `limit` bytes of data; none where more has to be fed, or the body `is_ended`.

        Raises MalformedChunks."""
        pieces: list[bytes] = []
        for _ in range(MAX_CHUNKS_AT_ONCE):
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
                # What came before it is good; the next call raises again.
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _begin_chunk(self) -> bool:
        """Reads up to the data of the next chunk, or to the end of the body; whether that has arrived."""
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
            raise MalformedChunks("the chunks have more of everything else than of data")
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
        """The next line; None where its end has not come. What has come of it is looked through once, however small
        the pieces are. Raises MalformedChunks where it does not match, or is longer than `limit`."""
        if not self._searched_bytes and (line := pattern.match(self._data, self._position)):
            return line
        # The last byte may be the first half of a line end.
        line_end = self._data.find(CRLF, self._position + max(0, self._searched_bytes - 1))
        line = pattern.match(self._data, self._position) if line_end >= 0 and self._searched_bytes else None
        self._searched_bytes = len(self._data) - self._position if line_end < 0 else 0
        if self._searched_bytes > limit or (line_end >= 0 and line is None):
            raise MalformedChunks("a chunk's size or a trailer can't be read")
        return line


def as_chunks(data: bytes) -> bytes:
    """A whole chunked body with this data."""
    return (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + b"0\r\n\r\n"
