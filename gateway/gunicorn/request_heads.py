"""Reads the heads of requests: plain ones, which are nearly all, in one step; whatever is not plain, gunicorn's parser
reads, or refuses, from the same bytes.

Two readers of one message must not differ, so plain is only what leaves no choice: HTTP/1.1, a path, whole lines,
fields whose names are tokens, no field twice that may be there once, no transfer coding. What gunicorn takes and the
gateway does not is refused after its parser: a Host that is none, transfer codings, a fragment.
"""

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
from gateway.gunicorn.parser_settings import MESSAGE_RULES
from gateway.hosts import read_host
from gateway.http_fields import CACHED_NAMES, TEXT, TOKEN
from gateway.proxy.path_validation import ABSOLUTE_FORM
from gateway.system.sockets import receive, receive_arrived, wait_for_answer
from gateway.system.time_slice import yield_now

# A token without _, of which header_map decides.
PLAIN_NAME = TOKEN.replace("_", "")
PLAIN_HEAD = re.compile(
    rf"({PLAIN_NAME}) (/(?!/)[\x21\x22\x24-\x7e]*+) HTTP/1\.1\r\n((?:{PLAIN_NAME}:{TEXT}\r\n)*+)\r\n"
)
LENGTH = re.compile(r"[0-9]{1,18}")
# They say how the message is to be read, and each may be there once.
DECIDING = frozenset(["HOST", "CONTENT-TYPE", "CONTENT-LENGTH", "CONNECTION"])
NOT_PLAIN = frozenset(["TRANSFER-ENCODING", "EXPECT"])
# As much as is read at once, and no more than the shortest `max_head_bytes`.
MOST_BYTES = 8192
MOST_FIELDS = 100
ARRIVED_BYTES = 64 * 1024
# What a message may begin with: a method, or the empty line that RFC 9112 2.2 has servers skip.
BEGINNING = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]|\r\n|\r\Z")


class HeadRefused(ParseException):  # type: ignore[misc]
    """The head is refused, by `reason`; `request` has what was read of it by then."""

    def __init__(self, request: Request, reason: ParseException) -> None:
        super().__init__(type(reason).__name__)
        self.request = request
        self.reason = reason


class Request(message.Request):  # type: ignore[misc]
    """A request whose head has been read. `body_length` is None where its body is chunked."""

    max_head_bytes = 65536
    body_length: int | None
    # The answer to a message that is refused, and to no other.
    refusal: GatewayError | None = None
    # The head as gunicorn's parser gets it, with what came behind it.
    received = b""

    def __init__(self, cfg: Config, unreader: Any, peer_addr: Any, req_number: int = 1) -> None:
        data = unreader.take_buffered()
        if not data:
            # It has been answered just now, or just connected.
            wait_for_answer(getattr(unreader, "sock", None))
            data = unreader.chunk()
        if not data:
            # The client has nothing more to ask.
            raise StopIteration
        # gunicorn believes a unix socket's peer about the scheme.
        if isinstance(peer_addr, tuple) and allows_plain(cfg) and self._read_plain(data, unreader):
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
            # gunicorn looks at the first of these fields only, and at its value as a whole.
            asks_to_close = any(name == "CONNECTION" and is_close(value) for name, value in self.headers)
            if asks_to_close or self.method == "CONNECT":
                self.force_close()

    def _read_plain(self, data: bytes, unreader: Any) -> bool:
        """Whether the data begins with a plain head, which is read then."""
        head = PLAIN_HEAD.match(data.decode("latin-1"))
        if head is None or head.end() > MOST_BYTES:
            return False
        lines = head[3].split("\r\n")[:-1]
        if len(lines) > MOST_FIELDS:
            return False
        fields, decided = [], {"CONTENT-LENGTH": "0", "CONNECTION": ""}
        seen = set()
        for line in lines:
            sent_name, _, value = line.partition(":")
            name, value = in_capitals(sent_name), value.strip(" \t")
            if name in DECIDING:
                if name in seen:
                    return False
                seen.add(name)
                decided[name] = value
            elif name in NOT_PLAIN:
                return False
            fields.append((name, value))
        if "HOST" not in seen or read_host(decided["HOST"]) is None:
            return False
        if LENGTH.fullmatch(decided["CONTENT-LENGTH"]) is None:
            return False
        self.method, self.uri = head[1], head[2]
        path, _, query = head[2].partition("?")
        self.path, self.query, self.fragment = path, query, ""
        self.version = (1, 1)
        self.headers = fields
        self.body_length = int(decided["CONTENT-LENGTH"])
        # Behind a CONNECT come the bytes of a tunnel, whatever was answered (RFC 9110 9.3.6).
        self.must_close = self.method == "CONNECT" or is_close(decided["CONNECTION"])
        if head.end() < len(data):
            unreader.unread(data[head.end() :])
        self.body = Body(LengthReader(unreader, self.body_length))
        return True

    def release(self) -> None:
        """Drops what was read of a request that has been answered: gunicorn's parser holds the last request of each
        idle connection."""
        # HTTP/1.0 is asked once more whether the connection goes on.
        self.headers = [] if self.version == (1, 1) else [pair for pair in self.headers if pair[0] == "CONNECTION"]
        self.uri = self.path = self.query = ""
        self.received = b""
        self.body.fields = self.headers

    def read_into(self, unreader: Any, buf: bytearray, stop: bool = False) -> None:
        """Reads on: a piece of the request line, then until `buf` has the rest of the head, or what gunicorn's parser
        refuses as it is. That would look through all of it again for each piece that comes.

        Raises InvalidRequestLine and LimitRequestHeaders."""
        if self.version is None:
            super().read_into(unreader, buf, stop)
            self.received = bytes(buf)
            if BEGINNING.match(buf) is None:
                # Of what is no HTTP, a line's end may never come: TLS, where it is not spoken.
                raise InvalidRequestLine("")
            return
        is_whole = is_refused = False
        while not (is_whole or is_refused):
            # Few heads come in several pieces; a crowd of them is not to be read in one go.
            yield_now()
            before = len(buf)
            super().read_into(unreader, buf)
            is_whole = buf.startswith(b"\r\n") or buf.find(b"\r\n\r\n", max(0, before - 3)) >= 0
            # For a line that ends with LF alone.
            is_refused = buf.count(b"\n", before) != buf.count(b"\r\n", max(0, before - 1))
            if not is_whole and len(buf) > self.max_head_bytes - self._line_bytes:
                self.received = b"\r\n" + buf
                raise LimitRequestHeaders("the head is too long")
        self.received = b"\r\n" + buf

    def parse_request_line(self, line_bytes: bytes) -> None:
        target = line_bytes.partition(b" ")[2].partition(b" ")[0]
        if b"#" in target:
            # A fragment is for the client alone (RFC 9110 7.1), and may hold its token.
            raise InvalidRequestLine("a fragment")
        super().parse_request_line(line_bytes)
        # RFC 9110 2.5: a higher minor version is understood as the highest one that is known.
        self.version = min(self.version, (1, 1))
        self._line_bytes = len(line_bytes)

    def parse_headers(self, data: bytes, from_trailer: bool = False) -> list[tuple[str, str]]:
        if not from_trailer and len(data) > self.max_head_bytes - self._line_bytes:
            raise LimitRequestHeaders("the head is too long")
        fields: list[tuple[str, str]] = super().parse_headers(data, from_trailer)
        return fields

    def set_body_reader(self) -> None:
        """Checks what gunicorn leaves open in a header, too."""
        self._check_codings([value for name, value in self.headers if name == "TRANSFER-ENCODING"])
        super().set_body_reader()
        self._decide_host([value for name, value in self.headers if name == "HOST"])

    def _check_codings(self, codings: list[str]) -> None:
        """Raises UnsupportedTransferCoding for anything but a single `chunked`: the service gets the body decoded of
        that alone. In HTTP/1.0, and beside a length, gunicorn refuses any (RFC 9112 6.1)."""
        has_length = any(name == "CONTENT-LENGTH" for name, _ in self.headers)
        if codings and (self.version < (1, 1) or has_length):
            raise InvalidHeader("TRANSFER-ENCODING", req=self)
        if len(codings) > 1 or (codings and codings[0].lower() != "chunked"):
            raise UnsupportedTransferCoding("TRANSFER-ENCODING")

    def _decide_host(self, sent: list[str]) -> None:
        """Checks Host, and puts the authority of a target in absolute form in its place (RFC 9112 3.2.2)."""
        if (not sent and self.version >= (1, 1)) or any(read_host(value) is None for value in sent):
            # RFC 9112 3.2.
            raise InvalidHeader("HOST", req=self)
        if absolute := ABSOLUTE_FORM.fullmatch(self.uri.partition("?")[0]):
            if read_host(absolute[1]) is None:
                raise InvalidRequestLine("the authority")
            # An empty path is the root's (RFC 9112 3.2.1).
            self.path = self.path or "/"
            self.headers = [("HOST", absolute[1]), *(field for field in self.headers if field[0] != "HOST")]

    def should_close(self) -> bool:
        """Whether the connection ends with the answer to this request, as far as the request says."""
        return bool(self.must_close or (self.version != (1, 1) and super().should_close()))


