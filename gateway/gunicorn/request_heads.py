"""Parses request heads. Nearly all heads are plain ones, which a single regular expression parses. gunicorn's parser
gets all others, from the same bytes, and parses or refuses them.

Two parsers must never disagree on a request, so a plain head is one that has a single interpretation: HTTP/1.1, a path,
complete lines, field names that are tokens, no duplicate of a field that may occur once, no transfer coding. Some heads
that gunicorn's parser accepts are refused after it: an invalid Host, transfer codings other than chunked, a
fragment."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from gunicorn.config import Config
from gunicorn.http import message, parser
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.errors import (
    InvalidHeader,
    InvalidRequestLine,
    LimitRequestHeaders,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.unreader import IterUnreader, SocketUnreader

from gateway.errors import GatewayError
from gateway.gunicorn.parser_settings import PARSER_SETTINGS
from gateway.hosts import read_host
from gateway.http_fields import CACHED_NAMES, TEXT, TOKEN
from gateway.proxy.path_validation import ABSOLUTE_FORM
from gateway.system.fair_scheduling import yield_now
from gateway.system.sockets import receive, receive_arrived, wait_until_readable

# A token without `_`: names with `_` are left to gunicorn's parser, which handles them by its setting header_map.
PLAIN_NAME = TOKEN.replace("_", "")
PLAIN_HEAD = re.compile(
    rf"({PLAIN_NAME}) (/(?!/)[\x21\x22\x24-\x7e]*+) HTTP/1\.1\r\n((?:{PLAIN_NAME}:{TEXT}\r\n)*+)\r\n"
)
LENGTH = re.compile(r"[0-9]{1,18}")
# Fields that decide how the request is parsed. Each may occur only once in a plain head.
SINGLE_FIELDS = frozenset(["HOST", "CONTENT-TYPE", "CONTENT-LENGTH", "CONNECTION"])
NOT_PLAIN_FIELDS = frozenset(["TRANSFER-ENCODING", "EXPECT"])
# The size of one read, and the least value of `max_head_bytes`.
MAX_PLAIN_BYTES = 8192
MAX_FIELDS = 100
ARRIVED_BYTES = 64 * 1024
# A request begins with a method, or with an empty line that servers skip (RFC 9112 2.2).
FIRST_BYTE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]|\r\n|\r\Z")


class HeadRefused(ParseException):  # type: ignore[misc]
    """gunicorn's parser refused the head because of `reason`. `request` has the parts that were parsed."""

    def __init__(self, request: Request, reason: ParseException) -> None:
        super().__init__(type(reason).__name__)
        self.request = request
        self.reason = reason


