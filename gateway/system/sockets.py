"""What is done with sockets of any kind: the system's, gevent's, those with TLS."""

from __future__ import annotations

import _socket
import select
import socket
import ssl
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from gevent.monkey import get_original, is_module_patched
from gevent.socket import wait_read

from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION
from gateway.system.time_slice import restart_slice, yield_if_due


def receive(sock: Any, size: int) -> bytes:
    """Between 1 and `size` bytes, as they come; none at the end of the connection. Other greenlets get their share of
    the time where bytes have always arrived already. Raises OSError."""
    yield_if_due()
    data: bytes = sock.recv(size)
    return data


def receive_arrived(sock: Any, size: int) -> bytes | None:
    """`receive` of what has arrived already; None where nothing has, although there may be something for TLS alone.
    Leaves the socket's timeout to whoever sends on it at the same time. Raises OSError."""
    yield_if_due()
    timeout = sock.gettimeout()
    sock.settimeout(0)
    try:
        data: bytes | None = sock.recv(size)
    except (BlockingIOError, ssl.SSLWantReadError):
        data = None
    finally:
        sock.settimeout(timeout)
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
    poll: select.poll = original("select", "poll")()
    poll.register(sock, event)
    return poll


def wait_for_any(events: Mapping[int, int], seconds: float | None = None) -> set[int]:
    """The descriptors for which one of their events has come, as poll(2) names them; none when the time is over.

    Where the system has epoll, that can also wait for a connection's end behind bytes that nobody reads (POLLRDHUP),
    and gevent waits for the epoll's own descriptor. gevent's poll knows of reading and writing alone."""
    epoll = original("select", "epoll")
    if epoll is None:
        poll: Any = select.poll()
        for descriptor, event in events.items():
            if event:
                poll.register(descriptor, event)
        return {descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)}
    with RESOURCE_EXHAUSTION.with_spare(partial(epoll, sizehint=len(events))) as poll:
        for descriptor, event in events.items():
            poll.register(descriptor, event)
        if not is_module_patched("select"):
            return {descriptor for descriptor, _ in poll.poll(seconds)}
        with suppress(TimeoutError):
            wait_read(poll.fileno(), timeout=seconds, timeout_exc=TimeoutError())
        return {descriptor for descriptor, _ in poll.poll(0)}


def original(module: str, name: str) -> Any:
    """The system's own, below what gevent has put in its place or taken away; None where there is none."""
    if is_module_patched(module):
        try:
            return get_original(module, name)
        except AttributeError:
            return None
    return getattr(sys.modules[module], name, None)


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
