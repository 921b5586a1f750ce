"""How answers are written to clients: framed for them, with the origin's Date, within time limits."""

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
from gateway.gunicorn.request_bodies import ClientStream, Patience
from gateway.gunicorn.request_heads import Request
from gateway.http_fields import CACHED_NAMES, TEXT, TOKEN
from gateway.system.sockets import receive, send_all
from gateway.system.time_slice import yield_now

LINGER_SECONDS = 2.0
LINGER_BYTES = 16 * 1024 * 1024

STATUS = re.compile(rf"[1-9][0-9]{{2}} {TEXT}")
HEADER = re.compile(rf"(?:{TOKEN}: {TEXT}\r\n)*+")
# Connection-specific (RFC 9110 7.6.1): said here, or nowhere.
HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization te trailer trailers transfer-encoding upgrade".split()
)
# It has no content (RFC 9110 8.6).
NOT_INTERIM = HOP_BY_HOP | {"content-length"}
ExcInfo = tuple[type[BaseException], BaseException, TracebackType]


class Response:
    """One answer, in the place of gunicorn's own class."""

    patience = Patience()

    def __init__(self, req: Request, sock: socket.socket, cfg: Any) -> None:  # noqa: ARG002 - gunicorn's
        self.req = req
        self.sock = sock
        # Asked for by gunicorn's own log, where somebody wants that.
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.sent = 0
        # Whether it is too late for another answer.
        self.headers_sent = False
        self._must_close = False
        self._has_body = True
        self._is_chunked = False
        # Of a body whose length has been told, what has not been sent.
        self._unsent: int | None = None
        # Made, and not sent yet: it goes out together with the first piece.
        self._head = b""
        self._own_timeout = sock.gettimeout()
        sock.settimeout(self.patience.piece_seconds)
        self._stream = ClientStream(req, sock, self.patience)
        req.body = self._stream
        # Or gunicorn would send it at once.
        req._expected_100_continue = False

    def force_close(self) -> None:
        """Has the connection end with this answer."""
        self._must_close = True

    def should_close(self) -> bool:
        """Whether the connection ends with this answer."""
        return self._must_close or self.req.should_close()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Raises InvalidResponseHeader for what is no header: nobody can put a line into it, or end it."""
        if self.headers_sent and exc_info:
            raise exc_info[1]
        if self.status and not exc_info:
            raise AssertionError("the answer has been started")
        if STATUS.fullmatch(status) is None:
            raise InvalidResponseHeader("the status line")
        self.status, self.headers = status, headers
        code = int(status[:3])
        may_have_length = code >= 200 and code != 204
        self._has_body = may_have_length and code != 304 and self.req.method != "HEAD"
        length, has_date, lines = None, False, []
        for name, value in headers:
            if special := special_name(name):
                if special == "date":
                    has_date = True
                elif special == "content-length" and may_have_length:
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
        """Sends an interim answer at once (RFC 9110 15.2): only before the final one, and to no client of HTTP/1.0,
        which does not know them. Raises ClientDisconnected, InvalidResponseHeader."""
        if self.status or self.req.version < (1, 1):
            return
        lines = [f"{name}: {value}\r\n" for name, value in fields if name.lower() not in NOT_INTERIM]
        status, header = f"{code} {reason}", "".join(lines)
        if STATUS.fullmatch(status) is None or HEADER.fullmatch(header) is None or header.count("\n") != len(lines):
            raise InvalidResponseHeader("an interim answer")
        try:
            send_all(self.sock, f"HTTP/1.1 {status}\r\n{header}\r\n".encode("latin-1"))
        except OSError as error:
            raise ClientDisconnected("the client does not take an interim answer") from error

    def _frame(self, length: int | None) -> None:
        """Decides how the body ends (RFC 9112 6.3)."""
        self._unsent = length
        self._is_chunked = self._has_body and length is None and self.req.version > (1, 0)
        ends_with_connection = self._has_body and length is None and not self._is_chunked
        if ends_with_connection or not self._stream.can_be_drained:
            self.force_close()
        # An upload may go on behind the answer's head, where 100 Continue would be taken for a part of the answer.
        self._stream.expects_continue = False

    def _first_lines(self, has_date: bool) -> list[str]:
        major, minor = self.req.version
        lines = [f"HTTP/{major}.{minor} {self.status}\r\n"]
        # An origin with a clock says when (RFC 9110 6.6.1); where it does not, the gateway does.
        if not has_date:
            lines.append(date_line(int(time.time())))
        lines.append("Connection: close\r\n" if self.should_close() else "Connection: keep-alive\r\n")
        if self._is_chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        return lines

    def write(self, piece: bytes) -> None:
        """Sends a piece of the body; without bytes, the head alone. Never more than the length that was told."""
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
        """What gunicorn asks for where an application uses its `wsgi.file_wrapper`."""
        for piece in pieces:
            self.write(piece)

    def _send(self, data: bytes) -> None:
        head, self._head, self.headers_sent = self._head, b"", True
        if not head and not data:
            return
        try:
            send_all(self.sock, head + data)
        except TimeoutError as error:
            # gunicorn knows how to end a connection that the client reset, and logs everything else as its own fault.
            raise ConnectionResetError(errno.ECONNRESET, "the client stopped reading") from error

    def close(self) -> None:
        """The answer is whole."""
        self._send(b"0\r\n\r\n" if self._is_chunked else b"")
        if self._unsent:
            # What comes next would be taken for the rest.
            self.force_close()

    def finish(self) -> None:
        """Leaves the connection to the next request, or to its end. Called last, when everything else that the request
        held has been given back: a client that still sends its body may take two seconds to see the answer."""
        if self.should_close():
            if not self._stream.is_read:
                linger(self.sock)
            elif isinstance(self.sock, ssl.SSLSocket):
                end_tls(self.sock)
        # The next request's head is not to be hurried; its deadline is another.
        with suppress(OSError):
            self.sock.settimeout(self._own_timeout)


@lru_cache(maxsize=CACHED_NAMES)
def special_name(name: str) -> str:
    """The name in lower case where the field says how the answer is sent, or when it was made; else nothing."""
    lower = name.lower()
    return lower if lower in HOP_BY_HOP or lower in ("content-length", "date") else ""


def is_field(line: str) -> bool:
    return HEADER.fullmatch(line) is not None and line.count("\r\n") == 1


@lru_cache(maxsize=2)
def date_line(now: int) -> str:
    return f"Date: {formatdate(now, usegmt=True)}\r\n"


def end_tls(sock: ssl.SSLSocket) -> None:
    """Says by TLS that nothing more comes (RFC 9112 9.8, RFC 8446 6.1), without waiting for the client to say so, too:
    what only a connection's end can end would otherwise look cut."""
    with suppress(OSError, ValueError):
        sock.settimeout(0)
        sock.unwrap()


def linger(sock: socket.socket) -> None:
    """Reads on for a moment after the last byte was sent: closing with bytes unread would reset the connection, and
    the client would never see why (RFC 9112 9.6). What is read is not even decrypted."""
    deadline, budget = time.monotonic() + LINGER_SECONDS, LINGER_BYTES
    if isinstance(sock, ssl.SSLSocket):
        end_tls(sock)
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while budget > 0 and (remaining := deadline - time.monotonic()) > 0:
            # What is thrown away can wait until those who are to be served have had their turn.
            yield_now()
            sock.settimeout(remaining)
            data = receive(sock, 64 * 1024)
            if not data:
                return
            budget -= len(data)