class RequestParser(parser.RequestParser):  # type: ignore[misc]
    """The requests of a connection."""

    mesg_class = Request

    def __init__(self, cfg: Config, source: Any, source_addr: Any) -> None:
        super().__init__(cfg, source, source_addr)
        self.unreader = Unreader(source) if hasattr(source, "recv") else Pieces(source)

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        """Reads what is left of the last request's body, if there is anything."""
        is_read = self.mesg is None or getattr(self.mesg.body, "is_read", False)
        return is_read or bool(super().finish_body(deadline, max_bytes))


class Pieces(IterUnreader):  # type: ignore[misc]
    """A message that is not sent by anybody: `flask explain` makes it."""

    def chunk_arrived(self) -> bytes | None:
        piece: bytes = self.chunk()
        return piece


class Unreader(SocketUnreader):  # type: ignore[misc]
    """What a client sends, as it comes."""

    @property
    def has_more(self) -> bool:
        """Whether bytes behind the last request have been read already."""
        return bool(self.buf.tell())

    def chunk(self, size_hint: int | None = None) -> bytes:
        return receive(self.sock, min(max(size_hint or 0, self.mxchunk), self.max_body_chunk))

    def chunk_arrived(self) -> bytes | None:
        """What has arrived by now, None where nothing has."""
        return receive_arrived(self.sock, ARRIVED_BYTES)


@lru_cache(maxsize=CACHED_NAMES)
def in_capitals(name: str) -> str:
    return name.upper()


def is_close(connection: str) -> bool:
    """Whether `close` is among the options of a Connection field (RFC 9112 9.6)."""
    return bool(connection) and any(option.strip(" \t").lower() == "close" for option in connection.split(","))


@lru_cache(maxsize=8)
def allows_plain(cfg: Config) -> bool:
    """Whether gunicorn is set to read messages as they are read here."""
    meant = Config()
    for name, value in MESSAGE_RULES.items():
        meant.set(name, value)
    names = [*MESSAGE_RULES, "proxy_protocol"]
    return all(cfg.settings[name].get() == meant.settings[name].get() for name in names)


@lru_cache(maxsize=8)
def is_tls(cfg: Config) -> bool:
    return bool(cfg.is_ssl)
