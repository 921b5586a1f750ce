"""What is done with sockets of any kind: the system's, gevent's, those with TLS."""

from __future__ import annotations

import _socket
import select
import socket
import ssl
import sys
from contextlib import suppress
from typing import Any

from gateway.system.time_slice import restart_slice, yield_if_due


def receive(sock: Any, size: int) -> bytes:
    """Between 1 and `size` bytes, as they come; none at the end of the connection. Other greenlets get their share of
    the time where bytes have always arrived already. Raises OSError."""
    yield_if_due()
    data: bytes = sock.recv(size)
    return data


def send_all(sock: socket.socket, data: bytes) -> None:
    """`sendall`, which asks gevent's sockets for one call of the system where one takes it all, as it mostly does."""
    yield_if_due()
    sent = sock.send(data) if data else 0
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


def wait_for_answer(sock: Any) -> None:
    """For whoever has just asked, and is to read the answer: waits until there is something, as `recv` would.

    gevent's `recv` asks the system first, which has nothing to give yet, and to be told that costs more than to send.
    Raises OSError."""
    event = getattr(sock, "_read_event", None)
    # With TLS, what has come may have been read by it already.
    if event is not None and not isinstance(sock, ssl.SSLSocket):
        sock._wait(event)
        restart_slice()


def system_poll(sock: socket.socket | int, event: int = select.POLLIN) -> select.poll:
    """To ask with `poll(0)` whether there is something to read, or the other side has gone: the system's own also
    where gevent has put another one in its place."""
    monkey = sys.modules.get("gevent.monkey")
    poll: select.poll = (select.poll if monkey is None else monkey.get_original("select", "poll"))()
    poll.register(sock, event)
    return poll


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
