"""Writes responses to clients: frames the body, adds Date and Connection, and closes connections cleanly."""

from __future__ import annotations

import errno
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from types import TracebackType
from typing import Any

from gunicorn.http.errors import InvalidResponseHeader

from gateway.errors import ClientDisconnected
from gateway.gunicorn.request_bodies import ClientStream
from gateway.gunicorn.request_heads import Request
from gateway.gunicorn.slow_clients import ClientTimeouts
from gateway.http_fields import CACHED_NAMES, HOP_BY_HOP, TEXT, TOKEN
from gateway.system.fair_scheduling import yield_now
from gateway.system.sockets import receive, send_all

LINGER_SECONDS = 2.0
LINGER_BYTES = 16 * 1024 * 1024

STATUS = re.compile(rf"[1-9][0-9]{{2}} {TEXT}")
HEADER = re.compile(rf"(?:{TOKEN}: {TEXT}\r\n)*+")
# Fields that an interim response can't have; it has no content (RFC 9110 8.6).
NOT_INTERIM = HOP_BY_HOP | {"content-length"}
ExcInfo = tuple[type[BaseException], BaseException, TracebackType]


class Response:
    """Writes one response. Replaces gunicorn's class."""

    timeouts = ClientTimeouts()

    def __init__(self, req: Request, sock: socket.socket, cfg: Any) -> None:  # noqa: ARG002 - gunicorn's
        self.req = req
        self.sock = sock
        # `status`, `headers` and `sent` are for gunicorn's own access log.
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.sent = 0
        # True from the first byte of the response on: no other response can be sent then.
        self.headers_sent = False
        self._must_close = False
        self._has_body = True
        self._is_chunked = False
        # The number of body bytes that have not been sent yet; None without Content-Length.
        self._unsent: int | None = None
        # The head, which is sent together with the first piece of the body.
        self._head = b""
        self._head_timeout = sock.gettimeout()
        sock.settimeout(self.timeouts.piece_seconds)
        self._stream = ClientStream(req, sock, self.timeouts)
        req.body = self._stream
        # With True, gunicorn would send 100 Continue at once.
        req._expected_100_continue = False

    def force_close(self) -> None:
        """Makes the connection close after this response."""
        self._must_close = True

    def should_close(self) -> bool:
        """Whether the connection is closed after this response."""
        return self._must_close or self.req.should_close()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Begins the response. Raises InvalidResponseHeader for an invalid status or field: no value can add a line or
        end the header."""
        if self.headers_sent and exc_info:
            raise exc_info[1]
        if self.status and not exc_info:
            raise AssertionError("the response has been started")
        if STATUS.fullmatch(status) is None:
            raise InvalidResponseHeader("the status line")
        self.status, self.headers = status, headers
        code = int(status[:3])
        can_have_length = code >= 200 and code != 204
        self._has_body = can_have_length and code != 304 and self.req.method != "HEAD"
        length, has_date, lines = None, False, []
        for name, value in headers:
            if special := special_name(name):
                if special == "date":
                    has_date = True
                elif special == "content-length" and can_have_length:
                    length = int(value)
                else:
                    continue
            lines.append(f"{name}: {value}\r\n")
        header = "".join(lines)
        if HEADER.fullmatch(header) is None or header.count("\r\n") != len(lines):
            raise InvalidResponseHeader(next(line for line in lines if not is_field(line)).partition(":")[0])
        self._frame(length if self._has_body else None)
        self._head = "".join([*self._first_lines(has_date), header, "\r\n"]).encode("latin-1")
        return self.write

    def send_interim(self, code: int, reason: str, fields: list[tuple[str, str]]) -> None:
        """Sends an interim response at once (RFC 9110 15.2). Does nothing once the final response has begun, and for
        HTTP/1.0, which has no interim responses. Raises ClientDisconnected, InvalidResponseHeader."""
        if self.status or self.req.version < (1, 1):
            return
        lines = [f"{name}: {value}\r\n" for name, value in fields if name.lower() not in NOT_INTERIM]
        status, header = f"{code} {reason}", "".join(lines)
        if STATUS.fullmatch(status) is None or HEADER.fullmatch(header) is None or header.count("\n") != len(lines):
            raise InvalidResponseHeader("an interim response")
        try:
            send_all(self.sock, f"HTTP/1.1 {status}\r\n{header}\r\n".encode("latin-1"))
        except OSError as error:
            raise ClientDisconnected("an interim response could not be sent") from error

    def _frame(self, length: int | None) -> None:
        """Decides how the client knows the end of the body (RFC 9112 6.3)."""
        self._unsent = length
        self._is_chunked = self._has_body and length is None and self.req.version > (1, 0)
        ends_with_connection = self._has_body and length is None and not self._is_chunked
        if ends_with_connection or not self._stream.can_be_drained:
            self.force_close()
        # From here on, 100 Continue would get into the response, during which the application may still read the body.
        self._stream.expects_continue = False

    def _first_lines(self, has_date: bool) -> list[str]:
        major, minor = self.req.version
        lines = [f"HTTP/{major}.{minor} {self.status}\r\n"]
        # If the origin has sent no Date, the gateway adds one (RFC 9110 6.6.1).
        if not has_date:
            lines.append(date_line(int(time.time())))
        lines.append("Connection: close\r\n" if self.should_close() else "Connection: keep-alive\r\n")
        if self._is_chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        return lines

    def write(self, piece: bytes) -> None:
        """Sends a piece of the body, or only the head if the piece is empty. Never sends more bytes than Content-Length
        says."""
        if not self._has_body:
            piece = b""
        elif self._unsent is not None:
            piece = piece[: self._unsent]
            self._unsent -= len(piece)
        self.sent += len(piece)
        if self._is_chunked and piece:
            piece = b"%X\r\n%b\r\n" % (len(piece), piece)
        self._send(piece)

    def write_file(self, pieces: Iterable[bytes]) -> None:
        """Sends a file. Called for an application that uses gunicorn's `wsgi.file_wrapper`."""
        for piece in pieces:
            self.write(piece)

    def _send(self, data: bytes) -> None:
        head, self._head, self.headers_sent = self._head, b"", True
        if not head and not data:
            return
        try:
            send_all(self.sock, head + data)
        except TimeoutError as error:
            # gunicorn closes the connection on a ConnectionResetError, and would log a TimeoutError as an error of the
            # server.
            raise ConnectionResetError(errno.ECONNRESET, "the client stopped reading") from error

    def close(self) -> None:
        """Ends the body."""
        self._send(b"0\r\n\r\n" if self._is_chunked else b"")
        if self._unsent:
            # The body is too short, so the client would read the next response as the rest of it.
            self.force_close()

    def finish(self) -> None:
        """Prepares the connection for the next request, or closes it cleanly. Called last, when all resources of the
        request are released: lingering for a client that still sends its body may take two seconds."""
        if self.should_close():
            if not self._stream.is_read:
                linger(self.sock)
            elif isinstance(self.sock, ssl.SSLSocket):
                end_tls(self.sock)
        # The next request head has a timeout of its own.
        with suppress(OSError):
            self.sock.settimeout(self._head_timeout)