class Request(message.Request):  # type: ignore[misc]
    """A request whose head has been parsed. `body_length` is None if its body is chunked."""

    max_head_bytes = 65536
    body_length: int | None
    # Set for a refused request: the error to respond with.
    refusal: GatewayError | None = None
    # The bytes that gunicorn's parser got: the head, and what arrived after it.
    received = b""

    def __init__(self, cfg: Config, unreader: Any, peer_addr: Any, req_number: int = 1) -> None:
        data = unreader.take_buffered()
        if not data:
            # The client has just connected or received a response, so its next request has not arrived yet.
            wait_until_readable(getattr(unreader, "sock", None))
            data = unreader.chunk()
        if not data:
            # The client has closed the connection.
            raise StopIteration
        # On a unix socket the client has no IP address. gunicorn's parser then takes the scheme from forwarding
        # headers.
        if isinstance(peer_addr, tuple) and has_gateway_settings(cfg) and self._parse_plain(data, unreader):
            self.cfg = cfg
            self.unreader = unreader
            self.peer_addr = self.remote_addr = peer_addr
            self.req_number = req_number
            self.trailers: list[tuple[str, str]] = []
            self.scheme = "https" if is_tls(cfg) else "http"
            self.proxy_protocol_info = None
            self._expected_100_continue = False
        else:
            unreader.unread(data)
            try:
                super().__init__(cfg, unreader, peer_addr, req_number)
            except ParseException as error:
                raise HeadRefused(self, error) from error
            is_chunked = any(name == "TRANSFER-ENCODING" for name, _ in self.headers)
            length = next((value for name, value in self.headers if name == "CONTENT-LENGTH"), "0")
            self.body_length = None if is_chunked else int(length)
            # Checks all Connection fields: gunicorn compares only the whole value of the first one.
            has_close = any(name == "CONNECTION" and is_close(value) for name, value in self.headers)
            if has_close or self.method == "CONNECT":
                self.force_close()

    def _parse_plain(self, data: bytes, unreader: Any) -> bool:
        """Parses the data if it begins with a plain head, and sets the attributes of the request. Returns whether it
        does."""
        head = PLAIN_HEAD.match(data.decode("latin-1"))
        if head is None or head.end() > MAX_PLAIN_BYTES:
            return False
        lines = head[3].split("\r\n")[:-1]
        if len(lines) > MAX_FIELDS:
            return False
        fields, single = [], {"CONTENT-LENGTH": "0", "CONNECTION": ""}
        seen = set()
        for line in lines:
            sent_name, _, value = line.partition(":")
            name, value = upper(sent_name), value.strip(" \t")
            if name in SINGLE_FIELDS:
                if name in seen:
                    return False
                seen.add(name)
                single[name] = value
            elif name in NOT_PLAIN_FIELDS:
                return False
            fields.append((name, value))
        if "HOST" not in seen or read_host(single["HOST"]) is None:
            return False
        if LENGTH.fullmatch(single["CONTENT-LENGTH"]) is None:
            return False
        self.method, self.uri = head[1], head[2]
        path, _, query = head[2].partition("?")
        self.path, self.query, self.fragment = path, query, ""
        self.version = (1, 1)
        self.headers = fields
        self.body_length = int(single["CONTENT-LENGTH"])
        # A client may send the bytes of a tunnel after a CONNECT, whatever the response is (RFC 9110 9.3.6).
        self.must_close = self.method == "CONNECT" or is_close(single["CONNECTION"])
        if head.end() < len(data):
            unreader.unread(data[head.end() :])
        self.body = Body(LengthReader(unreader, self.body_length))
        return True

    def release(self) -> None:
        """Frees the memory of a finished request: the parser of an idle connection holds its last request."""
        # Connection fields stay for HTTP/1.0, as gunicorn calls `should_close` once more.
        self.headers = [] if self.version == (1, 1) else [pair for pair in self.headers if pair[0] == "CONNECTION"]
        self.uri = self.path = self.query = ""
        self.received = b""
        self.body.fields = self.headers

    def read_into(self, unreader: Any, buf: bytearray, stop: bool = False) -> None:
        """Reads the next bytes of the request line. After that line, reads the whole rest of the head at once: gunicorn
        would search all bytes again for each piece that arrives. Stops early at bytes that gunicorn's parser refuses.

        Raises InvalidRequestLine and LimitRequestHeaders."""
        if self.version is None:
            super().read_into(unreader, buf, stop)
            self.received = bytes(buf)
            if FIRST_BYTE.match(buf) is None:
                # Bytes that can't begin a request are refused at once. A TLS handshake on a plain port would otherwise
                # wait for the end of a line that never comes.
                raise InvalidRequestLine("")
            return
        is_whole = is_refused = False
        while not (is_whole or is_refused):
            # Few heads arrive in several pieces. Many such heads at once must not hold up other requests.
            yield_now()
            before = len(buf)
            super().read_into(unreader, buf)
            is_whole = buf.startswith(b"\r\n") or buf.find(b"\r\n\r\n", max(0, before - 3)) >= 0
            # gunicorn's parser refuses a line that ends with LF alone.
            is_refused = buf.count(b"\n", before) != buf.count(b"\r\n", max(0, before - 1))
            if not is_whole and len(buf) > self.max_head_bytes - self._line_bytes:
                self.received = b"\r\n" + buf
                raise LimitRequestHeaders("the head is too long")
        self.received = b"\r\n" + buf

    def parse_request_line(self, line_bytes: bytes) -> None:
        target = line_bytes.partition(b" ")[2].partition(b" ")[0]
        if b"#" in target:
            # Clients never send a fragment (RFC 9110 7.1), which may contain a token.
            raise InvalidRequestLine("a fragment")
        super().parse_request_line(line_bytes)
        # A higher minor version is processed as the highest supported one (RFC 9110 2.5).
        self.version = min(self.version, (1, 1))
        self._line_bytes = len(line_bytes)

    def parse_headers(self, data: bytes, from_trailer: bool = False) -> list[tuple[str, str]]:
        if not from_trailer and len(data) > self.max_head_bytes - self._line_bytes:
            raise LimitRequestHeaders("the head is too long")
        fields: list[tuple[str, str]] = super().parse_headers(data, from_trailer)
        return fields

    def set_body_reader(self) -> None:
        """Checks the head, in addition to gunicorn's own checks: refuses transfer codings and hosts that gunicorn
        accepts."""
        self._check_codings([value for name, value in self.headers if name == "TRANSFER-ENCODING"])
        super().set_body_reader()
        self._set_host([value for name, value in self.headers if name == "HOST"])

    def _check_codings(self, codings: list[str]) -> None:
        """Raises UnsupportedTransferCoding for all but a single `chunked`, the only coding that is decoded, and
        InvalidHeader for any coding in HTTP/1.0 or beside a Content-Length (RFC 9112 6.1)."""
        has_length = any(name == "CONTENT-LENGTH" for name, _ in self.headers)
        if codings and (self.version < (1, 1) or has_length):
            raise InvalidHeader("TRANSFER-ENCODING", req=self)
        if len(codings) > 1 or (codings and codings[0].lower() != "chunked"):
            raise UnsupportedTransferCoding("TRANSFER-ENCODING")

    def _set_host(self, hosts: list[str]) -> None:
        """Checks Host. If the target has the absolute form, replaces Host with the target's authority (RFC 9112
        3.2.2)."""
        if (not hosts and self.version >= (1, 1)) or any(read_host(value) is None for value in hosts):
            # Host is missing or invalid (RFC 9112 3.2).
            raise InvalidHeader("HOST", req=self)
        if absolute := ABSOLUTE_FORM.fullmatch(self.uri.partition("?")[0]):
            if read_host(absolute[1]) is None:
                raise InvalidRequestLine("the authority")
            # An empty path means / (RFC 9112 3.2.1).
            self.path = self.path or "/"
            self.headers = [("HOST", absolute[1]), *(field for field in self.headers if field[0] != "HOST")]

    def should_close(self) -> bool:
        """Whether the client wants the connection closed after the response."""
        return bool(self.must_close or (self.version != (1, 1) and super().should_close()))


