"""HTTP/1.1 message heads: formats request heads, and parses response heads strictly (RFC 9112). No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from gateway.errors import UpstreamProtocolError
from gateway.http_fields import TEXT, TOKEN, HeaderPairs

MAX_HEAD_BYTES = 64 * 1024

STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
HEADER = re.compile(rf"((?:{TOKEN}:{TEXT}\r\n)*+)\r\n")
# Finds name and value, without the whitespace around the value, in each line of a header that HEADER has matched.
FIELD = re.compile(r"([^:]++):[\t ]*+((?:[^\r]*[^\r\t ])?)[\t ]*\r\n")
LENGTH = re.compile(r"[0-9]{1,18}")
KEEP_ALIVE_TIMEOUT = re.compile(r"(?i)(?:^|[,;\s])timeout\s*=\s*\"?([0-9]{1,9})")

EVENT_STREAM = "text/event-stream"
STREAM_TYPES = (
    EVENT_STREAM,
    "application/jsonl",
    "application/x-ndjson",
    "application/ndjson",
    "application/json-seq",
    "multipart/x-mixed-replace",
)


class ResponseHead(NamedTuple):
    """A parsed response head. `length` is the body's size in bytes, None if the body is chunked or ends with the
    connection. `reusable` is whether the connection may serve another request once the body has been read.
    `keep_alive_seconds` is how long the service keeps an idle connection open, if its Keep-Alive header says so."""

    status: int
    reason: str
    headers: HeaderPairs
    chunked: bool
    length: int | None
    reusable: bool
    keep_alive_seconds: int | None = None

    @property
    def stream_type(self) -> str:
        """The media type if the body is a stream without a known end (server-sent events, JSON lines and the like),
        else empty."""
        if not self.chunked and self.length is not None:
            return ""
        types = (value.lower() for name, value in self.headers if name.lower() == "content-type")
        return next((kind for text in types for kind in STREAM_TYPES if text.startswith(kind)), "")


def request_head(method: str, request_target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The bytes of a request line and header. Does not validate: the callers pass values that were validated before."""
    lines = [f"{method} {request_target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1")


def parse_response_head(head: bytes, method: str) -> ResponseHead:
    """Parses the head, up to its empty line, of a response to a request with `method`. Raises UpstreamProtocolError."""
    text = head.decode("latin-1")
    start = STATUS_LINE.match(text)
    if start is None:
        raise UpstreamProtocolError("the status line is malformed")
    header = HEADER.fullmatch(text, start.end())
    if header is None:
        raise UpstreamProtocolError("a header field is malformed")
    headers: HeaderPairs = FIELD.findall(header[1])
    status = int(start[2])
    chunked, length, persistent, keep_alive_seconds = framing(headers, http_1_0=start[1] == "0")
    if status in (204, 304) or status < 200:
        # These responses have no content. If one announces content, a faulty service may send it, and it would be taken
        # for the next response on the connection (RFC 9112 6.3, 11.1). A 304 may have the Content-Length of the 200.
        if chunked or (length and status != 304):
            persistent = False
        chunked, length = False, 0
    elif method == "HEAD":
        chunked, length = False, 0
    reusable = persistent and (chunked or length is not None)
    return ResponseHead(status, start[3] or "", headers, chunked, length, reusable, keep_alive_seconds)


def framing(headers: HeaderPairs, *, http_1_0: bool) -> tuple[bool, int | None, bool, int | None]:
    """How a response and its connection end, by RFC 9112 6.3 and 9.3: (whether the body is chunked, its Content-Length,
    whether the connection is persistent, the seconds of Keep-Alive). Raises UpstreamProtocolError."""
    length: int | None = None
    keep_alive_seconds: int | None = None
    chunked = False
    persistent = not http_1_0
    for name, value in headers:
        lower = name.lower()
        if lower == "content-length":
            if length is not None or not LENGTH.fullmatch(value):
                raise UpstreamProtocolError("Content-Length is not one number")
            length = int(value)
        elif lower == "transfer-encoding":
            # Two recipients can disagree about anything but a single "chunked".
            if chunked or value.lower() != "chunked" or http_1_0:
                raise UpstreamProtocolError("Transfer-Encoding is not just chunked")
            chunked = True
        elif lower == "connection":
            options = value.lower()
            if "close" in options:
                persistent = False
            elif http_1_0 and "keep-alive" in options:
                persistent = True
        elif lower == "keep-alive":
            keep_alive_seconds = keep_alive_timeout(value)
    if chunked and length is not None:
        raise UpstreamProtocolError("the response has both Content-Length and Transfer-Encoding")
    return chunked, length, persistent, keep_alive_seconds


@lru_cache(maxsize=256)
def keep_alive_timeout(value: str) -> int | None:
    """The seconds of `Keep-Alive: timeout=5, max=100` (RFC 2068 19.7.1.1), None if there are none."""
    found = KEEP_ALIVE_TIMEOUT.search(value)
    return int(found[1]) if found else None