@lru_cache(maxsize=CACHED_NAMES)
def special_name(name: str) -> str:
    """Returns the name in lower case if the field is about framing, the connection or the date; otherwise an empty
    string."""
    lower = name.lower()
    return lower if lower in HOP_BY_HOP or lower in ("content-length", "date") else ""


def is_field(line: str) -> bool:
    return HEADER.fullmatch(line) is not None and line.count("\r\n") == 1


@lru_cache(maxsize=2)
def date_line(now: int) -> str:
    return f"Date: {formatdate(now, usegmt=True)}\r\n"


def end_tls(sock: ssl.SSLSocket) -> None:
    """Sends TLS close_notify without waiting for the client's (RFC 9112 9.8, RFC 8446 6.1). Without close_notify, a
    body that ends with the connection looks truncated."""
    with suppress(OSError, ValueError):
        sock.settimeout(0)
        sock.unwrap()


def linger(sock: socket.socket) -> None:
    """Reads and discards bytes for a moment after the last byte was sent. Closing a connection with unread bytes resets
    it, and the client could lose the response (RFC 9112 9.6). TLS data is not decrypted."""
    deadline, budget = time.monotonic() + LINGER_SECONDS, LINGER_BYTES
    if isinstance(sock, ssl.SSLSocket):
        end_tls(sock)
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while budget > 0 and (remaining := deadline - time.monotonic()) > 0:
            # Other greenlets go first, as these bytes are discarded anyway.
            yield_now()
            sock.settimeout(remaining)
            data = receive(sock, 64 * 1024)
            if not data:
                return
            budget -= len(data)
