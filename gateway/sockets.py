"""What is done with sockets of any kind: the system's, gevent's, those with TLS."""

from __future__ import annotations

import _socket
import socket
from contextlib import suppress


def send_all(sock: socket.socket, data: bytes) -> None:
    """`sendall`, which asks gevent's sockets for one call of the system where one takes it all, as it mostly does."""
    sent = sock.send(data) if data else 0
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


def peek(sock: socket.socket) -> bytes | None:
    """The first byte that has come and was not read, b"" where the other side has ended the connection, None where
    nothing has come; with TLS, of what is encrypted. Never waits. Raises OSError."""
    # The system's own below gevent's, which never waits itself.
    own: _socket.socket = getattr(sock, "_sock", sock)
    timeout = own.gettimeout()
    try:
        if timeout != 0:
            own.settimeout(0)
        # As TLS has it, it takes no flags.
        return _socket.socket.recv(own, 1, _socket.MSG_PEEK)
    except BlockingIOError:
        return None
    finally:
        if timeout != 0:
            with suppress(OSError):
                own.settimeout(timeout)
