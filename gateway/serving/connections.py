"""How gunicorn reads requests and writes answers for the gateway, on any of its workers.

gunicorn offers no setting for the class that writes a response, so `install` puts the gateway's in its place.
"""

from __future__ import annotations

import errno
import socket
import ssl
import time
from contextlib import suppress
from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.wsgi import Response as GunicornResponse

# An unread rest of a body up to this is read and thrown away, to keep the connection; beyond it, the connection goes.
DRAINED_BYTES = 64 * 1024
# A body may begin as slowly as it likes, for so long.
PACE_GRACE_SECONDS = 5.0
LINGER_SECONDS = 2.0
LINGER_BYTES = 16 * 1024 * 1024


def install(client_timeout_seconds: float, min_body_bytes_per_second: int) -> None:
    """Puts the gateway's ways in place of gunicorn's, in the process and those forked from it."""
    Response.client_timeout_seconds = client_timeout_seconds
    Response.min_body_bytes_per_second = min_body_bytes_per_second
    wsgi.Response = Response


class ClientStream:
    """A request's body as `wsgi.input`, with what WSGI does not tell: `fields`, the header with duplicates apart.

    100 Continue is sent when the body is asked for, not before: a request that is refused must not send it at all
    (RFC 9110 10.1.1)."""

    def __init__(self, body: Any, sock: socket.socket, fields: list[tuple[str, str]], expects_continue: bool) -> None:
        self._body = body
        self._socket = sock
        self.fields = fields
        self.expects_continue = expects_continue
        self.failed = False
        self.received = 0
        length = next((value for name, value in fields if name == "CONTENT-LENGTH"), None)
        chunked = any(name == "TRANSFER-ENCODING" for name, _ in fields)
        # None: not known, as it is chunked.
        self._unread: int | None = None if chunked else int(length or 0)

    def read(self, size: int = -1) -> bytes:
        if self.expects_continue:
            self.expects_continue = False
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            data: bytes = self._body.read(None if size < 0 else size)
        except BaseException:
            self.failed = True
            raise
        self.received += len(data)
        if self._unread is not None:
            self._unread -= len(data)
        elif not data:
            self._unread = 0
        return data

    def readline(self, size: int = -1) -> bytes:
        raise NotImplementedError("the gateway reads bodies as bytes, not as lines")

    @property
    def has_body(self) -> bool:
        return self._unread != 0

    @property
    def can_be_drained(self) -> bool:
        """Whether what is left is little enough to read, so that the connection can take another request."""
        return (
            not self.failed
            and not (self.expects_continue and self._unread != 0)
            and self._unread is not None
            and self._unread <= DRAINED_BYTES
        )


class Paced:
    """A client's socket while a body is read from it: one that comes in too slowly is a timeout.

    Only the time spent waiting for the client counts; that its service takes the body slowly is not its fault."""

    def __init__(self, sock: socket.socket, min_bytes_per_second: int) -> None:
        self._socket = sock
        self._min_bytes_per_second = min_bytes_per_second
        self._waited = 0.0
        self._received = 0

    def recv(self, size: int) -> bytes:
        started = time.monotonic()
        data = self._socket.recv(size)
        self._waited += time.monotonic() - started
        self._received += len(data)
        if self._waited > PACE_GRACE_SECONDS and self._received < self._waited * self._min_bytes_per_second:
            raise TimeoutError("the body comes in too slowly")
        return data


class Response(GunicornResponse):  # type: ignore[misc]
    """gunicorn's response, less its own Server, with the upstream's Date, and with time limits on the client."""

    client_timeout_seconds = 30.0
    min_body_bytes_per_second = 0

    def __init__(self, req: Any, sock: socket.socket, cfg: Any) -> None:
        super().__init__(req, sock, cfg)
        self._own_timeout = sock.gettimeout()
        self._head = b""
        self.headers_sent: bool = False
        self._stream: ClientStream | None = None
        if req.body is None:
            # gunicorn makes one for its log, too, where it could not make sense of the request's framing.
            return
        sock.settimeout(self.client_timeout_seconds)
        self._stream = ClientStream(req.body, sock, req.headers, req._expected_100_continue)
        req.body = self._stream
        if self.min_body_bytes_per_second and self._stream.has_body:
            req.unreader.sock = Paced(sock, self.min_body_bytes_per_second)
        # Or gunicorn would send it at once.
        req._expected_100_continue = False

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if self._stream is None or not self._stream.can_be_drained or asks_to_close(self.req.headers):
            self.force_close()
        return super().start_response(status, headers, exc_info)

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        super().process_headers(headers)
        # gunicorn takes these for hop-by-hop; they are the origin's to say (RFC 9110 6.6.1, 10.2.4).
        self.headers += [(name, value) for name, value in headers if name.lower() in ("date", "server")]

    def default_headers(self) -> list[str]:
        lines: list[str] = super().default_headers()
        has_date = any(name.lower() == "date" for name, _ in self.headers)
        return [line for line in lines if not (line.startswith("Server:") or (has_date and line.startswith("Date:")))]

    def send_headers(self) -> None:
        """Keeps the head, to go out together with the first piece."""
        if not self.headers_sent:
            lines = [*self.default_headers(), *[f"{name}: {value}\r\n" for name, value in self.headers], "\r\n"]
            self._head = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        head, self._head = self._head, b""
        self.sock.sendall(b"%b%X\r\n%b\r\n" % (head, len(data), data) if self.chunked else head + data)

    def _send_head(self) -> None:
        """Sends the head alone, where it has not gone out."""
        if self._head:
            head, self._head = self._head, b""
            self.sock.sendall(head)

    def write(self, arg: bytes) -> None:
        try:
            super().write(arg)
            self._send_head()
        except TimeoutError as error:
            # gunicorn knows how to end a connection that the client reset, and logs everything else as its own fault.
            raise ConnectionResetError(errno.ECONNRESET, "the client stopped reading") from error

    def close(self) -> None:
        self.send_headers()
        self._send_head()
        super().close()
        if self._stream is None or not self._stream.can_be_drained:
            linger(self.sock)
        if self._stream is not None:
            # The next request's head is not to be hurried; its deadline is another.
            self.req.unreader.sock = self.sock
        with suppress(OSError):
            self.sock.settimeout(self._own_timeout)


def asks_to_close(fields: list[tuple[str, str]]) -> bool:
    """Whether `close` is among the connection options, of which gunicorn reads but the first field's whole value."""
    return any(
        option.strip().lower() == "close"
        for name, value in fields
        if name == "CONNECTION"
        for option in value.split(",")
    )


def linger(sock: socket.socket) -> None:
    """Reads on for a moment after the last byte was sent: closing with bytes unread would reset the connection, and
    the client would never see why (RFC 9112 9.6)."""
    if isinstance(sock, ssl.SSLSocket):
        return
    deadline, budget = time.monotonic() + LINGER_SECONDS, LINGER_BYTES
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while budget > 0 and (remaining := deadline - time.monotonic()) > 0:
            sock.settimeout(remaining)
            data = sock.recv(64 * 1024)
            if not data:
                return
            budget -= len(data)