class RequestParser(parser.RequestParser):  # type: ignore[misc]
    """Parses the requests of a connection."""

    mesg_class = Request

    def __init__(self, cfg: Config, source: Any, source_addr: Any) -> None:
        super().__init__(cfg, source, source_addr)
        self.unreader = Unreader(source) if hasattr(source, "recv") else SimulatedUnreader(source)

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        """Reads and discards the rest of the last request's body."""
        is_read = self.mesg is None or getattr(self.mesg.body, "is_read", False)
        return is_read or bool(super().finish_body(deadline, max_bytes))


class SimulatedUnreader(IterUnreader):  # type: ignore[misc]
    """Yields the bytes of a simulated request (`flask explain`)."""

    def arrived_chunk(self) -> bytes | None:
        chunk: bytes = self.chunk()
        return chunk


class Unreader(SocketUnreader):  # type: ignore[misc]
    """Reads the bytes that a client sends."""

    @property
    def has_more(self) -> bool:
        """Whether bytes after the last request have been read already."""
        return bool(self.buf.tell())

    def chunk(self, size_hint: int | None = None) -> bytes:
        return receive(self.sock, min(max(size_hint or 0, self.mxchunk), self.max_body_chunk))

    def arrived_chunk(self) -> bytes | None:
        """The bytes that have arrived; None if there are none. Does not wait."""
        return receive_arrived(self.sock, ARRIVED_BYTES)


@lru_cache(maxsize=CACHED_NAMES)
def upper(name: str) -> str:
    return name.upper()


def is_close(connection: str) -> bool:
    """Whether `close` is an option of a Connection header (RFC 9112 9.6)."""
    return bool(connection) and any(option.strip(" \t").lower() == "close" for option in connection.split(","))


@lru_cache(maxsize=8)
def has_gateway_settings(cfg: Config) -> bool:
    """Whether gunicorn's parser has the settings that the parser for plain heads implements."""
    expected = Config()
    for name, value in PARSER_SETTINGS.items():
        expected.set(name, value)
    names = [*PARSER_SETTINGS, "proxy_protocol"]
    return all(cfg.settings[name].get() == expected.settings[name].get() for name in names)


@lru_cache(maxsize=8)
def is_tls(cfg: Config) -> bool:
    return bool(cfg.is_ssl)
